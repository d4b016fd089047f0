"""Measures the files of one net, natively and in the browser, each in one run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.agreement import (
    identical,
    largest_difference,
    native_outputs,
    normal_inputs,
)
from benchmarks.edge_export import Exported
from benchmarks.edge_native import speed_up, times_in_turns
from benchmarks.web.browser import Browser, Job, Measured

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Speed:
    """Latencies of a file in one runtime.

    Args:
        ms: the median.
        over_dense: times faster than the dense file: of the same weights for a file
            that is stored sparsely, else of the net of the same precision.
        over_int8: times faster than the net as dense int8; NaN without such a file.
        load_ms: the median of the loads; NaN where they were not timed.
    """

    ms: float
    over_dense: float
    over_int8: float
    load_ms: float = float("nan")


@dataclass(frozen=True)
class Measurement:
    """One row of the tables.

    Args:
        net: the net.
        file: the file.
        native: its speed on this processor.
        twin_difference: of its outputs from those of the dense file of the same
            weights; `None` if it is dense itself.
        twin_identical: whether these are the same to the bit; `None` as above.
        browser: its speed in the browser; `None` if that was not measured, or failed.
        browser_difference: of the browser's outputs from the native ones of the dense
            file of the same weights; see `agreement.difference`.
        browser_error: why the browser did not run it, or `""`.
    """

    net: str
    file: Exported
    native: Speed
    twin_difference: float | None
    twin_identical: bool | None
    browser: Speed | None
    browser_difference: float | None
    browser_error: str


def measure(
    net: str,
    files: Sequence[Exported],
    data: Array,
    rounds: int,
    browser: Browser | None,
) -> list[Measurement]:
    """Measures all files of one net.

    Args:
        net: its name.
        files: what was written; their twins are measured with them.
        data: inputs `(samples, ...)`; outputs are compared on all of them.
        rounds: how often each file is timed, in each runtime.
        browser: `None` leaves the browser out.
    """
    both = [each for file in files for each in (file, file.twin) if each is not None]
    inputs = {file.path: _named(file.path, data) for file in both}
    native = {path: native_outputs(path, given) for path, given in inputs.items()}
    times = times_in_turns(inputs, rounds)
    timed = {file.path: times[:, index] for index, file in enumerate(both)}
    shown = _in_browser(inputs, rounds, browser)
    in_browser = {path: each.latencies_ms for path, each in shown.items()}
    measurements = []
    for file in files:
        dense = native[(file.twin or file).path]
        result = shown.get(file.path)
        speed = difference = None
        if result is not None and result.error is None:
            speed = _speed(file, files, in_browser, result.load_ms)
            difference = largest_difference(dense, result.outputs)
        measurements.append(
            Measurement(
                net=net,
                file=file,
                native=_speed(file, files, timed),
                twin_difference=(
                    largest_difference(dense, native[file.path]) if file.twin else None
                ),
                twin_identical=(
                    identical(dense, native[file.path]) if file.twin else None
                ),
                browser=speed,
                browser_difference=difference,
                browser_error=(result.error or "") if result else "",
            )
        )
    return measurements


def _named(path: Path, data: Array) -> dict[str, Array]:
    """The data by the name of the file's input, which rewriting a net may change."""
    (name,) = normal_inputs(path, 1)
    return {name: data}


def _in_browser(
    inputs: Mapping[Path, Mapping[str, Array]],
    rounds: int,
    browser: Browser | None,
) -> dict[Path, Measured]:
    if browser is None:
        return {}
    jobs = [Job(path, given, rounds) for path, given in inputs.items()]
    return dict(zip(inputs, browser.run(jobs), strict=True))


def _speed(
    file: Exported,
    files: Sequence[Exported],
    times: Mapping[Path, Array],
    load_ms: float = float("nan"),
) -> Speed:
    mine = times[file.path]
    dense = file.twin or _dense(files, file.precision)
    int8 = _dense(files, "int8")
    return Speed(
        ms=float(np.median(mine)),
        over_dense=speed_up(times[dense.path], mine) if dense else float("nan"),
        over_int8=speed_up(times[int8.path], mine) if int8 else float("nan"),
        load_ms=load_ms,
    )


def _dense(files: Sequence[Exported], precision: str) -> Exported | None:
    """The net itself in a precision."""
    for file in files:
        if (file.variant, file.precision) == ("dense", precision):
            return file
    return None
