"""How large sparse .tflite files are: MobileNetV1 with zeros in its 1×1 convolutions.

    python benchmarks/sparse_files.py                some minutes on two cores
    python benchmarks/sparse_files.py --size 96 --alpha 0.25

Random weights, of which the smallest of each 1×1 convolution are zero: sizes depend on
the number of zeros, not on what the others were trained for. Each file has been loaded,
run, and compared with Keras and, to the bit, with its dense twin.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_pdp import to_tflite

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--size", type=int, default=224, help="pixels of a side")
parser.add_argument("--alpha", type=float, default=1.0, help="width of the net")
parser.add_argument("--sparsity", type=float, nargs="+", default=[0.5, 0.75, 0.9])
arguments = parser.parse_args()

keras.utils.set_random_seed(0)
shape = (arguments.size, arguments.size, 3)
images = np.random.default_rng(0).normal(size=(64, *shape)).astype("float32")
model = keras.applications.MobileNet(
    shape, alpha=arguments.alpha, weights=None, classifier_activation=None
)
for layer in model.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.momentum = 0.5
# statistics close to those of these images, or int8 would have nothing to keep
for start in range(0, len(images), 16):
    model(images[start : start + 16], training=True)


def prune(sparsity: float) -> None:
    for kernel in model.weights:
        if kernel.ndim == 4 and kernel.shape[:2] == (1, 1):
            values = kernel.numpy()
            smallest = np.abs(values) < np.quantile(np.abs(values), sparsity)
            kernel.assign(np.where(smallest, 0, values))


print("zeros  weights    bytes: dense      sparse  ratio    gzip: dense      sparse")
for sparsity in sorted(arguments.sparsity):
    prune(sparsity)
    for quantize in (None, "float16", "int8"):
        with tempfile.TemporaryDirectory() as folder:
            report = to_tflite(
                model,
                Path(folder) / "model.tflite",
                quantize=quantize,
                representative_data=images,
            )
        storage = report.storage
        ratio = storage.dense_raw_bytes / report.raw_bytes
        print(
            f"{sparsity:5.0%}  {quantize or 'float32':8} {storage.dense_raw_bytes:13,} "
            f"{report.raw_bytes:11,} {ratio:6.2f} {storage.dense_gzip_bytes:14,} "
            f"{report.gzip_bytes:11,}",
            flush=True,
        )
