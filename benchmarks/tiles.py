"""Which tiles keys are counted in: the search for the threshold with others.

    python -m benchmarks.tiles        a minute; writes results/tiles.md

XLA on a processor vectorises a sum over the rows of a tile, but not one over a long
vector (`keras_pdp/sparsity/selection.py`). Rows x columns other than those take turns
here in the exact search, at sparsities from 30 to 95 %; by bits, which is for few, with
all keys in one column too, as if there were no tiles.
"""

import datetime
import importlib.metadata
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from keras_pdp.sparsity import selection, threshold

RESULTS = Path(__file__).parent / "results" / "tiles.md"
FEW = (100_000, 2**18)
MANY = (2**20, 2**23)
TILES = ((8, 8), (16, 8), (32, 8), (64, 8), (8, 16), (16, 16), (32, 16), (32, 64))
TURNS = 4
SPARSITIES = np.linspace(0.3, 0.95, 12)


def search(size: int, rows: int, columns: int) -> Callable[[Any, Any], Any]:
    """The two scores at the cut of so many, counted in tiles of that shape."""
    found = tf.function(threshold.neighbours, jit_compile=True, autograph=False)
    scores, pruned = tf.TensorSpec((size,), "float32"), tf.TensorSpec((), "int32")
    with (
        mock.patch.object(selection, "_ROWS", rows),
        mock.patch.object(selection, "_COLUMNS", columns),
    ):
        return found.get_concrete_function(scores, pruned)


def measured(size: int) -> Iterator[tuple[tuple[int, int], float]]:
    """The median of milliseconds of each shape, all of which take turns."""
    shapes = [*TILES, *([(size, 1)] if size in FEW else [])]
    searches = {shape: search(size, *shape) for shape in shapes}
    values = np.random.default_rng(0).normal(size=size).astype("float32")
    scores = tf.constant(values)
    ranked = np.sort(np.abs(values))
    times: dict[tuple[int, int], list[float]] = {shape: [] for shape in shapes}
    for turn, sparsity in itertools.product(range(-1, TURNS), SPARSITIES):
        count = round(sparsity * size)
        pruned = tf.constant(count)
        for shape, run in searches.items():
            start = time.perf_counter()
            lo, hi = (float(each) for each in run(scores, pruned))
            if turn >= 0:  # the first ones compile
                times[shape].append(1e3 * (time.perf_counter() - start))
            if (lo, hi) != (ranked[count - 1], ranked[count]):
                raise RuntimeError(f"tiles of {shape}: {lo}, {hi} at {count} of {size}")
    for shape, each in times.items():
        yield shape, statistics.median(each)


def main() -> None:
    sizes = (*FEW, *MANY)
    columns = {size: dict(measured(size)) for size in sizes}
    versions = f"keras {keras.__version__}, tensorflow {tf.__version__}"
    numpy = importlib.metadata.version("numpy")
    lines = [
        "# Tiles in which keys are counted",
        "",
        f"Made by `python -m benchmarks.tiles`, {datetime.date.today()}: {versions}, "
        f"numpy {numpy}, {os.cpu_count()} cores. Milliseconds of the search for a "
        "threshold of so many scores, compiled by XLA: medians over "
        f"{len(SPARSITIES)} sparsities, {TURNS} times each.",
        "",
        "| rows x columns | " + " | ".join(f"{size:,}" for size in sizes) + " |",
        "|---" * (len(sizes) + 1) + "|",
    ]
    for rows, wide in TILES:
        told = (f"{columns[size][rows, wide]:.2f}" for size in sizes)
        lines.append(f"| {rows} x {wide} | " + " | ".join(told) + " |")
    untiled = (f"{columns[size][size, 1]:.2f}" if size in FEW else "" for size in sizes)
    lines.append("| one column | " + " | ".join(untiled) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.write_text(text)


if __name__ == "__main__":
    main()
