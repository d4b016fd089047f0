"""Bad input raises before any work is done, and says what was expected and received."""

import math

import keras
import numpy as np
import pytest
from keras import layers

import keras_pdp as pdp


def built() -> keras.Model:
    return keras.Sequential([keras.Input((8,)), layers.Dense(4), layers.Dense(2)])


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
        r"Calibrated\(kappa=5.0\).*0.1",
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
        r"Linear\(0.15, 0.75\).*'linear'",
    ),
    "frozen in the ramp": (
        lambda: pdp.PDPCallback(0.9, schedule=pdp.Linear(0.1, 0.95)),
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
        r"(?s)No faithful copy of 'net'.*get_config.*PDPWrapper\(layer\)",
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


@pytest.mark.parametrize(
    "call, error, message", BAD_VALUES.values(), ids=BAD_VALUES.keys()
)
def test_bad_input_is_refused_with_what_to_do(call, error, message):
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
