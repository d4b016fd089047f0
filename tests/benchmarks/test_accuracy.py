"""The accuracy benchmark: one start for all, pieces that run once, the table."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks import accuracy_store as store
from benchmarks.accuracy_cases import CASES, SGD, Case
from benchmarks.accuracy_data import Data, Split, batches, cut
from benchmarks.accuracy_digest import digest
from benchmarks.accuracy_methods import WRAPPED, Dense
from benchmarks.accuracy_peers import Tfmot
from benchmarks.accuracy_piece import METHODS, configuration, gist, run
from benchmarks.accuracy_report import markdown
from benchmarks.accuracy_store import Piece
from benchmarks.accuracy_targets import (
    DENSE,
    TARGETS,
    Channels,
    Pattern,
    Weights,
    target,
)
from benchmarks.accuracy_task import (
    Prepared,
    Refused,
    Task,
    outputs,
    read_weights,
    train,
    write_weights,
)
from benchmarks.accuracy_time import left_over, relative

# Masks that are hard from the start are what two of the methods are.
pytestmark = pytest.mark.filterwarnings("ignore:In . of . kernels kappa")

ROOT = Path(__file__).parents[2]
EPOCHS = 10
BEFORE = 1  # epochs before any method prunes


def net(k):
    inputs = k.Input((6,))
    x = k.layers.Dense(8, activation="relu")(inputs)
    return k.Model(inputs, k.layers.Dense(3)(x))


def stored():
    rng = np.random.default_rng(0)
    return {
        "train_x": rng.integers(0, 255, (80, 6), dtype="uint8"),
        "train_y": rng.integers(0, 3, 80).astype("int32"),
        "test_x": rng.integers(0, 255, (20, 6), dtype="uint8"),
        "test_y": rng.integers(0, 3, 20).astype("int32"),
    }


CASE = Case(
    name="tiny",
    title="a tiny net",
    net=net,
    data=stored,
    inputs=(6,),
    scale=1 / 255,
    flip=False,
    training=64,
    validation=16,
    test=20,
    epochs=EPOCHS,
    batch=16,
    optimizer=SGD(0.1),
)


def task(aim=DENSE):
    rng = np.random.default_rng(1)
    shapes = (6, 8), (8,), (8, 3), (3,)
    initial = [rng.normal(size=shape).astype("float32") for shape in shapes]
    return Task(CASE, aim, 0, CASE.cut(stored()), initial)


@pytest.fixture(scope="module")
def dense_losses():
    return train(task(), Dense().prepare(task())).losses


# ---------------------------------------------------------------------------------
# The same start, the same batches.


@pytest.mark.parametrize("name", WRAPPED)
def test_all_start_alike_see_the_same_batches_and_reach_the_target(name, dense_losses):
    given = task(Weights(0.5))
    prepared = WRAPPED[name].prepare(given)
    some = given.data.train.x
    np.testing.assert_array_equal(
        outputs(prepared.model, some), outputs(given.net(keras), some)
    )
    trained = train(given, prepared)
    # The loss of an epoch is that of its batches, before any pruning.
    np.testing.assert_allclose(
        trained.losses[:BEFORE], dense_losses[:BEFORE], rtol=1e-6
    )
    assert abs(trained.losses[-1] - dense_losses[-1]) > 1e-6
    kernels = [w for w in trained.weights if w.ndim == 2]
    zeros = sum(np.count_nonzero(kernel == 0) for kernel in kernels)
    assert zeros == sum(kernel.size for kernel in kernels) // 2


TFMOT_MISSING = next(
    (
        f"{name} is not installed: pip install 'keras_pdp[peers]'"
        for name in ("tensorflow_model_optimization", "tf_keras")
        if importlib.util.find_spec(name) is None
    ),
    None,
)


@pytest.mark.skipif(TFMOT_MISSING is not None, reason=f"{TFMOT_MISSING}")
def test_tfmot_starts_alike_and_sees_the_same_batches(dense_losses):
    """In a process of its own, whose `tf.keras` it changes."""
    program = """
import json, numpy as np
from benchmarks.accuracy_peers import Tfmot
from benchmarks.accuracy_targets import Weights
from benchmarks.accuracy_task import train
from tests.benchmarks.test_accuracy import task
trained = train(task(Weights(0.5)), Tfmot().prepare(task(Weights(0.5))))
kernels = [w for w in trained.weights if w.ndim == 2]
print(json.dumps([trained.losses, sum(int((k == 0).sum()) for k in kernels)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **METHODS["tfmot"].environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    losses, zeros = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(losses[:BEFORE], dense_losses[:BEFORE], rtol=1e-5)
    assert zeros == 36


@pytest.mark.parametrize(
    "name, moves", [("straight-through", True), ("gradual", False)]
)
def test_gradients_of_pruned_weights(name, moves):
    """Straight-through they are those of the masked weights; masked they are none."""
    given = task(Weights(0.5))
    prepared = WRAPPED[name].prepare(given)
    (callback,) = prepared.callbacks
    callback.set_model(prepared.model)
    callback.update(1.0)
    model = prepared.model
    model.compile(keras.optimizers.SGD(0.01), "mse")
    kernel = model.layers[1].kernels[0]
    pruned = ~np.asarray(kernel.hard())
    before = np.asarray(kernel.variable)
    x = given.data.train.x
    model.train_on_batch(x, np.zeros((len(x), 3), "float32"))
    changed = np.asarray(kernel.variable) != before
    assert changed[~pruned].any()
    assert changed[pruned].any() == moves


def test_a_net_that_is_changed_before_training_is_refused():
    given = task()
    other = given.net(keras)
    other.layers[1].set_weights([w + 1 for w in other.layers[1].get_weights()])
    with pytest.raises(Refused, match="changes the net before it is trained"):
        train(given, Prepared(keras, other, read_weights))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("too long", "ValueError: too long"),
        (
            "Exception encountered when calling f().\n\n"
            "\x1b[1mInput 0 is wrong\x1b[0m\n\nArguments received by f():\n  • x=1",
            "ValueError: Input 0 is wrong",
        ),
        (
            "in user code:\n    File a\n    TypeError: Exception encountered in g\n"
            "    in user code:\n    ValueError: shape (3, 4) is not supported.\n • x=1",
            "ValueError: shape (3, 4) is not supported.",
        ),
        ("", "ValueError: without a word"),
    ],
)
def test_the_cause_of_a_failure_in_one_line(text, expected):
    assert gist(ValueError(text)) == expected


def test_a_peer_that_fails_is_a_result_and_we_are_a_fault(monkeypatch):
    def fails(*_):
        raise ValueError("no such layer")

    monkeypatch.setattr(Tfmot, "prepare", fails)
    monkeypatch.setattr(type(METHODS["ours"]), "prepare", fails)
    given = task(Weights(0.5))
    found = run(Piece("tiny", "tfmot", Weights(0.5), 0), given)
    assert found["refused"] == "fails: ValueError: no such layer"
    with pytest.raises(ValueError, match="no such layer"):
        run(Piece("tiny", "ours", Weights(0.5), 0), given)


def test_batches_depend_on_seed_epoch_and_step_alone():
    split = Split(np.arange(10)[:, None], np.arange(10))

    def epochs(seed):
        feed = batches(split, seed, 3, flip=False)
        return [np.concatenate([next(feed)[1] for _ in range(3)]) for _ in range(2)]

    first, again, other = epochs(0), epochs(0), epochs(1)
    np.testing.assert_array_equal(first, again)
    assert all(len(set(seen)) == 9 for seen in first)  # none twice in an epoch
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


def test_half_of_the_images_are_mirrored():
    images = np.arange(400 * 2).reshape(400, 1, 2, 1)
    seen, _ = next(batches(Split(images, np.zeros(400)), 0, 400, flip=True))
    mirrored = np.mean(seen[:, 0, 0, 0] > seen[:, 0, 1, 0])
    assert 0.4 < mirrored < 0.6


def test_splits_do_not_overlap_and_test_is_not_trained_on():
    parts = cut(
        {
            "train_x": np.arange(50),
            "train_y": np.arange(50),
            "test_x": np.arange(100, 120),
            "test_y": np.arange(100, 120),
        },
        training=30,
        validation=10,
        test=20,
    )
    seen = [set(part.y.tolist()) for part in (parts.train, parts.validation)]
    assert [len(part) for part in seen] == [30, 10]
    assert not seen[0] & seen[1]
    assert set(parts.test.y.tolist()) == set(range(100, 120))
    with pytest.raises(ValueError, match="TFDS_DATA_DIR"):
        cut(stored(), training=80, validation=1, test=20)


@pytest.mark.parametrize("name", CASES)
def test_nets_take_the_weights_of_another_of_their_kind(name):
    first, second = (CASES[name].net(keras) for _ in range(2))
    write_weights(second, read_weights(first))
    for mine, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(ValueError, match="more"):
        write_weights(second, [*read_weights(first), np.zeros(1)])


# ---------------------------------------------------------------------------------
# Pieces: run once, whatever happens in between.


def record(piece, case=CASE, **more):
    return {
        **piece.as_json(),
        "configuration": configuration(case, METHODS[piece.method], piece.target),
        "date": "2026-11-22",
        "versions": {"keras": "3.15.1"},
        "initial": "ab",
        "test_accuracy": 0.8,
        "sparsity": 0.9,
        "losses": [1.0],
        "cpu_seconds": 2.0,
        **more,
    }


def asked(folder):
    return accuracy.Run(
        cases=[CASE],
        methods=["dense", "ours"],
        targets=[Weights(0.9)],
        seeds=[0, 1],
        short=False,
        threads=1,
        pythons={},
        work=folder,
        results=folder / "results",
    )


def test_a_piece_is_measured():
    piece = Piece("tiny", "ours", Channels(0.5), 0)
    found = run(piece, task(piece.target))
    assert Piece.of(json.loads(json.dumps(found))) == piece
    assert 0.0 <= found["test_accuracy"] <= 1.0
    assert 0.5 <= found["removed"] < 0.5 + 10 / 83  # a channel has 10 parameters
    assert len(found["losses"]) == EPOCHS
    assert "Calibrated" in found["configuration"]["method"]
    assert found["versions"]["keras"] == keras.__version__


def test_what_is_there_is_not_run_again(tmp_path, monkeypatch):
    called = []

    def call(given, python, what, piece, environment):
        called.append((what, str(piece)))
        if what == "run" and piece.seed == 0:
            store.add(given.results, record(piece))
        return what == "prepare" or piece.seed == 0

    monkeypatch.setattr(accuracy, "_call", call)
    assert accuracy.run(asked(tmp_path)) == 2  # seed 1 failed, and it went on
    assert [piece for what, piece in called if what == "run"] == [
        "tiny dense dense 0",
        "tiny ours 0.9 0",
        "tiny dense dense 1",
        "tiny ours 0.9 1",
    ]
    called.clear()
    accuracy.run(asked(tmp_path))
    assert {piece for _, piece in called} == {"tiny dense dense 1", "tiny ours 0.9 1"}


def test_other_configurations_are_other_pieces(tmp_path):
    piece = Piece("tiny", "ours", Weights(0.9), 0)
    store.add(tmp_path, record(piece))
    store.add(tmp_path, record(piece, test_accuracy=0.7))  # the same: replaced
    longer = dataclasses.replace(CASE, epochs=EPOCHS + 1)
    store.add(tmp_path, record(piece, longer, test_accuracy=0.9))
    known = store.read(tmp_path, "tiny")
    assert len(known) == 2
    for case, expected in ((CASE, 0.7), (longer, 0.9)):
        found = store.find(
            known, piece, configuration(case, METHODS["ours"], piece.target)
        )
        assert found["test_accuracy"] == expected
    other = dataclasses.replace(CASE, batch=8)
    assert (
        store.find(known, piece, configuration(other, METHODS["ours"], piece.target))
        is None
    )


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    piece = Piece("tiny", "ours", Weights(0.9), 0)
    store.add(tmp_path, record(piece))

    def fails(*_):
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="no space"):
        store.add(tmp_path, record(dataclasses.replace(piece, seed=1)))
    assert [each["seed"] for each in store.read(tmp_path, "tiny")] == [0]


def test_a_damaged_line_is_named(tmp_path):
    store.add(tmp_path, record(Piece("tiny", "ours", Weights(0.9), 0)))
    file = tmp_path / "tiny.jsonl"
    file.write_text(file.read_text() + '{"case": "ti')
    with pytest.raises(ValueError, match="in line 2"):
        store.read(tmp_path, "tiny")


def test_a_lock_is_had_once(tmp_path):
    path = tmp_path / "a"
    with store.locked(path, wait=False) as one, store.locked(path, wait=False) as two:
        assert (one, two) == (True, False)
    with store.locked(path, wait=False) as again:
        assert again


@pytest.mark.parametrize("aim", [DENSE, *TARGETS], ids=str)
def test_targets_are_read_as_they_print(aim):
    assert target(str(aim)) == aim


def test_a_target_that_is_none():
    with pytest.raises(ValueError, match="expected one of the targets.*'0.7'"):
        target("0.7")


# ---------------------------------------------------------------------------------
# The table.


def cells(records, row):
    text = markdown({CASE: records}, METHODS)
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {row} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_says_mean_deviation_count_and_time():
    def at(method, aim, seed, **more):
        return record(Piece("tiny", method, aim, seed), **more)

    records = [
        at("dense", DENSE, 0, test_accuracy=0.9),
        at("ours", Weights(0.9), 0, test_accuracy=0.80, cpu_seconds=3.0),
        at("ours", Weights(0.9), 1, test_accuracy=0.82, cpu_seconds=12.0),
        at("gradual", Weights(0.9), 0, test_accuracy=0.7, sparsity=0.85),
    ]
    ours = cells(records, "ours, defaults")
    assert ours[3] == "81.00 ± 1.41 (2)"
    assert ours[4] == "not run"
    assert ours[-1] == "3.00"  # the mean of the logarithms is that of 6, over 2
    assert cells(records, "dense")[1] == "90.00 (seed 0)"
    assert cells(records, "gradual magnitude, no tail")[3] == "70.00 (seed 0)"
    text = markdown({CASE: records}, METHODS)
    assert "gradual magnitude, no tail 85.00 % at 90 %" in text
    assert "and 2.0 at most" in text


def test_times_of_slow_days_are_told_from_those_of_slow_methods():
    def at(method, aim, date, seconds):
        return record(Piece("tiny", method, aim, 0), date=date, cpu_seconds=seconds)

    records = [
        at("dense", DENSE, "2026-01-01", 10.0),
        at("tfmot", Weights(0.8), "2026-01-01", 20.0),
        at("tfmot", Weights(0.9), "2026-01-02", 2.0),  # a day ten times as fast
        at("ours", Weights(0.9), "2026-01-02", 1.2),
        at("gradual", Weights(0.9), "2026-01-03", 1.0),  # a day of its own
    ]
    times = relative(records, METHODS)
    assert times == pytest.approx({"dense": 1.0, "tfmot": 2.0, "ours": 1.2})
    assert relative(records[1:], METHODS) == {}
    assert max(map(abs, left_over(records, METHODS))) == pytest.approx(0, abs=1e-9)
    assert cells(records, "gradual magnitude, no tail")[-1] == "–"


def test_two_methods_that_came_to_one_training_are_told():
    def at(method, seed, loss):
        piece = Piece("tiny", method, Channels(0.5), seed)
        return record(piece, losses=[loss])

    alike = [at(m, s, 1.0 + s) for m in ("gradual", "straight-through") for s in (0, 1)]
    text = markdown({CASE: [*alike, at("ours", 0, 1.0), at("ours", 1, 2.5)]}, METHODS)
    told = "gradual magnitude, no tail / straight-through, no tail at channels."
    assert f"The same trainings to the bit: {told}" in text
    assert "to the bit: " not in markdown({CASE: alike[1:]}, METHODS)


def test_the_table_tells_settings_that_targets_have_of_their_own():
    (line,) = [
        line
        for line in markdown({CASE: []}, METHODS).splitlines()
        if line.startswith("- ours, defaults: ")
    ]
    weights, patterns, channels = line.split("; ")[:3]
    assert "end=0.5" in weights and "freeze_at=0.7" in weights
    assert patterns.startswith("patterns: ")
    assert "end=0.1" in patterns and "freeze_at=0.46" in patterns
    assert channels.startswith("channels: ")


def test_the_table_tells_where_a_pattern_means_other_zeros():
    def at(method, zeros):
        piece = Piece("tiny", method, Pattern(2, 4), 0)
        return record(piece, sparsity=zeros)

    ours, gradual, tfmot = at("ours", 0.49), at("gradual", 0.49), at("tfmot", 0.45)
    assert "Zeros at" not in markdown({CASE: [ours, gradual]}, METHODS)
    text = markdown({CASE: [ours, gradual, tfmot]}, METHODS)
    told = "Zeros at 2:4: 45.00 % tfmot; 49.00 % ours, defaults / gradual magnitude, "
    assert told in text


def test_bold_is_the_best_of_those_that_had_the_same_seeds():
    def two(method, *numbers, first=0):
        return [
            record(Piece("tiny", method, Weights(0.9), seed), test_accuracy=number)
            for seed, number in enumerate(numbers, start=first)
        ]

    ours, lucky = two("ours", 0.80, 0.82), two("straight-through", 0.99)
    gradual = two("gradual", 0.7, 0.8)
    assert cells([*ours, *lucky, *gradual], "ours, defaults")[3].startswith("**")
    assert not cells([*ours, *lucky, *gradual], "straight-through, no")[3].startswith(
        "**"
    )
    others = two("gradual", 0.7, 0.8, first=1)
    assert not cells([*ours, *others], "ours, defaults")[3].startswith("**")


def test_a_refusal_stands_in_its_cell():
    piece = Piece("tiny", "tfmot", Channels(0.5), 0)
    refused = {
        key: value
        for key, value in record(piece).items()
        if key not in ("test_accuracy", "losses")
    }
    found = cells([{**refused, "refused": "prunes no channels"}], "tfmot")
    assert found[-2] == "prunes no channels"
    assert found[1] == "not run"


@pytest.mark.parametrize(
    "initial, loss, words", [("ab", 1.0, "the same"), ("cd", 1.1, "**different**")]
)
def test_the_table_tells_whether_all_began_alike(initial, loss, words):
    records = [
        record(Piece("tiny", "dense", DENSE, 0)),
        record(Piece("tiny", "ours", Weights(0.9), 0), initial=initial, losses=[loss]),
    ]
    text = markdown({CASE: records}, METHODS)
    assert f"are {words} to the bit" in text
    assert (f"at most {loss - 1:.1g} of" in text) or loss == 1.0


def test_losses_of_a_first_epoch_that_prunes_are_not_compared():
    records = [
        record(Piece("tiny", "dense", DENSE, 0)),
        record(Piece("tiny", "ours", Weights(0.9), 0), losses=[1.1]),
    ]
    short = dataclasses.replace(CASE, epochs=9)
    text = markdown({short: records}, METHODS)
    assert "to the bit." in text
    assert "first epoch" not in text
    late = record(Piece("tiny", "pdp-1e-4", Weights(0.9), 0), losses=[1.2])
    assert "paper's form by at most 0.2 of" in markdown(
        {short: [*records, late]}, METHODS
    )


def test_the_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    from benchmarks.accuracy_picture import draw

    found = [record(Piece("tiny", "ours", Weights(0.9), seed)) for seed in (0, 1)]
    draw({CASE: found}, METHODS, tmp_path / "accuracy.png")
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    for few in ([], found[:1]):
        with pytest.raises(ValueError, match="received none"):
            draw({CASE: few}, METHODS, tmp_path / "none.png")


# ---------------------------------------------------------------------------------
# The table at a glance.


NINETY_FIVE = Weights(0.95)


def runs(method, *numbers, aim=NINETY_FIVE, first=0):
    return [
        record(Piece("tiny", method, aim, seed), test_accuracy=number)
        for seed, number in enumerate(numbers, start=first)
    ]


def glance(*records):
    return digest({CASE: [each for some in records for each in some]}, METHODS)


def test_at_a_glance_ours_is_first():
    text = glance(runs("ours", 0.80, 0.82), runs("tfmot", 0.70, 0.74))
    assert "| **81.0 ± 1.4 (2)** | 72.0 ± 2.8 (2) |" in text
    assert "highest mean in 1, in 1 of them by more than" in text
    assert "+9.0 points against tfmot on average (+9.0 to +9.0, 1 rows)" in text
    assert "against PQuantML" not in text  # it has no row


def test_at_a_glance_what_a_method_can_not_do():
    refused = [
        {**each, "refused": "has no N:M"}
        for each in runs("tfmot", 0.0)
        if each.pop("test_accuracy") == 0.0
    ]
    text = glance(runs("ours", 0.8, 0.8), runs("gradual", 0.7, 0.7), refused)
    assert text.splitlines()[2].split("|")[5].strip() == "can't"
    assert text.splitlines()[2].split("|")[6].strip() == "–"


@pytest.mark.parametrize(
    "tfmot, level", [((0.82, 0.822), True), ((0.84, 0.842), False)]
)
def test_at_a_glance_ours_is_behind(tfmot, level):
    text = glance(runs("ours", 0.80, 0.82), runs("tfmot", *tfmot))
    assert "highest mean in 0, in 0 of them by more than" in text
    told = f"highest in {int(level)}, and further behind in {int(not level)}."
    assert told in text
    more = "" if level else ", more than one standard deviation"
    assert f"points behind tfmot{more}." in text


def test_at_a_glance_channels_that_save_another_part():
    def at(method, removed):
        return [
            {**each, "removed": removed}
            for each in runs(method, 0.8, 0.81, aim=Channels(0.5))
        ]

    assert "channels save" not in glance(at("ours", 0.501), at("gradual", 0.5))
    text = glance(at("ours", 0.5), at("pquant", 0.74))
    assert "pruned channels save: 74.0 % PQuantML's PDP; 50.0 % ours, defaults." in text


def test_at_a_glance_seeds_are_compared_with_the_same_seeds():
    text = glance(
        runs("ours", 0.80, 0.82),
        runs("gradual", 0.80, 0.80),
        runs("straight-through", 0.99, first=1),
        runs("pdp-1e-4", 0.99, first=2),
    )
    assert "99.0 (1)" in text
    assert "**99.0" not in text
    assert "-17.0 points against straight-through" in text
    assert "points against PDP, τ = 1e-4" not in text  # no seed in common
    assert "highest mean in 1, in 0 of them by more than" in text


@pytest.mark.parametrize(
    "records",
    [
        [],
        [runs("ours", 0.8, 0.8)],
        [runs("ours", 0.8), runs("tfmot", 0.8, 0.7)],
        [runs("tfmot", 0.8, 0.8), runs("gradual", 0.8, 0.7)],
    ],
)
def test_no_row_at_a_glance_without_several_seeds_of_ours_and_another(records):
    assert glance(*records).startswith("No row")


def test_low_sparsities_are_no_part_of_the_goal():
    low = Weights(0.5)
    text = glance(runs("ours", 0.8, 0.8, aim=low), runs("tfmot", 0.9, 0.9, aim=low))
    assert "* 0 rows are at 80 % and above" in text
    assert "on average" not in text


def test_the_readme_has_what_the_committed_results_give():
    root = Path(__file__).parents[2]
    found = {
        case: [
            each
            for each in store.read(root / "benchmarks/results/accuracy", case.name)
            if each["method"] in METHODS
            and each["configuration"]
            == configuration(case, METHODS[each["method"]], target(each["target"]))
        ]
        for case in CASES.values()
    }
    assert digest(found, METHODS) in (root / "README.md").read_text("utf-8"), (
        "put what `python benchmarks/accuracy.py --digest` prints into README.md"
    )


def test_patterns_keep_what_they_say():
    assert str(Pattern(1, 4)) == "1:4"
    given = task(Pattern(1, 4))
    trained = train(given, WRAPPED["ours"].prepare(given))
    kept = (trained.weights[2] != 0).reshape(2, 4, 3).sum(axis=1)
    assert (kept == 1).all()


def test_the_data_are_cut_in_the_shape_that_the_net_takes():
    data = CASE.cut(stored())
    assert isinstance(data, Data)
    assert data.train.x.dtype == np.float32
    assert data.train.x.max() <= 1.0
