"""What finding the threshold costs, against one read of the data.

    python benchmarks/threshold.py            all sizes and engines; writes the results
    python benchmarks/threshold.py --short    up to a million weights; writes nothing
    python benchmarks/threshold.py --plot     the picture of its results

Each engine runs in a process of its own. Within it, for each size, four functions of
the same scores take turns, so that whatever else the machine does falls on all of them:

* read: the largest score, which every engine computes in one pass;
* ours: the two scores at the cut, `keras_pdp.sparsity.threshold.neighbours`;
* sort: the same from `ops.sort`;
* partition: the same from `numpy.partition`.

What counts is the ratio of the medians to the read's. What takes many seconds is left
out: a sort above 2,400,000 scores, PyTorch above 24,000,000.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, from anywhere
import numpy as np

RESULTS = Path(__file__).parent / "results"
SIZES = (10_000, 100_000, 1_000_000, 2_400_000, 24_000_000, 100_000_000)
LARGEST_SORT = 2_400_000
LARGEST = {"PyTorch": 24_000_000}
SPARSITY = 0.9
# `graph` runs one operation at a time, as a TensorFlow step does by default; ours is
# compiled inside it all the same, which is how the wrapper calls it.
ENGINES = {
    "TensorFlow, graph": ("tensorflow", False),
    "TensorFlow, XLA": ("tensorflow", True),
    "JAX": ("jax", True),
    "PyTorch": ("torch", False),
}
GOALS = {1_000_000: 20.0, 24_000_000: 30.0}  # reads


def engine(whole: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """How the backend compiles a function, whole or an operation at a time."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return lambda function: tf.function(function, jit_compile=whole or None)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit
    return lambda function: function


def measured(whole: bool, sizes: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    """Medians in milliseconds, of each function at each size."""
    from keras import ops

    from keras_pdp.sparsity import threshold
    from keras_pdp.training.compiled import compiled

    build = engine(whole)

    def ranked(scores: Any, pruned: Any) -> Any:
        found = ops.sort(scores)
        return ops.take(found, ops.stack([pruned - 1, pruned]))

    functions = {
        "read": build(lambda scores, pruned: ops.max(scores)),
        "ours": build(lambda *given: compiled(threshold.neighbours)(*given)),
        "sort": build(ranked),
    }
    rows = []
    for size in sizes:
        values = np.abs(np.random.default_rng(0).normal(size=size)).astype("float32")
        scores = ops.convert_to_tensor(values)
        count = round(SPARSITY * size)
        pruned = ops.convert_to_tensor(count, "int32")
        expected = np.partition(values, [count - 1, count])[count - 1 : count + 1]
        times: dict[str, list[float]] = {}
        for turn in range(repeats + 1):
            for name, function in functions.items():
                if name == "sort" and size > LARGEST_SORT:
                    continue
                start = time.perf_counter()
                found = function(scores, pruned)
                told = [ops.convert_to_numpy(f) for f in _listed(found)]
                if turn:  # the first one compiles
                    times.setdefault(name, []).append(time.perf_counter() - start)
                elif name != "read" and not np.array_equal(np.ravel(told), expected):
                    raise RuntimeError(f"{name} of {size} scores: {told}, {expected}")
            start = time.perf_counter()
            np.partition(values, [count - 1, count])
            if turn:
                times.setdefault("partition", []).append(time.perf_counter() - start)
        medians = {f"{k}_ms": statistics.median(v) * 1e3 for k, v in times.items()}
        rows.append({"size": size, **medians})
    return rows


def _listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, (list, tuple)) else [found]


def in_own_process(name: str, sizes: tuple[int, ...], repeats: int) -> dict[str, Any]:
    backend, whole = ENGINES[name]
    command = [sys.executable, __file__, "--measure", str(int(whole)), str(repeats)]
    command += [str(size) for size in sizes if size <= LARGEST.get(name, size)]
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:]
        return {"engine": name, "reason": " ".join(reason) or str(done.returncode)}
    rows = json.loads(done.stdout.splitlines()[-1])
    return {
        "engine": name,
        "version": importlib.metadata.version(backend),
        "rows": rows,
    }


def table(results: list[dict[str, Any]], date: str) -> str:
    lines = [
        "# What a threshold costs",
        "",
        f"Made by `python benchmarks/threshold.py`, {date}: Keras "
        f"{importlib.metadata.version('keras')}, Python {platform.python_version()}, "
        f"{platform.machine()}, {os.cpu_count()} cores. The threshold between the "
        f"{SPARSITY:.0%} smallest scores and the rest. In brackets: how many reads of "
        "the data that is, in the same run. Every time contains the call itself: the "
        "read of the fewest scores shows it, and reads of a million are few for it.",
        "",
        "| engine | scores | read, ms | ours, ms | ours, ns a score | sort, ms "
        "| numpy.partition, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        if "reason" in result:
            lines.append(f"| {result['engine']} | {result['reason']} | | | | | |")
        for row in result.get("rows", []):
            read, size = row["read_ms"], row["size"]
            cells = [
                f"{row[k]:.2f} ({row[k] / read:.0f})" if k in row else ""
                for k in ("ours_ms", "sort_ms", "partition_ms")
            ]
            each = row["ours_ms"] / size * 1e6
            lines.append(
                f"| {result['engine']} {result['version']} | {size:,} | {read:.3f} "
                f"| {cells[0]} | {each:.2f} | {cells[1]} | {cells[2]} |"
            )
    lines += ["", *goals(results), "", *largest(results)]
    return "\n".join(lines) + "\n"


def largest(results: list[dict[str, Any]]) -> list[str]:
    """What the weights of a large language model's layer would pay in a step."""
    return [
        f"* {result['engine']}, {row['size']:,} scores: {row['ours_ms'] / 1e3:.2f} s "
        "in every step of the ramp."
        for result in results
        for row in result.get("rows", [])
        if row["size"] == SIZES[-1]
    ]


def goals(results: list[dict[str, Any]]) -> list[str]:
    """What was to be reached, and whether it is."""
    said = []
    for result in results:
        for row in result.get("rows", []):
            goal = GOALS.get(row["size"])
            if goal is None:
                continue
            reads = row["ours_ms"] / row["read_ms"]
            reached = "reached" if reads <= goal else "missed"
            said.append(
                f"* {result['engine']}, {row['size']:,} scores: {reads:.0f} reads, "
                f"goal {goal:.0f}: {reached}."
            )
    return said


def plot() -> None:
    """The picture of what was stored."""
    from benchmarks.threshold_picture import draw

    path = RESULTS / "threshold.json"
    results = json.loads(path.read_text()) if path.exists() else []
    try:
        draw(results, RESULTS / "threshold.png")
    except ValueError as error:
        sys.exit(str(error))


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--plot", action="store_true")
    parser.add_argument("--measure", nargs="+", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        whole, repeats, *sizes = arguments.measure
        print(json.dumps(measured(bool(whole), tuple(sizes), repeats)))
        return
    if arguments.plot:
        plot()
        return
    sizes = tuple(s for s in SIZES if s <= 1_000_000) if arguments.short else SIZES
    repeats = 5 if arguments.short else 21
    results = [in_own_process(name, sizes, repeats) for name in ENGINES]
    text = table(results, datetime.date.today().isoformat())
    print(text)
    if not arguments.short:
        (RESULTS / "threshold.json").write_text(json.dumps(results, indent=1) + "\n")
        (RESULTS / "threshold.md").write_text(text)


if __name__ == "__main__":
    main()
