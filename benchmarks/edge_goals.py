"""What the benchmark is to show, and whether it did."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.edge_rows import Row

_SAME_OUTPUTS = 1e-5


@dataclass(frozen=True)
class Outcome:
    """A goal and what was measured."""

    goal: str
    asked: str
    measured: str
    reached: bool


def outcomes(rows: Sequence[Row]) -> list[Outcome]:
    """The goals whose files were all measured."""
    return [
        outcome
        for goal in (
            *_RATIOS,
            _never_larger,
            _same_to_the_bit,
            _right_in_browser,
            _runs_in_browser,
        )
        if (outcome := goal(rows)) is not None
    ]


def _at_least(
    goal: str,
    least: float,
    net: str,
    variant: str,
    precision: str,
    value: Callable[[Row], float | None],
) -> Callable[[Sequence[Row]], Outcome | None]:
    def judged(rows: Sequence[Row]) -> Outcome | None:
        for each in rows:
            if (each.net, each.variant, each.precision) != (net, variant, precision):
                continue
            found = value(each)
            if found is not None:
                return Outcome(goal, f"≥ {least}", f"{found:.2f}", bool(found >= least))
            if each.browser_error:
                return Outcome(goal, f"≥ {least}", "does not run", False)
        return None

    return judged


def _native(each: Row) -> float:
    return each.native.over_dense


def _browser(each: Row) -> float | None:
    return each.browser.over_dense if each.browser else None


def _browser_over_int8(each: Row) -> float | None:
    return each.browser.over_int8 if each.browser else None


def _smaller(each: Row) -> float:
    return each.dense_raw_bytes / each.raw_bytes


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


def _never_larger(rows: Sequence[Row]) -> Outcome | None:
    if not rows:
        return None
    ratio = min(map(_smaller, rows))
    return Outcome(
        "every file: dense bytes / its bytes", "≥ 1", f"≥ {ratio:.2f}", ratio >= 1
    )


def _same_to_the_bit(rows: Sequence[Row]) -> Outcome | None:
    """Sparse files but those with blocks, whose kernels add in another order."""
    twins = [each for each in rows if each.stored == "sparse" and not each.blocks]
    if not twins:
        return None
    unknown = [each for each in twins if each.twin_identical is None]
    differing = [each for each in twins if not _as_its_twin(each)]
    measured = f"{len(differing)} differ" + _named(each.name for each in differing)
    if unknown:
        measured += f" ({len(unknown)} by rms, not by bytes, which the results lack)"
    return Outcome(
        f"{len(twins)} sparse files, without blocks: outputs the same to the bit as "
        "those of their dense twins",
        "0 differ",
        measured,
        not differing,
    )


def _as_its_twin(each: Row) -> bool:
    if each.twin_identical is None:
        return each.twin_difference == 0
    return each.twin_identical


def _right_in_browser(rows: Sequence[Row]) -> Outcome | None:
    """Float files; the rounding of int8 differs between processors, sparse or not."""
    found = {
        each.name: each.browser_difference
        for each in rows
        if each.precision != "int8" and each.browser_difference is not None
    }
    if not found:
        return None
    wrong = [name for name, value in found.items() if value > _SAME_OUTPUTS]
    return Outcome(
        f"{len(found)} float32 and float16 files: difference in the browser, centred",
        f"≤ {_SAME_OUTPUTS}",
        f"{max(found.values()):.1e}" + _named(wrong),
        not wrong,
    )


def _runs_in_browser(rows: Sequence[Row]) -> Outcome | None:
    """Files of every precision."""
    tried = [each for each in rows if each.browser or each.browser_error]
    if not tried:
        return None
    failed = [
        f"{each.name} ({each.browser_error})" for each in tried if each.browser_error
    ]
    return Outcome(
        f"{len(tried)} files of every precision: do not run in the browser",
        "0",
        f"{len(failed)}" + _named(failed),
        not failed,
    )


def _named(names: Iterable[str]) -> str:
    listed = "; ".join(names)
    return f": {listed}" if listed else ""
