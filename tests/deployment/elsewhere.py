"""Files whose outputs are compared on another kind of processor than this one."""

import numpy as np

from keras_pdp import to_tflite
from keras_pdp.deployment.conversion import converted
from keras_pdp.deployment.signature import signature_of
from keras_pdp.deployment.sparse_writer import sparsely_stored
from tests.deployment.nets import L, conv, images, net, padded, pruned

SAMPLES = 64


def eligible():
    return net(padded(L.DepthwiseConv2D(3, strides=2)), L.ReLU())


def inert():
    return net(start=L.Conv2D(16, 3, strides=2, padding="same", activation="relu"))


def wrong():
    return net(L.MaxPooling2D(), conv(activation="relu"))


def unloadable():
    body = net(L.DepthwiseConv2D(3, padding="same"), conv(64), head=False)
    x = L.GlobalAveragePooling2D(keepdims=True)(body.output)
    return type(body)(body.inputs, L.Reshape((10,))(conv(10)(x)))


# how to_tflite stores it, whether the sparse kernels take it
WRITTEN = {
    "eligible": (eligible, True),
    "inert": (inert, True),
    "wrong": (wrong, False),
    "unloadable": (unloadable, False),
}
PRECISIONS = (None, "float16")


def written(name, quantize, folder):
    """A file by `to_tflite`, its report, and inputs by name."""
    model = pruned(WRITTEN[name][0]())
    path = folder / f"{name}_{quantize}.tflite"
    report = to_tflite(model, path, quantize=quantize, samples=images((32, 32, 3), 8))
    return path, report, _inputs(model)


def unsafely_stored(name, folder):
    """A file that `to_tflite` refuses to write, the dense one, and inputs by name."""
    model = pruned(WRITTEN[name][0]())
    dense, sparse = (folder / f"{name}_{how}.tflite" for how in ("dense", "sparse"))
    dense.write_bytes(converted(signature_of(model), None, {}))
    sparse.write_bytes(sparsely_stored(dense.read_bytes()).data)
    return dense, sparse, _inputs(model)


def _inputs(model):
    (each,) = signature_of(model).inputs
    return {each.name: np.ascontiguousarray(images(each.shape, SAMPLES))}
