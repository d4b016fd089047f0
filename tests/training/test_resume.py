"""A training that is interrupted goes on as if it had not been, to the bit."""

import itertools
import warnings

import keras
import numpy as np
import pytest

from benchmarks import fault_net, resume
from keras_pdp import Backup, Linear, PDPCallback, PDPWrapper, pruned_layers, strip

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 8)).astype("float32")
Y = RNG.normal(size=(32, 1)).astype("float32")


def net(units=12, built=True) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            *([keras.Input((8,))] if built else []),
            PDPWrapper(keras.layers.Dense(units, name="first")),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(1, name="head"),
        ]
    )
    model.compile("adam", "mse", jit_compile=False)
    return model


def train(model, *callbacks, epochs=4, **kwargs):
    kwargs = {"batch_size": 16, "shuffle": False, "verbose": 0} | kwargs
    pdp = PDPCallback(0.5, epochs=max(epochs, 4))
    return model.fit(X, Y, epochs=epochs, callbacks=[pdp, *callbacks], **kwargs)


def numbers(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(v)) for v in variables]


def assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


class Interrupt(keras.callbacks.Callback):
    """Ends the training as Ctrl+C does, before an epoch begins."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def test_two_and_two_epochs_in_two_processes_equal_four(tmp_path):
    """By every way at some moment, all granularities at once.

    `python -m benchmarks.faults --resume` has the whole table.
    """
    moments = ["in it", "at its end", "frozen"]
    assert set(moments) < set(fault_net.MOMENTS)
    ways = resume.here()
    missing = sorted(set(resume.WAYS) - set(ways))
    if missing:
        print("not installed here, so not tried:", missing)
    resume.run_straight(tmp_path, moments)
    cases = [*zip(ways, itertools.cycle(moments), strict=False), ("Backup", "frozen")]
    table = resume.matrix(tmp_path, cases)
    assert {case: names for case, names in table.items() if names} == {}


def test_variables_of_a_loaded_model_have_the_paths_of_the_definition(tmp_path):
    """OrbaxCheckpoint finds them by their paths, and passes over those it misses."""
    # Functional: Keras itself leaves the name of a Sequential model out when it loads.
    inputs = keras.Input((8,))
    layer = PDPWrapper(keras.layers.Dense(4, name="only"))
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [v.path for v in loaded.weights] == [v.path for v in model.weights]


def test_backup_goes_on_where_it_was_and_stays(tmp_path):
    """With dropout: the states of random layers go along."""
    straight = net()
    train(straight)
    model = net()
    with pytest.raises(KeyboardInterrupt):
        train(model, Backup(tmp_path / "run"), Interrupt(2))
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["epochs-000002"]
    model = net()
    history = train(model, Backup(tmp_path / "run"))
    assert history.epoch == [2, 3]
    assert_equal(numbers(model), numbers(straight))
    # Killed before the model is saved: nothing is lost, and nothing trained twice.
    model = net()
    backup = Backup(str(tmp_path / "run"))
    with pytest.warns(UserWarning, match="has all 4 epochs: .*nothing is trained"):
        assert train(model, backup).epoch == []
    assert_equal(numbers(model), numbers(straight))
    backup.delete()
    assert list((tmp_path / "run").iterdir()) == []
    assert train(net(), backup).epoch == [0, 1, 2, 3]


def test_what_a_kill_leaves_is_passed_over(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(net(), Backup(tmp_path), Interrupt(2))
    # In the writing: half of a file; and before the older one was removed.
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "latest.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 99)
    older = tmp_path / "epochs-000001"
    older.mkdir()
    straight, model = net(), net()
    train(straight)
    assert train(model, Backup(tmp_path)).epoch == [2, 3]
    assert_equal(numbers(model), numbers(straight))
    assert [p.name for p in tmp_path.iterdir()] == ["epochs-000004"]


def test_a_later_fit_of_a_resumed_model_begins_at_its_own_first_epoch(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(net(), Backup(tmp_path), Interrupt(3))
    model = net()
    assert train(model, Backup(tmp_path)).epoch == [3]
    before = numbers(model)
    assert train(model, epochs=2).epoch == [0, 1]
    assert any((a != b).any() for a, b in zip(before, numbers(model), strict=True))


def smaller():
    """As `net`, without its last layer."""
    model = keras.Sequential([keras.Input((8,)), *net().layers[:-1]])
    model.compile("adam", "mse", jit_compile=False)
    return model


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda: net(units=16), r"Expected \(8, 16\) as the shape of '.*first/kernel"),
        (smaller, "Expected 8 weights; it has 10"),
    ],
)
def test_a_backup_of_another_model_is_refused_and_kept(make, reason, tmp_path):
    train(net(), Backup(tmp_path), epochs=1)
    model = make()
    model.optimizer.build(model.trainable_variables)  # as PyTorch's `fit` does
    before = numbers(model)
    with pytest.raises(ValueError, match=f"epochs-000001 is .* not one of.*{reason}"):
        train(model, Backup(tmp_path))
    assert_equal(before, numbers(model))
    assert [p.name for p in tmp_path.iterdir()] == ["epochs-000001"]


@pytest.mark.parametrize("file", ["latest.weights.h5", "random.npz", "shapes.json"])
def test_a_damaged_backup_is_named(file, tmp_path):
    train(net(), Backup(tmp_path), epochs=1)
    (tmp_path / "epochs-000001" / file).write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"epochs-000001 is damaged.* delete\(\)"):
        train(net(), Backup(tmp_path))


def test_other_folders_beside_the_backups_are_left_alone(tmp_path):
    (tmp_path / "epochs-of-old").mkdir()
    train(net(), Backup(tmp_path), epochs=1)
    assert train(net(), Backup(tmp_path)).epoch == [1, 2, 3]
    assert (tmp_path / "epochs-of-old").exists()


@pytest.mark.tensorflow("elsewhere `fit` builds the model first")
def test_a_model_that_is_not_built_is_refused_before_it_is_trained(tmp_path):
    with pytest.raises(ValueError, match=r"before it is built: add a keras\.Input"):
        train(net(built=False), Backup(tmp_path))


@pytest.mark.parametrize("directory", [None, 3, "", b"run"])
def test_a_directory_that_is_none_is_refused(directory):
    with pytest.raises(TypeError, match=r"path of a folder .* Received: "):
        Backup(directory)


# Any checkpoint strips to the sparsity that it had.


def zeros(model) -> float:
    kernel = model.get_layer("first").get_weights()[0]
    return float(np.mean(kernel == 0))


@pytest.mark.parametrize("ours_first", [True, False])
def test_every_checkpoint_strips_to_the_sparsity_of_its_epoch(tmp_path, ours_first):
    """Before the ramp, in it, at its end and frozen, wherever our callback stands."""
    model = net()
    saved = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    ours = PDPCallback(0.5, schedule=Linear(0.25, 0.75))
    both = [ours, saved] if ours_first else [saved, ours]
    history = model.fit(X, Y, epochs=8, batch_size=16, verbose=0, callbacks=both)
    reached = history.history["sparsity"]
    assert reached[1] == 0 and 0 < reached[3] < 0.5 and reached[5:] == [0.5] * 3
    for epoch, sparsity in enumerate(reached, start=1):
        loaded = keras.models.load_model(tmp_path / f"{epoch}.keras")
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            assert zeros(strip(loaded)) == sparsity
        told = any("stripped at a sparsity of" in str(w.message) for w in seen)
        assert told == (sparsity < 0.5)


class Best(keras.callbacks.Callback):
    """Makes one epoch the best, for the callbacks after it."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        logs["quality"] = float(epoch == self.epoch)


@pytest.mark.parametrize(
    "best, expected, ours_first", [(1, 0.0, True), (3, 0.25, False), (6, 0.5, True)]
)
def test_the_best_weights_strip_to_their_sparsity(tmp_path, best, expected, ours_first):
    """Those from before the ramp's end warn, by the file and by early stopping."""
    model, path = net(), tmp_path / "best.keras"
    theirs = [
        Best(best),
        keras.callbacks.ModelCheckpoint(
            path, monitor="quality", mode="max", save_best_only=True
        ),
        keras.callbacks.EarlyStopping(
            monitor="quality", mode="max", patience=99, restore_best_weights=True
        ),
    ]
    ours = PDPCallback(0.5, schedule=Linear(0.25, 0.75), freeze_at=0.9)
    model.fit(
        X,
        Y,
        epochs=8,
        batch_size=16,
        verbose=0,
        callbacks=[ours, *theirs] if ours_first else [*theirs, ours],
    )
    for found in (model, keras.models.load_model(path)):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            assert zeros(strip(found)) == expected
        told = [str(w.message) for w in seen if "let these callbacks begin" in str(w)]
        assert bool(told) == (expected < 0.5)
        frozen = [bool(w.frozen.value) for w in pruned_layers(found)]
        assert frozen == [False]  # freezing waits until 0.9 of the run
