"""What the benchmark is to show, and whether it did."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.edge_measure import Measurement

_SAME_OUTPUTS = 1e-5


@dataclass(frozen=True)
class Outcome:
    """A goal and what was measured."""

    goal: str
    asked: str
    measured: str
    reached: bool


def outcomes(measurements: Sequence[Measurement]) -> list[Outcome]:
    """The goals whose files were all measured."""
    return [
        outcome
        for goal in (*_RATIOS, _never_larger, _same_to_the_bit, _right_in_browser)
        if (outcome := goal(measurements)) is not None
    ]


def _at_least(
    goal: str,
    least: float,
    net: str,
    variant: str,
    precision: str,
    value: Callable[[Measurement], float | None],
) -> Callable[[Sequence[Measurement]], Outcome | None]:
    def judged(measurements: Sequence[Measurement]) -> Outcome | None:
        for each in measurements:
            key = (each.net, each.file.variant, each.file.precision)
            if key == (net, variant, precision):
                found = value(each)
                if found is not None:
                    return Outcome(
                        goal, f"≥ {least}", f"{found:.2f}", bool(found >= least)
                    )
        return None

    return judged


def _native(each: Measurement) -> float:
    return each.native.over_dense


def _browser(each: Measurement) -> float | None:
    return each.browser.over_dense if each.browser else None


def _browser_over_int8(each: Measurement) -> float | None:
    return each.browser.over_int8 if each.browser else None


def _smaller(each: Measurement) -> float:
    return each.file.report.storage.dense_raw_bytes / each.file.report.raw_bytes


_V1, _V2 = "MobileNetV1 224", "MobileNetV2 224"
_PREPARED = "unstructured 90 %, prepared"
_RATIOS = (
    _at_least(
        f"{_V1}, half of the channels removed, float32: times faster",
        *(3.0, _V1, "channels 50 %", "float32", _native),
    ),
    _at_least(
        f"{_V1}, half of the channels removed, int8: times faster",
        *(2.2, _V1, "channels 50 %", "int8", _native),
    ),
    _at_least(
        f"{_V1}, 90 % zeros, float32: times smaller, raw",
        *(6.0, _V1, _PREPARED, "float32", _smaller),
    ),
    _at_least(
        f"{_V1}, 90 % zeros, prepared, in the browser: times faster",
        *(3.3, _V1, _PREPARED, "float32", _browser),
    ),
    _at_least(
        f"{_V2}, 90 % zeros, prepared, in the browser: times faster",
        *(2.1, _V2, _PREPARED, "float32", _browser),
    ),
    _at_least(
        f"{_V1}, 90 % zeros, prepared, in the browser: times faster than dense int8",
        *(2.3, _V1, _PREPARED, "float32", _browser_over_int8),
    ),
)


def _never_larger(measurements: Sequence[Measurement]) -> Outcome | None:
    if not measurements:
        return None
    ratio = min(map(_smaller, measurements))
    return Outcome(
        "every file: dense bytes / its bytes", "≥ 1", f"≥ {ratio:.2f}", ratio >= 1
    )


def _same_to_the_bit(measurements: Sequence[Measurement]) -> Outcome | None:
    """Sparse files but those with blocks, whose kernels add in another order."""
    found = [
        each.twin_difference
        for each in measurements
        if each.twin_difference is not None and not _has_blocks(each)
    ]
    if not found:
        return None
    largest = max(found)
    return Outcome(
        f"{len(found)} sparse files: difference from their dense twins",
        "0",
        f"{largest:g}",
        largest == 0,
    )


def _right_in_browser(measurements: Sequence[Measurement]) -> Outcome | None:
    """Float files; the rounding of int8 differs between processors, sparse or not."""
    tried = [
        each
        for each in measurements
        if each.file.precision == "float32" and (each.browser or each.browser_error)
    ]
    if not tried:
        return None
    failed = any(each.browser_error for each in tried)
    largest = max(each.browser_difference or 0.0 for each in tried)
    return Outcome(
        f"{len(tried)} float32 files: difference in the browser, centred",
        f"≤ {_SAME_OUTPUTS}",
        "one does not run" if failed else f"{largest:.1e}",
        not failed and largest <= _SAME_OUTPUTS,
    )


def _has_blocks(each: Measurement) -> bool:
    return any(weight.storage == "block" for weight in each.file.report.weights)
