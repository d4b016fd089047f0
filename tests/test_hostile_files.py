"""Files that are damaged, cut short, of another kind, or made to do harm.

Each ends in an error that names the file, soon and in little memory, and nothing in a
file is executed.
"""

import io
import json
import re
import time
import tracemalloc
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

from keras_pdp import (
    Absolute,
    Block,
    Channel,
    NofM,
    PDPCallback,
    PDPWrapper,
    sparsity_report,
)

h5py = pytest.importorskip("h5py", reason="Keras writes its weights with h5py")

OFFSETS = 40
SECONDS, BYTES = 20.0, 150e6  # for one file of a few kilobytes


def net():
    """One wrapper of each kind of state."""
    return keras.Sequential(
        [
            keras.Input((8,)),
            PDPWrapper(
                layers.Dense(6, name="pattern"), NofM(2, 4), temperature=Absolute(1e-3)
            ),
            PDPWrapper(layers.Dense(4, name="channels"), Channel()),
            PDPWrapper(layers.Dense(2, name="blocks"), Block((2, 1)), sparsity=0.5),
        ]
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The entries of a .keras file, by name."""
    path = tmp_path_factory.mktemp("saved") / "whole.keras"
    model = net()
    model.compile("sgd", "mse")
    x, y = np.ones((8, 8)), np.ones((8, 2))
    model.fit(x, y, epochs=4, verbose=0, callbacks=[PDPCallback(0.5)])
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def refused(tmp_path):
    """Reads the bytes as a file, which must raise; gives the message."""

    def check(data, report=sparsity_report, name="hostile.keras"):
        path = tmp_path / name
        path.write_bytes(data)
        before = set(tmp_path.iterdir())
        tracemalloc.start()
        start = time.perf_counter()
        try:
            with pytest.raises(ValueError) as caught:
                report(path)
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert time.perf_counter() - start < SECONDS
        assert peak < BYTES
        assert str(path) in str(caught.value)
        assert set(tmp_path.iterdir()) == before
        return str(caught.value)

    return check


def zipped(entries, method=zipfile.ZIP_STORED):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return target.getvalue()


def configured(saved, change, layer=1):
    """The file with the configuration of a layer changed."""
    content = json.loads(saved["config.json"])
    change(content["config"]["layers"][layer]["config"])
    return zipped({**saved, "config.json": json.dumps(content)})


def weighted(saved, tmp_path, change):
    """The file with its weights changed."""
    path = tmp_path / "weights.h5"
    path.write_bytes(saved["model.weights.h5"])
    with h5py.File(path, "a") as file:
        change(file["layers"])
    data = path.read_bytes()
    path.unlink()
    return zipped({**saved, "model.weights.h5": data})


def put(*keys):
    """A change: the last argument under the keys."""
    *path, last, value = keys

    def change(config):
        for key in path:
            config = config[key]
        config[last] = value

    return change


def matches(message, found):
    assert re.search(message, found, re.DOTALL), found


def test_the_file_that_is_damaged_below_is_a_good_one(saved, tmp_path):
    path = tmp_path / "whole.keras"
    path.write_bytes(zipped(saved))
    assert [tensor.how for tensor in sparsity_report(path).tensors] == [
        "NofM(n=2, m=4, axis=-2)",
        "Channel(axis=-1)",
        "Block(shape=(2, 1))",
    ]


def test_keras_files_that_end_too_early(saved, refused):
    data = zipped(saved)
    for part in range(OFFSETS):
        refused(data[: len(data) * part // OFFSETS])


def test_keras_files_with_flipped_bytes(saved, refused):
    """Every entry has a checksum, so that none is read with another content."""
    data = zipped(saved)
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [e for e in archive.infolist() if e.filename != "metadata.json"]
    for round_ in range(OFFSETS):
        entry = entries[round_ % len(entries)]
        start = entry.header_offset + 30 + len(entry.filename)
        flipped = bytearray(data)
        flipped[start + int(rng.integers(entry.file_size))] ^= 1 << round_ % 8
        assert "damaged" in refused(bytes(flipped))


@pytest.mark.parametrize(
    "change",
    [
        lambda files: files.pop("config.json"),
        lambda files: files.pop("model.weights.h5"),
        lambda files: files.update({"config.json": b"{"}),
        lambda files: files.update({"config.json": b"[]"}),
        lambda files: files.update({"config.json": b"null"}),
        lambda files: files.update({"config.json": b"[" * 100_000}),
        lambda files: files.update({"config.json": b"\xff\xfe\x00"}),
        lambda files: files.update({"model.weights.h5": b"no weights" * 100}),
        lambda files: files.update({"model.weights.h5": b""}),
    ],
)
def test_keras_files_without_what_they_should_hold(saved, refused, change):
    files = dict(saved)
    change(files)
    refused(zipped(files))


def test_a_keras_file_of_another_kind(refused):
    refused(zipped({"word/document.xml": b"<w/>"}))
    refused(b"\x89HDF\r\n\x1a\n" + bytes(2000))
    refused(b"\x1c\0\0\0TFL3" + bytes(200))


def test_an_archive_that_unfolds_without_end(saved, refused):
    files = {**saved, "config.json": bytes(200_000_000)}
    data = zipped(files, zipfile.ZIP_DEFLATED)
    assert len(data) < 400_000
    assert "unfolds to 200,0" in refused(data)


NM, CHANNEL, BLOCK = 1, 2, 3
BAD_CONFIGURATIONS = {
    "n of -1": (NM, put("granularity", "config", "n", -1), "`n` .* at least 1.* -1"),
    "n over m": (NM, put("granularity", "config", "n", 5), "n=5, m=4"),
    "m past memory": (NM, put("granularity", "config", "m", 10**30), "at most 256"),
    "m as text": (NM, put("granularity", "config", "m", "4"), "`m` .* integer.*'4'"),
    "no such field": (NM, put("granularity", "config", "k", 1), "'k'"),
    "no such axis": (NM, put("granularity", "config", "axis", 7), "axis=7"),
    "a name for a granularity": (NM, put("granularity", "NofM"), "Unstructured"),
    "a number for a granularity": (NM, put("granularity", 4), "Unstructured"),
    "an unknown granularity": (
        NM,
        put(
            "granularity",
            {
                "module": "keras_pdp.sparsity.granularity",
                "class_name": "Diagonal",
                "config": {},
                "registered_name": "keras_pdp>Diagonal",
            },
        ),
        "Diagonal",
    ),
    "no granularity": (NM, lambda config: config.pop("granularity"), "granularity"),
    "no layer": (NM, lambda config: config.pop("layer"), "layer"),
    "nothing for a layer": (NM, put("layer", None), "PDPWrapper takes a layer"),
    "tau of NaN": (NM, put("temperature", "config", "tau", float("nan")), "nan"),
    "tau of -1": (NM, put("temperature", "config", "tau", -1.0), "`tau` .*-1.0"),
    "tau of 0 in float32": (NM, put("temperature", "config", "tau", 1e-60), "1e-60"),
    "kappa of Inf": (
        CHANNEL,
        put("temperature", "config", "kappa", float("inf")),
        "inf",
    ),
    "a granularity for a temperature": (
        NM,
        lambda config: config.update(temperature=config["granularity"]),
        "`temperature` should be Calibrated",
    ),
    "sparsity of 2": (BLOCK, put("sparsity", 2.0), r"in \[0, 1\).* 2.0"),
    "sparsity as text": (BLOCK, put("sparsity", "0.5"), "number.*'0.5'"),
    "a sparsity for a pattern": (NM, put("sparsity", 0.5), "fixes the sparsity"),
    "block of 0": (BLOCK, put("granularity", "config", "shape", [0, 4]), "at least 1"),
    "an argument of tomorrow": (NM, put("mode", "x"), "mode"),
    "a dtype of the wrapper": (NM, put("dtype", "float16"), "no `dtype` of its own"),
    "round_to of 0": (CHANNEL, put("granularity", "config", "round_to", 0), "round_to"),
}


@pytest.mark.parametrize("name", BAD_CONFIGURATIONS)
def test_configurations_with_wrong_arguments(saved, refused, name):
    layer, change, message = BAD_CONFIGURATIONS[name]
    matches(message, refused(configured(saved, change, layer)))


def test_a_block_larger_than_memory_takes_the_whole_kernel(saved, tmp_path):
    path = tmp_path / "large.keras"
    change = put("granularity", "config", "shape", [10**9, 10**9])
    path.write_bytes(configured(saved, change, BLOCK))
    # It leaves nothing that may go, which the wrapper says on building.
    with pytest.raises(ValueError, match="can remove nothing from 'blocks'"):
        sparsity_report(path)


ATTACKS = {
    "a function of another package": {
        "module": "os",
        "class_name": "system",
        "config": {"command": "touch executed"},
        "registered_name": None,
    },
    "a lambda": {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {
            "name": "code",
            "function": {
                "class_name": "__lambda__",
                "config": {"code": "4wAAAA==", "defaults": None, "closure": None},
            },
        },
        "registered_name": None,
    },
}


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_in_a_file_is_executed(saved, refused, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where a command would leave its trace
    refused(configured(saved, put("layer", ATTACKS[name])))
    assert [p.name for p in tmp_path.iterdir()] == ["hostile.keras"]


def stored(name, value):
    def change(file):
        layer, number = name
        file[layer]["vars"][str(number)][...] = value

    return change


def shaped(name, value):
    def change(file):
        layer, number = name
        del file[layer]["vars"][str(number)]
        file[layer]["vars"][str(number)] = value

    return change


# What a wrapper stores, in the order of its variables.
FROZEN, TARGET, PRUNED, TAU, HARDNESS, MASK, GOAL, MARGIN = range(8)
FIRST, SECOND = "pdp_wrapper", "pdp_wrapper_1"
BAD_STATES = {
    "a target past the units": (stored((FIRST, TARGET), 49), r"_target.*in \[-1, .*49"),
    "a target of -2": (stored((FIRST, TARGET), -2), "_target.* -2"),
    "more pruned than may go": (stored((SECOND, PRUNED), 4), r"_pruned.*\[0, 3\].* 4"),
    "less than none pruned": (stored((FIRST, PRUNED), -1), "_pruned.* -1"),
    "a tau of NaN": (stored((FIRST, TAU), np.nan), "_tau.* nan"),
    "a tau of 0": (stored((FIRST, TAU), 0.0), "_tau.* 0.0"),
    "a tau of -1": (stored((SECOND, TAU), -1.0), "_tau.* -1.0"),
    "a hardness of NaN": (stored((FIRST, HARDNESS), np.nan), "_hardness.* nan"),
    "a hardness of 0.5": (stored((FIRST, HARDNESS), 0.5), "_hardness.* 0.5"),
    "a hardness of 1e7": (stored((SECOND, HARDNESS), 1e7), "_hardness.* 10000000"),
    "a margin of Inf": (stored((SECOND, MARGIN), np.inf), "_margin.*finite.* inf"),
    "a mask of another shape": (shaped((FIRST, MASK), np.ones((3, 3), bool)), "shape"),
    "a target for each": (shaped((FIRST, TARGET), np.ones(5, "int32")), "shape"),
    "a mask too many": (
        lambda file: file[FIRST]["vars"].create_dataset("10", data=1.0),
        "",
    ),
    "no mask": (lambda file: file[FIRST]["vars"].pop(str(MASK)), ""),
    "no wrapper": (lambda file: file.pop(FIRST), ""),
}


@pytest.mark.parametrize("name", BAD_STATES)
def test_states_that_cannot_be(saved, refused, tmp_path, name):
    change, message = BAD_STATES[name]
    matches(message, refused(weighted(saved, tmp_path, change)))


def test_weights_of_nan_have_no_order(saved, tmp_path):
    def change(file):
        file[FIRST]["layer"]["vars"]["0"][0, 0] = np.nan

    path = tmp_path / "diverged.keras"
    path.write_bytes(weighted(saved, tmp_path, change))
    with pytest.raises(ValueError, match="1 of 48 weights .* are NaN or Inf"):
        sparsity_report(path)


def test_a_weights_file_with_a_wrong_state_says_which(saved, tmp_path):
    path = tmp_path / "checkpoint.weights.h5"
    path.write_bytes(saved["model.weights.h5"])
    with h5py.File(path, "a") as file:
        stored((SECOND, PRUNED), 99)(file["layers"])
    with pytest.raises(ValueError, match="kernel_pruned.* Received: 99"):
        net().load_weights(path)


def test_a_file_that_is_not_there_or_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.keras"):
        sparsity_report(tmp_path / "gone.keras")
    folder = tmp_path / "folder.keras"
    folder.mkdir()
    with pytest.raises(OSError, match="folder.keras"):
        sparsity_report(folder)
