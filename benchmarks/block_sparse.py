"""Where block-sparse Dense layers are faster than dense ones in a .tflite file.

    python benchmarks/block_sparse.py             a minute and a half on two cores
    python benchmarks/block_sparse.py --runs 50   quicker, rougher

One Dense layer at a time, batch 1, one thread: stored densely, and the same zeros in
1×4 (float32) or 1×16 (int8) blocks for the runtime's block kernels. The two take turns;
what is printed is the ratio of the medians of their times, dense / blocks, so above 1
the blocks win. *Warm* repeats a file so that its weights stay in the cache; *cold*
reads 64 MB of something else before each run, as the rest of a big model would.

The rule in keras_pdp/deployment/block_kernels.py comes from these figures.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Literal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_pdp.deployment.block_kernels import BlockKernel
from keras_pdp.deployment.conversion import converted
from keras_pdp.deployment.signature import signature_of
from keras_pdp.deployment.sparse_writer import sparsely_stored

SHAPES = [(128, 128), (256, 256), (512, 512), (1024, 1024), (1024, 4096)]
SPARSITIES = [0.8, 0.85, 0.9, 0.95, 0.98]
KERNELS: dict[Literal["int8"] | None, tuple[str, int]] = {
    None: ("float32", 4),
    "int8": ("int8", 16),
}
REPEATED = 20  # runs in a row of one file, of which the median counts as warm

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--runs", type=int, default=100, help="turns of each file")
arguments = parser.parse_args()

rng = np.random.default_rng(0)
elsewhere = np.zeros(1 << 24, np.float32)


def files(
    shape: tuple[int, int], sparsity: float, quantize: Literal["int8"] | None
) -> tuple[bytes, bytes]:
    """A Dense layer with blocks of zeros, stored densely and by blocks."""
    dtype, width = KERNELS[quantize]
    model = keras.Sequential([keras.Input(shape[:1]), keras.layers.Dense(shape[1])])
    kernel = model.layers[0].kernel
    kept = rng.random((shape[0] // width, shape[1])) >= sparsity
    kernel.assign(kernel * np.repeat(kept, width, axis=0))
    signature = signature_of(model)
    name = signature.inputs[0].name
    samples = {name: rng.normal(size=(100, shape[0])).astype("float32")}
    dense = converted(signature, quantize, samples)
    always = {dtype: BlockKernel(width, 0.0, 0, 0.0)}
    return dense, sparsely_stored(dense, kernels=always).data


def loaded(data: bytes) -> Interpreter:
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    sample = rng.normal(size=entry["shape"]).astype("float32")
    interpreter.set_tensor(entry["index"], sample)
    return interpreter


def milliseconds(interpreter: Interpreter) -> float:
    start = time.thread_time()
    interpreter.invoke()
    return 1000 * (time.thread_time() - start)


def warm(interpreter: Interpreter) -> float:
    return statistics.median(milliseconds(interpreter) for _ in range(REPEATED))


def cold(interpreter: Interpreter) -> float:
    elsewhere.sum()
    return milliseconds(interpreter)


def medians(
    files: Sequence[bytes], measured: Callable[[Interpreter], float], runs: int
) -> list[float]:
    """The median time of each file, run in turns."""
    interpreters = [loaded(data) for data in files]
    for interpreter in interpreters:
        warm(interpreter)
    rounds = [[measured(each) for each in interpreters] for _ in range(runs)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


processor = platform.processor() or platform.machine()
runtime = f"ai-edge-litert {version('ai-edge-litert')}"
print(f"{processor}, Python {platform.python_version()}, {runtime}")
header = "type     shape        blocks zero  dense warm   warm   cold   bytes"
print(header)
for quantize, (dtype, _) in KERNELS.items():
    for shape in SHAPES:
        for sparsity in SPARSITIES:
            pair = files(shape, sparsity, quantize)
            a, b = medians(pair, warm, arguments.runs)
            c, d = medians(pair, cold, arguments.runs // 4)
            smaller = len(pair[0]) / len(pair[1])
            print(
                f"{dtype:8} {shape[0]:4}→{shape[1]:<6} {sparsity:11.0%} {a:8.4f} ms "
                f"{a / b:6.2f} {c / d:6.2f} {smaller:6.2f}",
                flush=True,
            )
