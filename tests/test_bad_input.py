"""Bad input raises before any work is done, and says what was expected and received."""

import dataclasses
import inspect
import math
import re

import keras
import numpy as np
import pytest
from keras import layers

import keras_pdp as pdp
from keras_pdp.sparsity.allocation import Candidate


def built() -> keras.Model:
    return keras.Sequential([keras.Input((8,)), layers.Dense(4), layers.Dense(2)])


def ready() -> pdp.PDPCallback:
    callback = pdp.PDPCallback(0.5)
    callback.set_model(pdp.wrap(built()))
    return callback


def candidate() -> Candidate:
    return Candidate(np.arange(3.0), np.ones(3, int), (1, 3))


class FromKeras2:
    """Stands in for a tf_keras model: what tells one is its module."""

    __module__ = "tf_keras.src.engine.sequential"
    name = "old"


def subclassed():
    class Net(keras.Model):
        def __init__(self, dense):
            super().__init__()
            self.dense = dense

        def call(self, inputs):
            return self.dense(inputs)

    net = Net(layers.Dense(2))
    net(np.zeros((1, 3), "float32"))
    return net


BAD_VALUES = {
    # Sparsities
    "callback 1.0": (lambda: pdp.PDPCallback(1.0), ValueError, r"in \[0, 1\).*1.0"),
    "callback 90": (lambda: pdp.PDPCallback(90), ValueError, "0.9 for 90 %.*90"),
    "callback -0.1": (lambda: pdp.PDPCallback(-0.1), ValueError, "-0.1"),
    "callback nan": (lambda: pdp.PDPCallback(math.nan), ValueError, "nan"),
    "callback inf": (lambda: pdp.PDPCallback(math.inf), ValueError, "inf"),
    "callback str": (lambda: pdp.PDPCallback("0.9"), TypeError, "number.*'0.9'"),
    "callback bool": (lambda: pdp.PDPCallback(True), TypeError, "bool"),
    "callback object": (lambda: pdp.PDPCallback(object()), TypeError, "object"),
    "wrapper 1.5": (
        lambda: pdp.PDPWrapper(layers.Dense(2), sparsity=1.5),
        ValueError,
        "1.5",
    ),
    "wrapper N:M and sparsity": (
        lambda: pdp.PDPWrapper(layers.Dense(2), pdp.NofM(2, 4), sparsity=0.5),
        ValueError,
        "fixes the sparsity itself",
    ),
    # Granularities
    "4 of 4": (lambda: pdp.NofM(4, 4), ValueError, "n should be less than m"),
    "0 of 4": (lambda: pdp.NofM(0, 4), ValueError, "at least 1.*0"),
    "2.0 of 4": (lambda: pdp.NofM(2.0, 4), TypeError, "integer.*2.0"),
    "block of 1 x 1": (lambda: pdp.Block((1, 1)), ValueError, "Unstructured"),
    "block of 0": (lambda: pdp.Block((0, 4)), ValueError, "at least 1.*0"),
    "block of 4": (lambda: pdp.Block(4), TypeError, r"pair.*\(4, 1\).*4"),
    "block of 3 sides": (lambda: pdp.Block((1, 2, 3)), TypeError, "pair"),
    "channel by name": (lambda: pdp.Channel("last"), TypeError, "integer.*'last'"),
    "granularity class": (
        lambda: pdp.PDPWrapper(layers.Dense(2), pdp.Channel),
        TypeError,
        "Instantiate it",
    ),
    "granularity name": (
        lambda: pdp.wrap(built(), "channel"),
        TypeError,
        r"Unstructured\(\).*'channel'",
    ),
    "an argument of everything": (
        lambda: pdp.Unstructured(2),
        TypeError,
        "takes 1 positional argument",
    ),
    "an axis that is not there": (
        lambda: pdp.PDPWrapper(layers.Dense(2), pdp.Channel(3)).build((None, 4)),
        ValueError,
        r"axis=3.*\(4, 2\)",
    ),
    # Temperatures
    "kappa 0": (lambda: pdp.Calibrated(0), ValueError, "kappa.*greater than 0"),
    "kappa -5": (lambda: pdp.Calibrated(-5.0), ValueError, "-5.0"),
    "tau -1": (lambda: pdp.Absolute(-1e-4), ValueError, "tau.*-0.0001"),
    "tau nan": (lambda: pdp.Absolute(math.nan), ValueError, "nan"),
    "temperature 0.1": (
        lambda: pdp.PDPWrapper(layers.Dense(2), temperature=0.1),
        TypeError,
        r"Calibrated\(kappa=2.0\).*0.1",
    ),
    # Schedules
    "end before begin": (lambda: pdp.Linear(0.8, 0.2), ValueError, "end after it"),
    "end at begin": (lambda: pdp.Linear(0.5, 0.5), ValueError, "Constant"),
    "begin of 16": (lambda: pdp.Linear(16, 82), ValueError, r"Epochs\(n\).*16"),
    "two kinds": (lambda: pdp.Linear(0.1, pdp.Epochs(5)), ValueError, "one kind"),
    "power 0": (lambda: pdp.Polynomial(power=0), ValueError, "power"),
    "rate -1": (lambda: pdp.Exponential(rate=-1), ValueError, "rate"),
    "minus one epoch": (lambda: pdp.Epochs(-1), ValueError, "negative.*-1"),
    "paper rate 2": (lambda: pdp.Linear.paper(rate=2), ValueError, r"\(0, 1\].*2"),
    "schedule 'linear'": (
        lambda: pdp.PDPCallback(0.9, schedule="linear"),
        TypeError,
        r"Polynomial\(0.1, 0.5\).*'linear'",
    ),
    "frozen in the ramp": (
        lambda: pdp.PDPCallback(0.9, schedule=pdp.Linear(0.1, 0.95), freeze_at=0.9),
        ValueError,
        "before the end of the schedule.*0.9",
    ),
    "epochs 0": (lambda: pdp.PDPCallback(0.9, epochs=0), ValueError, "epochs.*0"),
    "allocation 'global'": (
        lambda: pdp.PDPCallback(0.9, allocation="global"),
        TypeError,
        "erdos_renyi.*'global'",
    ),
    "allocation of 1.2": (
        lambda: pdp.PDPCallback(allocation={"dense": 1.2}),
        ValueError,
        "dense.*1.2",
    ),
    "mapping and budget": (
        lambda: pdp.PDPCallback(0.9, allocation={"dense": 0.5}),
        ValueError,
        "leave `sparsity` out",
    ),
    "begin None": (lambda: pdp.Polynomial(None, 0.5), TypeError, "`begin`.*None"),
    "steps of text": (lambda: pdp.Steps("7"), TypeError, "number.*'7'"),
    "steps nan": (lambda: pdp.Steps(math.nan), ValueError, "nan"),
    "constant 2": (lambda: pdp.Constant(2), ValueError, r"Epochs\(n\).*2"),
    "constant bool": (lambda: pdp.Constant(True), TypeError, "True"),
    "per epoch of a number": (lambda: pdp.PerEpoch(0.5), TypeError, "Schedule.*0.5"),
    "position of no epochs": (
        lambda: pdp.Position(0.0, 0, 0),
        ValueError,
        "`epochs`.*at least 1.*0",
    ),
    "position before the start": (
        lambda: pdp.Position(-1.0, 0, 3),
        ValueError,
        "`epoch`.*-1.0",
    ),
    "update of nan": (lambda: ready().update(math.nan), ValueError, "`position`.*nan"),
    "update of text": (lambda: ready().update("1"), TypeError, "`position`.*'1'"),
    "update of -1": (lambda: ready().update(-1.0), ValueError, "negative.*-1.0"),
    "callback on a plain model": (
        lambda: pdp.PDPCallback(0.9).set_model(built()),
        ValueError,
        r"no PDPWrapper.*fit wrap\(model\)",
    ),
    "cost 'macs'": (lambda: pdp.PDPCallback(0.9, cost="macs"), TypeError, "'macs'"),
    "freeze_at 2": (lambda: pdp.PDPCallback(0.9, freeze_at=2), ValueError, "2"),
    "epochs 2.5": (lambda: pdp.PDPCallback(0.9, epochs=2.5), TypeError, "2.5"),
    # Allocations
    "uniform of nothing": (lambda: pdp.uniform({}, 0.5), ValueError, "at least one"),
    "global of a list": (
        lambda: pdp.global_magnitude([], 0.5),
        TypeError,
        r"mapping.*\[\]",
    ),
    "lamp of nothing": (lambda: pdp.lamp({}, 0.5), ValueError, "at least one"),
    "lamp of a list": (lambda: pdp.lamp([], 0.5), TypeError, r"mapping.*\[\]"),
    "erdos of 2": (
        lambda: pdp.erdos_renyi({"k": candidate()}, 2.0),
        ValueError,
        r"\[0, 1\].*2.0",
    ),
    # Layers and models
    "a tensor for a layer": (
        lambda: pdp.PDPWrapper(layers.Dense(2)(keras.Input((4,)))),
        TypeError,
        r"KerasTensor.*PDPWrapper\(layer\)\(x\)",
    ),
    "an object for a layer": (
        lambda: pdp.PDPWrapper(object()),
        TypeError,
        "builtins.object",
    ),
    "a class for a layer": (
        lambda: pdp.PDPWrapper(layers.Dense),
        TypeError,
        "class Dense. Instantiate it",
    ),
    "a Keras 2 layer": (
        lambda: pdp.PDPWrapper(FromKeras2()),
        TypeError,
        "tf_keras.*legacy Keras 2",
    ),
    "wrapped twice": (
        lambda: pdp.PDPWrapper(pdp.PDPWrapper(layers.Dense(2))),
        ValueError,
        "already",
    ),
    "dtype of the wrapper": (
        lambda: pdp.PDPWrapper(layers.Dense(2), dtype="float16"),
        TypeError,
        "set it on the wrapped layer",
    ),
    "wrap an object": (lambda: pdp.wrap(object()), TypeError, "builtins.object"),
    "wrap a layer": (
        lambda: pdp.wrap(layers.Dense(2)),
        TypeError,
        r"PDPWrapper\(layer\)",
    ),
    "wrap a Keras 2 model": (
        lambda: pdp.wrap(FromKeras2()),
        TypeError,
        "tf_keras.*legacy Keras 2",
    ),
    "wrap an unbuilt model": (
        lambda: pdp.wrap(keras.Sequential([layers.Dense(2)])),
        ValueError,
        "keras.Input",
    ),
    "wrap a subclassed model": (
        lambda: pdp.wrap(subclassed()),
        ValueError,
        r"(?s)No faithful copy of 'net.*get_config.*PDPWrapper\(layer\)",
    ),
    "strip an object": (lambda: pdp.strip(None), TypeError, "NoneType"),
    "pruned_layers of a list": (
        lambda: pdp.pruned_layers([layers.Dense(2)]),
        TypeError,
        "builtins.list",
    ),
    "select 'all'": (lambda: pdp.wrap(built(), select="all"), TypeError, "'all'"),
    "register an instance": (
        lambda: pdp.register_prunable(layers.Dense(2), ["kernel"]),
        TypeError,
        "subclass of keras.Layer",
    ),
    "register no names": (
        lambda: pdp.register_prunable(layers.Dense, []),
        TypeError,
        r"\['kernel'\]",
    ),
    # Smaller models, and files of them
    "shrink a list": (lambda: pdp.shrink([]), TypeError, "Keras 3 model.*list"),
    "shrink a wrapped model": (
        lambda: pdp.shrink(pdp.wrap(built())),
        ValueError,
        r"shrink\(strip\(model\)\)",
    ),
    "shrink a subclassed model": (
        lambda: pdp.shrink_with_report(subclassed()),
        ValueError,
        r"keras.Model\(inputs, outputs\)",
    ),
    "plain weights into a plain model": (
        lambda: pdp.load_plain_weights(built(), "dense.weights.h5"),
        ValueError,
        "no PDPWrapper layers: use model.load_weights",
    ),
    "plain weights from nowhere": (
        lambda: pdp.load_plain_weights(pdp.wrap(built()), None),
        TypeError,
        "`path`.*None",
    ),
    "backup in no folder": (lambda: pdp.Backup(""), TypeError, "folder.*''"),
    "shrink report of None": (lambda: pdp.shrink_report(None), TypeError, "NoneType"),
    "prepare a path": (
        lambda: pdp.prepare_for_sparse_inference("model.keras"),
        TypeError,
        "Keras 3 model.*builtins.str",
    ),
    "prepare a wrapped model": (
        lambda: pdp.prepare_with_report(pdp.wrap(built())),
        ValueError,
        "Prepare it first, then wrap",
    ),
    "export an object": (
        lambda: pdp.to_tflite(object(), "never.tflite"),
        TypeError,
        "keras|Keras",
    ),
    "export to nowhere": (
        lambda: pdp.to_tflite(built(), None),
        TypeError,
        "path.*NoneType",
    ),
    "export in int4": (
        lambda: pdp.to_tflite(built(), "never.tflite", quantize="int4"),
        ValueError,
        "'int8'.*'int4'",
    ),
    "export in int8 without data": (
        lambda: pdp.to_tflite(built(), "never.tflite", quantize="int8"),
        ValueError,
        "representative_data",
    ),
    "export sparse by name": (
        lambda: pdp.to_tflite(built(), "never.tflite", sparse="yes"),
        ValueError,
        "sparse.*'yes'",
    ),
    "verdict on a number": (
        lambda: pdp.sparse_inference_report(3),
        TypeError,
        "path.*builtins.int",
    ),
    "verdict on another kind of file": (
        lambda: pdp.sparse_inference_report("model.onnx"),
        ValueError,
        r"\.keras or \.tflite.*model.onnx",
    ),
    # Reports
    "report of an object": (
        lambda: pdp.sparsity_report(3),
        TypeError,
        "builtins.int",
    ),
    "report of a missing file": (
        lambda: pdp.sparsity_report("missing.keras"),
        FileNotFoundError,
        "missing.keras",
    ),
    "report of an unbuilt model": (
        lambda: pdp.sparsity_report(keras.Sequential([layers.Dense(2)])),
        ValueError,
        "not built",
    ),
}


TAKES_A_MODEL = [
    "PDPWrapper",
    "prepare_for_sparse_inference",
    "prepare_with_report",
    "pruned_layers",
    "shrink",
    "shrink_report",
    "shrink_with_report",
    "sparse_inference_report",
    "sparsity_report",
    "strip",
    "wrap",
]
TAKES_A_PATH = {"sparse_inference_report", "sparsity_report"}
# What needs the converter, and says so first on another backend.
EXPORTS = {"to_tflite"}
# What users only read: we make them, and nobody passes them arguments.
MADE_BY_US = {
    "ExportError",
    "Preparation",
    "ShrinkReport",
    "SparseInferenceReport",
    "SparsityReport",
    "TFLiteReport",
}
# Values for `PDPCallback(cost=...)`, which calls them with a trace of its own making.
CALLED_BY_US = {"macs", "parameters"}


def named_by(call) -> set[str]:
    """The names of keras_pdp that a row of the table calls."""
    return {*call.__code__.co_names} & public_names()


def public_names() -> set[str]:
    return {
        name
        for name, value in vars(pdp).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }


def test_every_public_name_has_a_row():
    named = set().union(*(named_by(call) for call, *_ in BAD_VALUES.values()))
    assert public_names() - named - MADE_BY_US - CALLED_BY_US == set()


@pytest.mark.parametrize("name", sorted(MADE_BY_US))
def test_reports_are_values_and_not_functions(name):
    """So that a public function is never left out of the table as a report."""
    kind = getattr(pdp, name)
    assert issubclass(kind, Exception) or dataclasses.is_dataclass(kind)


@pytest.mark.parametrize("junk", [None, True, "text", b"bytes", 3, math.nan, [], {}])
@pytest.mark.parametrize("name", TAKES_A_MODEL)
def test_what_is_no_model_is_refused_whatever_it_is(name, junk):
    if name in TAKES_A_PATH and isinstance(junk, str):
        junk = 3.5
    with pytest.raises(TypeError) as caught:
        getattr(pdp, name)(junk)
    assert type(junk).__name__ in str(caught.value)
    assert re.search("Keras", str(caught.value))


@pytest.mark.parametrize(
    "call, error, message", BAD_VALUES.values(), ids=BAD_VALUES.keys()
)
def test_bad_input_is_refused_with_what_to_do(call, error, message):
    if EXPORTS & named_by(call) and keras.backend.backend() != "tensorflow":
        error, message = RuntimeError, "KERAS_BACKEND=tensorflow"
    with pytest.raises(error, match=f"(?s){message}"):
        call()


def test_a_real_keras_2_model_is_refused():
    tf_keras = pytest.importorskip("tf_keras", reason="Keras 2 is not installed")
    model = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(3,))])
    with pytest.raises(TypeError, match="legacy Keras 2"):
        pdp.wrap(model)


def test_a_report_of_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"\.keras and \.tflite files.*model\.onnx"):
        pdp.sparsity_report(path)
