"""The study of the defaults: what it tries does what it says, and sees no test data."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from benchmarks import accuracy_store as store
from benchmarks import study
from benchmarks.accuracy_store import Piece
from benchmarks.accuracy_targets import DENSE, Weights
from benchmarks.accuracy_task import train
from benchmarks.study_parts import (
    BudgetWrapper,
    HardForward,
    RisingKappa,
    soft_weights,
    taught,
)
from benchmarks.study_variants import BASE_NAME, QUESTIONS, VARIANTS, inner
from keras_pdp import PDPCallback, PDPWrapper, pruned_layers, strip
from keras_pdp.training.compiled import number
from tests.benchmarks.test_accuracy import CASE, task
from tests.training.test_callback import LinearLoss

pytestmark = [
    pytest.mark.filterwarnings("ignore:In . of . kernels kappa"),
    pytest.mark.filterwarnings("ignore:The training ended when"),
]
AIM = Weights(0.5)


def prepared(name):
    return VARIANTS[name].prepare(task(AIM))


@pytest.mark.parametrize(
    "name", [BASE_NAME, *(n for q in QUESTIONS.values() for n in list(q.variants)[-1:])]
)
def test_the_last_of_each_question_reaches_the_target(name):
    given = task(AIM)
    kernels = [w for w in train(given, prepared(name)).weights if w.ndim == 2]
    zeros = sum(np.count_nonzero(kernel == 0) for kernel in kernels)
    assert zeros == sum(kernel.size for kernel in kernels) // 2


def test_hard_forward_computes_with_hard_masks_and_learns_by_soft_ones():
    x = np.eye(8, dtype="float32")
    start, target = np.random.default_rng(0).normal(size=(2, 8, 6)).astype("float32")

    def stepped(wrapper):
        dense = keras.layers.Dense(6, use_bias=False)
        model = keras.Sequential([keras.Input((8,)), wrapper(dense)])
        dense.kernel.assign(start)
        model.compile(keras.optimizers.SGD(1.0), LinearLoss())
        pdp = PDPCallback(0.5, harden=1.0, freeze_at=None)
        pdp.set_model(model)
        pdp.update(0.6)
        output = ops.convert_to_numpy(model(x, training=True))
        model.train_on_batch(x, target)
        return output, ops.convert_to_numpy(dense.kernel.value)

    (hard, after), (soft, expected) = stepped(HardForward), stepped(PDPWrapper)
    largest = np.abs(start) >= np.sort(np.abs(start).ravel())[24]
    np.testing.assert_array_equal(hard, start * largest)
    assert not np.allclose(hard, soft)
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["rising", "soft-to-hard", "budgeted"])
def test_members_of_the_family_reach_the_target(name):
    kernels = [w for w in train(task(AIM), prepared(name)).weights if w.ndim == 2]
    zeros = sum(np.count_nonzero(kernel == 0) for kernel in kernels)
    assert zeros == sum(kernel.size for kernel in kernels) // 2


@pytest.mark.parametrize("pruned", [1, 200, 390])
def test_a_mask_of_a_budget_sums_to_it(pruned):
    wrapper = BudgetWrapper(keras.layers.Dense(20))
    wrapper.build((None, 20))
    (kernel,) = wrapper.kernels
    kernel.pruned.assign(pruned)
    kernel.tau.assign(0.01)
    w = ops.convert_to_tensor(kernel.variable)
    values = kernel.masked({id(kernel.variable): w}, ops.convert_to_tensor(False), True)
    soft = ops.convert_to_numpy(values[id(kernel.variable)] / w)
    assert soft.sum() == pytest.approx(400 - pruned, abs=0.1)


def test_kappa_rises_along_the_ramp():
    made = prepared(BASE_NAME)
    taus = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            taus.append(number(pruned_layers(self.model)[0].kernels[0].tau))

    rising = RisingKappa(0.5, 5.0, 0.1, 0.5)
    given = task(AIM)
    train(
        given,
        type(made)(made.k, made.model, made.finish, [*made.callbacks, rising, Look()]),
    )
    # From where the targets are known on; constant when the ramp is over.
    later = taus[3:]
    assert all(a >= b for a, b in zip(later, later[1:], strict=False))
    assert later[0] > later[-1] == taus[-2]


def test_a_teacher_adds_to_the_loss_and_trains_not():
    given = task()
    student, teacher = given.net(keras), given.net(keras)
    model = taught(student, teacher, share=1.0)
    x = given.data.train.x[:8]
    np.testing.assert_array_equal(model(x), student(x))
    model(x, training=True)
    entropy = ops.softmax(teacher(x) / 4.0)
    entropy = -np.mean(np.sum(np.asarray(entropy) * np.log(entropy), axis=-1))
    assert float(sum(model.losses)) == pytest.approx(16 * entropy, rel=1e-4)
    assert len(model.trainable_variables) == len(student.trainable_variables)


def test_soft_weights_are_what_a_training_step_computes_with():
    made = prepared(BASE_NAME)
    pdp = PDPCallback(0.5)
    pdp.set_model(made.model)
    pdp.update(0.3)
    with pytest.warns(UserWarning, match="heading for"):
        plain = strip(made.model)
    for layer, soft in zip(
        [each for each in plain.layers if each.get_weights()],
        soft_weights(made.model),
        strict=True,
    ):
        layer.set_weights(soft)
    x = task().data.train.x[:8]
    np.testing.assert_allclose(
        plain(x), made.model(x, training=True), rtol=1e-5, atol=1e-6
    )


def test_first_and_last_are_told_from_the_others():
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3),
            keras.layers.Conv2D(4, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    assert [inner(layer) for layer in net.layers] == [False, True, False, False]


def test_a_piece_knows_no_test_data_and_stands_in_the_table(tmp_path, monkeypatch):
    monkeypatch.setitem(study.STUDIED, "tiny", CASE)
    results = tmp_path / "study"
    pieces = [Piece("tiny", "dense", DENSE, 0), Piece("tiny", BASE_NAME, AIM, 0)]
    asked = dataclasses.replace(QUESTIONS["schedule"], targets=(AIM,))
    monkeypatch.setitem(study.QUESTIONS, "schedule", asked)
    for piece in pieces:
        record = study.run(piece, tmp_path)
        assert "test_accuracy" not in record
        assert 0 <= record["validation_accuracy"] <= 1
        store.add(results, record)
    text = study.table(results)
    assert "| | tiny, 50% |" in text
    cell = f"{100 * record['validation_accuracy']:.2f} [1]"
    assert f"| {VARIANTS[BASE_NAME].title} | {cell} |" in text
    # A record of other settings is not shown.
    store.add(results, {**record, "configuration": {}})
    assert study.table(results) == text
