"""Files side by side: the inputs each is given, and the table of what came out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.agreement import largest_difference, normal_inputs, renamed
from benchmarks.web.browser import DTYPES, Job, Measured

HEAD = f"{'file':<32}{'load ms':>9}{'median ms':>11}{'ratio':>7}  difference"


def jobs(files: Sequence[Path], repeats: int) -> list[Job]:
    """The same random inputs for every file, by the names that it has for them.

    Raises:
        Unreadable: a file is missing, or can't be loaded.
        ValueError: a file's inputs are not like those of the first, or of a type that
            a browser can't be given.
    """
    if not files:
        return []
    inputs = normal_inputs(files[0])
    wanted = [(array.dtype, array.shape) for array in inputs.values()]
    made = []
    for path in files:
        own = normal_inputs(path)
        if set(own) == set(inputs):
            own = {name: own[name] for name in inputs}
        found = [(array.dtype, array.shape) for array in own.values()]
        if found != wanted:
            raise ValueError(
                f"expected inputs like those of {files[0].name}, "
                f"{_listed(wanted)}, received {_listed(found)} of {path.name}"
            )
        if any(dtype.name not in DTYPES for dtype, _ in found):
            raise ValueError(
                f"expected inputs of {', '.join(DTYPES)}, received {_listed(found)} "
                f"of {path.name}"
            )
        made.append(Job(path, renamed(inputs, own), repeats))
    return made


def line(path: Path, first: Measured, result: Measured) -> str:
    """Load time, latency, and how far the outputs are from the first file's."""
    if result.error:
        return f"{path.name:<32}  {result.error}"
    times = f"{path.name:<32}{result.load_ms:>9.1f}{result.median_ms:>11.3f}"
    if first.error:
        return f"{times}{'–':>7}  – (the first file did not run)"
    # the median of the rounds' ratios: both files of a round saw the same machine
    ratio = np.median(first.latencies_ms / result.latencies_ms)
    return f"{times}{ratio:>7.2f}  {_difference(first, result)}"


def _difference(first: Measured, result: Measured) -> str:
    shapes = [[a.shape for a in each.outputs.values()] for each in (first, result)]
    if set(first.outputs) == set(result.outputs):
        outputs = dict(result.outputs)
    elif shapes[0] == shapes[1]:
        outputs = renamed(result.outputs, first.outputs)
    else:
        return "– (other outputs than the first file's)"
    if any(outputs[key].shape != array.shape for key, array in first.outputs.items()):
        return "– (other outputs than the first file's)"
    return f"{largest_difference(first.outputs, outputs):.1e}"


def _listed(inputs: Sequence[tuple[np.dtype[Any], tuple[int, ...]]]) -> str:
    return ", ".join(f"{dtype.name} {shape[1:]}" for dtype, shape in inputs)
