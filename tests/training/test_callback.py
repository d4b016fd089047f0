"""PDPCallback: any length of run ends at its target, and says when it can't."""

import csv
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_pdp import (
    Absolute,
    Block,
    Calibrated,
    Channel,
    Constant,
    Epochs,
    Linear,
    NofM,
    PDPCallback,
    PDPWrapper,
    PerEpoch,
    Polynomial,
    Position,
    Steps,
    erdos_renyi,
    pruned_layers,
    strip,
    uniform,
    wrap,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 8)).astype("float32")
Y = RNG.normal(size=(64, 1)).astype("float32")


def net(granularity=None, **kwargs) -> keras.Model:
    def wrapped(layer):
        return PDPWrapper(layer, granularity, **kwargs)

    model = keras.Sequential(
        [
            keras.Input((8,)),
            wrapped(layers.Dense(16, activation="relu", name="first")),
            wrapped(layers.Dense(12, activation="relu", name="second")),
            layers.Dense(1, name="head"),
        ]
    )
    model.compile("sgd", "mse")
    return model


def hard(model: keras.Model) -> float:
    """The sparsity counted in the stripped model's kernels."""
    kernels = [layer.get_weights()[0] for layer in strip(model).layers[:2]]
    return sum(int(np.sum(w == 0)) for w in kernels) / sum(w.size for w in kernels)


class Record(keras.callbacks.Callback):
    """Hard counts at the end of every batch."""

    def __init__(self):
        super().__init__()
        self.counts = []

    def on_train_batch_end(self, batch, logs=None):
        kernels = [k for w in pruned_layers(self.model) for k in w.kernels]
        self.counts.append(sum(int(k.pruned.value) for k in kernels))


@pytest.mark.parametrize(
    "epochs, batch", [(1, 64), (1, 32), (1, 4), (2, 64), (3, 16), (12, 16)]
)
def test_a_run_of_any_length_ends_at_the_target(epochs, batch):
    model = net()
    history = model.fit(
        X,
        Y,
        epochs=epochs,
        batch_size=batch,
        verbose=0,
        callbacks=[PDPCallback(0.9)],
        validation_data=(X, Y),
    ).history
    budget = round(0.9 * 320) / 320
    assert history["sparsity"][-1] == hard(model) == pytest.approx(budget, abs=1e-12)
    assert all(bool(w.frozen.value) for w in pruned_layers(model))
    # Validation measured the model that ships.
    stripped = strip(model).evaluate(X, Y, verbose=0)
    assert history["val_loss"][-1] == pytest.approx(stripped, rel=1e-6)


def test_the_run_has_a_warm_up_a_ramp_and_a_tail():
    model, record = net(), Record()
    model.fit(
        X, Y, epochs=10, batch_size=8, verbose=0, callbacks=[PDPCallback(0.5), record]
    )
    counts = np.array(record.counts)
    steps = len(counts)
    assert steps == 80
    # 0 up to 0.1 of the run, cubic, the target from 0.5 on.
    assert (counts[: int(0.1 * steps) - 1] == 0).all()
    assert (np.diff(counts) >= 0).all()
    middle = counts[int(0.3 * steps) - 1]
    assert middle == pytest.approx(0.875 * 160, abs=2)
    assert (counts[int(0.5 * steps) - 1 :] == 160).all()


def test_patterns_are_there_after_a_tenth_of_the_run():
    model, record = net(NofM(2, 4)), Record()
    model.fit(
        X, Y, epochs=10, batch_size=8, verbose=0, callbacks=[PDPCallback(), record]
    )
    counts = np.array(record.counts)
    assert len(counts) == 80
    assert (np.diff(counts) >= 0).all()
    middle = counts[3]  # cubic: 7/8 of them at half of the ramp
    assert 0 < counts[0] < middle == pytest.approx(0.875 * 160, abs=2)
    assert (counts[7:] == 160).all()
    for wrapper in pruned_layers(model):
        kept = wrapper.kernels[0].mask.numpy().reshape(-1, 4, wrapper.layer.units)
        assert (kept.sum(1) == 2).all()


@pytest.mark.parametrize("other", [None, Channel()])
def test_beside_a_sparsity_a_pattern_rises_with_it(other):
    model = keras.Sequential(
        [
            keras.Input((8,)),
            PDPWrapper(layers.Dense(16), NofM(2, 4)),
            PDPWrapper(layers.Dense(8), other, sparsity=0.5),
            layers.Dense(1),
        ]
    )
    pdp = PDPCallback()
    pdp.set_model(model)
    assert (pdp.schedule, pdp.freeze_at) == (Polynomial(0.1, 0.5), 0.7)
    pdp.set_model(net(NofM(2, 4)))
    assert (pdp.schedule, pdp.freeze_at) == (Polynomial(0.0, 0.1), 0.46)


def test_the_schedule_that_was_given_is_the_patterns_too():
    pdp = PDPCallback(schedule=Linear(0.2, 0.4))
    pdp.set_model(net(NofM(2, 4)))
    assert pdp.schedule == Linear(0.2, 0.4)
    assert pdp.freeze_at == pytest.approx(0.64)


def test_masks_may_freeze_sooner_where_the_ramp_ends_sooner():
    early = PDPCallback(freeze_at=0.3)
    early.set_model(net(NofM(2, 4)))
    assert early.freeze_at == 0.3
    with pytest.raises(ValueError, match="should not be before the end"):
        early.set_model(net(sparsity=0.5))
    with pytest.raises(ValueError, match="should not be before the end"):
        PDPCallback(0.5, freeze_at=0.3)


@pytest.mark.parametrize(
    "options, moment",
    [
        ({}, 0.7),
        ({"schedule": Linear(0.2, 0.8)}, 0.88),
        ({"schedule": Linear(0.0, 1.0)}, 1.0),
        ({"schedule": PerEpoch(Linear(0.0, 0.4))}, 0.64),
        ({"schedule": Linear(Epochs(1), Epochs(2))}, 0.7),
        ({"schedule": Linear(0.2, 0.8), "freeze_at": 0.85}, 0.85),
        ({"freeze_at": None}, None),
    ],
)
def test_masks_freeze_two_fifths_of_the_way_from_the_ramps_end_to_the_runs(
    options, moment
):
    assert PDPCallback(0.5, **options).freeze_at == pytest.approx(moment)


def test_logs_are_plain_floats_for_everyone(tmp_path):
    path = tmp_path / "log.csv"
    model = net()
    history = model.fit(
        X,
        Y,
        epochs=3,
        verbose=2,
        callbacks=[PDPCallback(0.5), keras.callbacks.CSVLogger(path)],
    ).history
    assert all(type(value) is float for value in history["sparsity"])
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["sparsity"]) for row in rows] == history["sparsity"]


@pytest.mark.parametrize("ours_first", [True, False])
def test_beside_the_callbacks_of_keras(tmp_path, ours_first):
    model = net()
    theirs = [
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True),
        keras.callbacks.ModelCheckpoint(tmp_path / "last.keras"),
        keras.callbacks.EarlyStopping(patience=50, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(patience=1),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.TerminateOnNaN(),
    ]
    ours = PDPCallback(0.8)
    history = model.fit(
        X,
        Y,
        epochs=4,
        verbose=0,
        validation_data=(X, Y),
        callbacks=[ours, *theirs] if ours_first else [*theirs, ours],
    ).history
    assert history["sparsity"][-1] == pytest.approx(0.8)
    # A checkpoint saved before or after our hook strips to a sparsity of the run.
    last = keras.models.load_model(tmp_path / "last.keras")
    assert hard(last) == pytest.approx(0.8)


@pytest.mark.parametrize(
    "schedule, epochs_dense",
    [
        (Linear(Epochs(2), Epochs(4)), 2),
        (Polynomial(Epochs(2), Epochs(4)), 2),
        (Linear(Steps(8), Steps(16)), 2),
        (Constant(0.5), 4),
        (Linear.paper(warmup_epochs=3, rate=0.5), 3),
    ],
)
def test_schedules_by_epochs_and_steps(schedule, epochs_dense):
    """Four steps an epoch, eight epochs."""
    model = net()
    history = model.fit(
        X,
        Y,
        epochs=8,
        batch_size=16,
        verbose=0,
        callbacks=[PDPCallback(0.75, schedule=schedule)],
    ).history
    dense = [value for value in history["sparsity"] if value == 0.0]
    # At the end of an epoch the next one's sparsity is set.
    assert len(dense) in (epochs_dense, epochs_dense - 1)
    assert history["sparsity"][-1] == pytest.approx(0.75)


def test_two_fits_with_initial_epoch_equal_one():
    def run(pieces):
        keras.utils.set_random_seed(1)
        model, record = net(), Record()
        for begin, end in pieces:
            callbacks = [PDPCallback(0.8, epochs=6), record]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                model.fit(
                    X,
                    Y,
                    initial_epoch=begin,
                    epochs=end,
                    shuffle=False,
                    verbose=0,
                    callbacks=callbacks,
                )
        return record.counts, model.get_weights()

    counts, weights = run([(0, 6)])
    again, pieces = run([(0, 2), (2, 3), (3, 6)])
    assert again == counts
    for one, other in zip(weights, pieces, strict=True):
        np.testing.assert_array_equal(one, other)


def test_sparsity_never_falls_in_a_later_fit():
    model, record = net(), Record()
    callback = PDPCallback(0.8, freeze_at=None)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[callback])
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[callback, record])
    assert set(record.counts) == {256}


def test_frozen_masks_stay_in_a_later_fit():
    model = net()
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[PDPCallback(0.8)])
    masks = [k.mask.numpy() for w in pruned_layers(model) for k in w.kernels]
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[PDPCallback(0.8)])
    after = [k.mask.numpy() for w in pruned_layers(model) for k in w.kernels]
    for one, other in zip(masks, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_loop_of_ones_own_that_goes_back_to_a_checkpoint(tmp_path):
    model = net()
    pdp = PDPCallback(0.8)
    pdp.set_model(model)
    pdp.update(0.2)
    model.save_weights(tmp_path / "early.weights.h5")
    for reached in (0.4, 1.0):  # on the ramp, and with frozen masks
        pdp.update(reached)
        model.load_weights(tmp_path / "early.weights.h5")
        pdp.update(0.2)
        assert pdp.hard_sparsity() < 0.8
        pdp.update(0.6)
        assert pdp.hard_sparsity() == pytest.approx(0.8)
    model.save_weights(tmp_path / "ramped.weights.h5")
    pdp.update(1.0)
    model.load_weights(tmp_path / "ramped.weights.h5")
    for reached in (0.6, 1.0):
        pdp.update(reached)
    assert all(bool(w.frozen.numpy()) for w in pruned_layers(model))
    assert hard(model) == pytest.approx(0.8)


def test_data_of_unknown_length():
    def batches():
        for start in range(0, 64, 16):
            yield X[start : start + 16], Y[start : start + 16]

    model = net()
    history = model.fit(
        batches(), epochs=1, verbose=0, steps_per_epoch=4, callbacks=[PDPCallback(0.9)]
    ).history
    assert history["sparsity"][-1] == pytest.approx(0.9)

    model = net()
    with pytest.warns(UserWarning, match="`steps_per_epoch`"):
        model.fit(batches(), epochs=1, verbose=0, callbacks=[PDPCallback(0.9)])
    assert hard(model) == pytest.approx(0.9)


def test_a_run_that_goes_on_with_data_of_unknown_length_says_so():
    def fit(model, begin, end, schedule=None, **kwargs):
        data = ((X[s : s + 16], Y[s : s + 16]) for s in [0, 16] * (end - begin))
        pdp = PDPCallback(0.9, epochs=4, schedule=schedule)
        model.fit(
            data, initial_epoch=begin, epochs=end, verbose=0, callbacks=[pdp], **kwargs
        )

    model = net()
    fit(model, 0, 1, steps_per_epoch=2)
    with pytest.warns(UserWarning, match="The run goes on"):
        fit(model, 1, 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The run goes on")
        fit(model, 2, 3, steps_per_epoch=2)
        fit(model, 3, 4)  # the masks are frozen
        fit(net(), 1, 2, schedule=Polynomial(0.5, 0.6))  # still dense
    assert hard(model) == pytest.approx(0.9)


@pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="on torch: Keras takes one step at a time",
)
def test_steps_per_execution():
    model, record = net(), Record()
    model.compile("sgd", "mse", steps_per_execution=3)
    model.fit(
        X, Y, batch_size=8, epochs=3, verbose=0, callbacks=[PDPCallback(0.8), record]
    )
    assert record.counts[-1] == 256
    assert len(set(record.counts)) > 3


def test_every_wrapper_with_its_own_sparsity():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            PDPWrapper(layers.Dense(16, name="a"), sparsity=0.25),
            PDPWrapper(layers.Dense(16, name="b"), NofM(1, 4)),
            PDPWrapper(layers.Dense(16, name="c"), Channel(), sparsity=0.5),
            layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[PDPCallback()])
    shares = [1 - w.kernels[0].mask.numpy().mean() for w in pruned_layers(model)]
    assert shares == [0.25, 0.75, 0.5]


def test_a_wrapper_with_its_own_takes_no_part_in_the_budget():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            PDPWrapper(layers.Dense(16, name="own"), sparsity=0.25),
            PDPWrapper(layers.Dense(16, name="shares")),
            layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    callback = PDPCallback(0.75)
    callback.set_model(model)
    assert callback.allocate() == {"own/kernel": 0.25, "shares/kernel": 0.75}


@pytest.mark.parametrize("allocation", [uniform, erdos_renyi])
def test_the_allocation_is_used_by_the_masks(allocation):
    model = net()
    callback = PDPCallback(0.8, allocation=allocation)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[callback])
    shares = callback.allocate()
    found = {
        f"{w.name}/kernel": 1 - float(w.kernels[0].mask.numpy().mean())
        for w in pruned_layers(model)
    }
    assert found == pytest.approx(shares)
    assert hard(model) == pytest.approx(0.8)


def test_a_mapping_says_every_layers_sparsity():
    model = net()
    callback = PDPCallback(allocation={"first": 0.5, "second/kernel": 0.25})
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[callback])
    shares = [1 - w.kernels[0].mask.numpy().mean() for w in pruned_layers(model)]
    assert shares == [0.5, 0.25]


def test_a_custom_training_loop():
    model = net()
    pdp = PDPCallback(0.8)
    pdp.set_model(model)
    seen = []
    for step in range(10):
        pdp.update(step / 10)
        model.train_on_batch(X, Y)
        seen.append(pdp.hard_sparsity())
    pdp.update(1.0)
    assert seen[0] == 0.0 and seen == sorted(seen)
    assert pdp.hard_sparsity() == hard(model) == pytest.approx(0.8)
    pdp.update(Position(epoch=3, step=30, epochs=3))
    assert pdp.hard_sparsity() == pytest.approx(0.8)


def test_tau_is_calibrated_once_from_the_threshold_ahead():
    model = net(temperature=Calibrated(5.0))
    pdp = PDPCallback(0.5, allocation=uniform)
    pdp.set_model(model)
    pdp.allocate()
    for wrapper in pruned_layers(model):
        w = np.sort(np.abs(wrapper.layer.get_weights()[0]).ravel())
        t = 0.5 * (w[w.size // 2 - 1] + w[w.size // 2])
        assert float(wrapper.kernels[0].tau.value) == pytest.approx(t**2 / 5, rel=1e-5)
    before = [float(w.kernels[0].tau.value) for w in pruned_layers(model)]
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[pdp])
    assert [float(w.kernels[0].tau.value) for w in pruned_layers(model)] == before


def test_masks_harden_with_the_schedule():
    model = net()
    pdp = PDPCallback(0.5, schedule=Linear(0.1, 0.5))
    pdp.set_model(model)
    (kernel,) = pruned_layers(model)[0].kernels
    hardness, temperatures = [], []
    for done in (0.1, 0.2, 0.3, 0.5, 0.7):
        pdp.update(done)
        hardness.append(float(kernel.hardness.value))
        temperatures.append(float(kernel.tau.value))
    expected = [1.0, np.sqrt(10.0), 10.0, 100.0, 100.0]
    assert hardness == pytest.approx(expected, rel=1e-6)
    assert len(set(temperatures[1:])) == 1  # set when pruning begins, and kept
    assert [bool(w.frozen.value) for w in pruned_layers(model)] == [True, True]


def masks_of(kernel, hardness=1.0):
    """The mask of a step by the formula, in float64, and the weights."""
    w = keras.ops.convert_to_numpy(kernel.variable.value).astype("float64")
    s = np.sort(np.abs(w).ravel())
    pruned = int(kernel.pruned.value)
    t = 0.5 * (s[pruned - 1] + s[pruned])
    margin = (w**2 - t**2) / float(kernel.tau.value)
    return 1 / (1 + np.exp(-hardness * margin)), w


def test_a_step_computes_with_the_hardened_mask():
    model = net()
    pdp = PDPCallback(0.5, harden=4.0)
    pdp.set_model(model)
    pdp.update(0.6)
    for wrapper in pruned_layers(model):
        (kernel,) = wrapper.kernels
        m, w = masks_of(kernel, hardness=4.0)
        x = np.eye(w.shape[0], dtype="float32")
        found = keras.ops.convert_to_numpy(wrapper(x, training=True))
        np.testing.assert_allclose(found, np.maximum(m * w, 0.0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 6), (512, 300)])  # few weights, and many
@pytest.mark.parametrize("harden", [1.0, 4.0, 1e6])
def test_and_learns_by_the_soft_one(harden, shape):
    """One step of gradient descent moves each weight by the soft mask's slope."""
    kernel_of = layers.Dense(shape[1], use_bias=False, name="only")
    model = keras.Sequential([keras.Input((shape[0],)), PDPWrapper(kernel_of)])
    model.compile(keras.optimizers.SGD(1.0), LinearLoss())
    pdp = PDPCallback(0.5, harden=harden, freeze_at=None)
    pdp.set_model(model)
    pdp.update(0.6)
    (kernel,) = pruned_layers(model)[0].kernels
    m, w = masks_of(kernel)
    slope = m + 2 * w**2 / float(kernel.tau.value) * m * (1 - m)
    g = RNG.normal(size=shape).astype("float32")
    model.train_on_batch(np.eye(shape[0], dtype="float32"), g)
    after = keras.ops.convert_to_numpy(kernel.variable.value)
    np.testing.assert_allclose(w - after, slope * g, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("granularity", [NofM(2, 4), Block((2, 2)), Channel()])
def test_units_of_several_weights_learn_by_the_soft_mask(granularity):
    """A step moves them the same way, however hard the mask it computes with."""
    g = RNG.normal(size=(8, 8)).astype("float32")
    start = RNG.normal(size=(8, 8)).astype("float32")

    def moved(harden):
        only = layers.Dense(8, use_bias=False)
        model = keras.Sequential([keras.Input((8,)), PDPWrapper(only, granularity)])
        only.kernel.assign(start)
        model.compile(keras.optimizers.SGD(1.0), LinearLoss())
        nofm = isinstance(granularity, NofM)
        pdp = PDPCallback(None if nofm else 0.5, harden=harden, freeze_at=None)
        pdp.set_model(model)
        pdp.update(0.6)
        (kernel,) = pruned_layers(model)[0].kernels
        output = keras.ops.convert_to_numpy(model(np.eye(8), training=True))
        model.train_on_batch(np.eye(8, dtype="float32"), g)
        return output, start - keras.ops.convert_to_numpy(kernel.variable.value)

    (soft, by_soft), (hard, by_hard) = moved(1.0), moved(1e6)
    assert 0 < np.count_nonzero(hard == 0.0) < 64
    assert np.count_nonzero(soft == 0.0) == 0
    np.testing.assert_allclose(by_hard, by_soft, rtol=1e-5, atol=1e-6)
    assert np.count_nonzero(by_hard) == 64


class LinearLoss(keras.losses.Loss):
    """The sum of the outputs times the targets: these are its gradient."""

    def __init__(self):
        super().__init__(reduction="sum")

    def call(self, y_true, y_pred):
        return ops.sum(y_true * y_pred, axis=-1)


def test_masks_that_shall_not_harden_stay_as_soft_as_they_are():
    model = net()
    pdp = PDPCallback(0.5, harden=1.0)
    pdp.set_model(model)
    for done in (0.3, 0.6, 0.7, 1.0):
        pdp.update(done)
    assert [float(w.kernels[0].hardness.value) for w in pruned_layers(model)] == [1, 1]


def test_masks_that_are_harder_than_asked_for_are_named():
    model = net()
    first = PDPCallback(0.5)
    first.set_model(model)
    first.update(0.3)
    later = PDPCallback(0.5, harden=2.0)
    later.set_model(model)
    with pytest.warns(UserWarning, match=r"56.23 times harder .* harden=2.0"):
        later.update(0.3)


def test_a_schedule_that_gives_no_fraction_is_refused():
    class TooFar(Linear):
        def __call__(self, position):
            return 1.5

    pdp = PDPCallback(0.5, schedule=TooFar(0.0, 0.5))
    pdp.set_model(net())
    with pytest.raises(ValueError, match=r"in \[0, 1\]\. Received: 1.5 from .*TooFar"):
        pdp.update(0.3)


def test_a_run_that_starts_again_does_not_soften_its_masks():
    model = net()
    first = PDPCallback(0.5)
    first.set_model(model)
    first.update(0.3)
    (kernel,) = pruned_layers(model)[0].kernels
    hardened = float(kernel.hardness.value)
    again = PDPCallback(0.5)
    again.set_model(model)
    for done in (0.0, 0.2, 0.3):
        again.update(done)
        assert float(kernel.hardness.value) == hardened > 1.0
    again.update(0.4)
    assert float(kernel.hardness.value) > hardened


@pytest.mark.parametrize("harden", [0.5, 0.0, -1.0, 1e7, float("nan"), float("inf")])
def test_what_harden_can_not_be(harden):
    with pytest.raises(ValueError, match="harden"):
        PDPCallback(0.5, harden=harden)
    with pytest.raises(TypeError, match="harden"):
        PDPCallback(0.5, harden=f"{harden}")


def test_verbose_prints_the_targets(capsys):
    net().fit(X, Y, verbose=0, callbacks=[PDPCallback(0.8, verbose=1)])
    assert "first/kernel" in capsys.readouterr().out


def test_a_model_that_is_built_by_its_first_batch():
    model = keras.Sequential([PDPWrapper(layers.Dense(16)), layers.Dense(1)])
    model.compile("sgd", "mse")
    history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[PDPCallback(0.75)])
    assert history.history["sparsity"][-1] == 0.75

    own = keras.Sequential([PDPWrapper(layers.Dense(16), sparsity=0.5)])
    own.compile("sgd", "mse")
    now = PDPCallback(schedule=Constant(0.0))
    own.fit(X, np.repeat(Y, 16, 1), verbose=0, callbacks=[now])
    assert now.hard_sparsity() == 0.5


def test_a_layer_that_is_never_called_is_named():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.used = PDPWrapper(layers.Dense(8, name="used"))
            self.idle = PDPWrapper(layers.Dense(8, name="idle"))
            self.head = layers.Dense(1)

        def call(self, inputs, training=None):
            return self.head(self.used(inputs, training=training))

    model = Net()
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match=r"does not call .*\['idle'\]"):
        history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[PDPCallback(0.75)])
    assert history.history["sparsity"][-1] == 0.75


def test_layers_of_one_name_are_all_pruned():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.one = PDPWrapper(layers.Dense(8, name="fc"))
            self.two = PDPWrapper(layers.Dense(8, name="fc"))

        def call(self, inputs, training=None):
            return self.two(self.one(inputs, training=training), training=training)

    model = Net()
    model(X)
    assert len(pruned_layers(model)) == 2
    callback = PDPCallback(0.75)
    callback.set_model(model)
    assert list(callback.allocate()) == ["fc/kernel", "fc_1/kernel"]
    callback.update(1.0)
    assert callback.hard_sparsity() == 0.75


def test_a_custom_loop_checks_its_budget_and_positions():
    callback = PDPCallback()
    callback.set_model(net())
    with pytest.raises(ValueError, match="Without: "):
        callback.update(0.5)
    callback = PDPCallback(0.5, schedule=Linear(Steps(2), Steps(8)))
    callback.set_model(net())
    with pytest.raises(ValueError, match=r"Position\(epoch, step, epochs\)"):
        callback.update(0.5)
    callback.update(Position(epoch=1, step=8, epochs=1))
    assert callback.hard_sparsity() == pytest.approx(0.5)


# What is said once, with what to do.


def test_another_target_for_a_model_that_has_one_warns():
    model = net()
    model.fit(X, Y, verbose=0, callbacks=[PDPCallback(0.5)])
    with pytest.warns(UserWarning, match=r"50.00%.* keeps it; 90.00% has no effect"):
        model.fit(X, Y, verbose=0, callbacks=[PDPCallback(0.9)])


def test_best_weights_from_before_the_ramp_warn_in_strip():
    model = net()
    stop = keras.callbacks.EarlyStopping(
        monitor="sparsity", mode="min", patience=99, restore_best_weights=True
    )
    model.fit(X, Y, epochs=10, verbose=0, callbacks=[PDPCallback(0.9), stop])
    with pytest.warns(UserWarning, match="stripped at a sparsity of 0.00%.*restored"):
        strip(model)


def test_a_schedule_longer_than_the_run_warns():
    callback = PDPCallback(0.9, schedule=Linear.paper())
    with pytest.warns(UserWarning, match="run of 3 epochs .* 0% of the final") as seen:
        net().fit(X, Y, epochs=3, verbose=0, callbacks=[callback])
    assert len([w for w in seen if "final sparsity" in str(w.message)]) == 1


def test_a_run_that_ends_before_its_masks_freeze_warns():
    with pytest.warns(UserWarning, match=r"ends before freeze_at=Epochs\(count=9\)"):
        net().fit(
            X, Y, epochs=3, verbose=0, callbacks=[PDPCallback(0.5, freeze_at=Epochs(9))]
        )


def test_a_second_callback_of_another_budget_warns():
    with pytest.warns(UserWarning, match="80.00% has no effect") as seen:
        net().fit(
            X, Y, epochs=3, verbose=0, callbacks=[PDPCallback(0.5), PDPCallback(0.8)]
        )
    assert len([w for w in seen if "has no effect" in str(w.message)]) == 1


@pytest.mark.parametrize("sparsity", [0.6, 0.8])
def test_blocks_at_the_edges_are_counted_as_they_are(sparsity, recwarn):
    keras.utils.set_random_seed(1)
    model = wrap(
        keras.Sequential([keras.Input((100,)), layers.Dense(100), layers.Dense(100)]),
        Block((16, 16)),
    )
    callback = PDPCallback(sparsity)
    callback.set_model(model)
    callback.update(0.2)
    callback.update(1.0)
    assert not [w for w in recwarn if "can't be reached" in str(w.message)]
    kernels = [kernel for each in pruned_layers(model) for kernel in each.kernels]
    removed = sum(kernel.removed_at_target() for kernel in kernels)
    zeros = sum((ops.convert_to_numpy(kernel.hard()) == 0).sum() for kernel in kernels)
    assert removed == zeros


def test_a_run_that_stops_early_warns():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    pdp = PDPCallback(0.9, schedule=Linear(0.15, 0.75))
    with pytest.warns(UserWarning, match="The training ended .* 58% of the final"):
        net().fit(X, Y, epochs=4, verbose=0, callbacks=[pdp, Stop()])


def test_an_unreachable_target_warns():
    model = net(Channel())
    with pytest.warns(UserWarning, match="can't be reached: 9.*% is the most"):
        model.fit(X, Y, verbose=0, callbacks=[PDPCallback(0.99)])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        net().fit(X, Y, epochs=3, verbose=0, callbacks=[PDPCallback(0.9)])


def test_an_unreachable_target_of_one_layer_warns():
    wrapper = PDPWrapper(layers.Dense(3, name="thin"), Channel(), sparsity=0.99)
    callback = PDPCallback()
    callback.set_model(keras.Sequential([keras.Input((8,)), wrapper]))
    with pytest.warns(UserWarning, match="99.00% can't be reached in 'thin/kernel'"):
        assert callback.allocate() == {"thin/kernel": pytest.approx(2 / 3)}


def test_an_allocation_of_ones_own_is_checked():
    def forgetful(candidates, sparsity):
        return dict.fromkeys(list(candidates)[:1], sparsity)

    callback = PDPCallback(0.5, allocation=forgetful)
    callback.set_model(net())
    with pytest.raises(ValueError, match=r"for each of .*second/kernel.*Received: \["):
        callback.allocate()


@pytest.mark.parametrize("temperature", [Absolute(1e-5), Absolute(10.0)])
def test_a_kappa_far_off_warns_once(temperature):
    model = net(temperature=temperature)
    with pytest.warns(UserWarning, match="In 2 of 2 kernels kappa") as seen:
        model.fit(X, Y, epochs=2, verbose=0, callbacks=[PDPCallback(0.9)])
    assert len([w for w in seen if "kappa" in str(w.message)]) == 1


def test_a_model_without_wrappers_is_an_error():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="found no PDPWrapper"):
        model.fit(X, Y, verbose=0, callbacks=[PDPCallback(0.9)])


def test_weights_without_order_are_an_error_that_names_them():
    model = net()
    kernel, bias = model.layers[1].layer.get_weights()
    model.layers[1].layer.set_weights([np.full_like(kernel, np.nan), bias])
    callback = PDPCallback(0.9)
    callback.set_model(model)
    with pytest.raises(ValueError, match="192 of 192 weights of '.*second"):
        callback.allocate()


@pytest.mark.parametrize(
    "callback, message",
    [
        (PDPCallback(), r"Without: \['first/kernel', 'second/kernel'\]"),
        (PDPCallback(allocation={"first": 0.5}), "missing: .*second"),
        (
            PDPCallback(allocation={"first": 0.5, "second": 0.5, "thrid": 0.5}),
            "Unknown: .*thrid",
        ),
    ],
)
def test_a_budget_nobody_can_share_is_an_error_before_training(callback, message):
    model = net()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y, verbose=0, callbacks=[callback])
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_budget_without_takers_is_an_error():
    with pytest.raises(ValueError, match="brings its own sparsity"):
        net(NofM(2, 4)).fit(X, Y, verbose=0, callbacks=[PDPCallback(0.5)])


def test_by_itself_it_prunes_or_is_refused():
    """Where Keras would run it beside the training, and masks would race."""
    model = net()
    fit = {"epochs": 2, "verbose": 0, "callbacks": PDPCallback(0.5)}
    if keras.backend.backend() == "tensorflow":
        assert model.fit(X, Y, **fit).history["sparsity"][-1] == 0.5
        return
    with pytest.raises(ValueError, match=r"in a list, `callbacks=\[PDPCallback"):
        model.fit(X, Y, **fit)
