"""What a method's trainings cost, although machines differed from day to day."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from benchmarks.accuracy_store import Record
from benchmarks.accuracy_targets import DENSE, TARGETS, Weights

_COMPARED = {str(DENSE), *(str(t) for t in TARGETS if isinstance(t, Weights))}


def relative(records: Sequence[Record], methods: Iterable[str]) -> Mapping[str, float]:
    """Processor time over that of the dense net, of the methods that can be compared.

    Least squares tell the methods' logarithms from the days': each training is worth
    its method's times its day's. Without that a method run on slow days would look
    slow, and pruning on fast ones cheaper than none.

    Args:
        records: of one case.
        methods: whose; those that no chain of common days leads to are left out.
    """
    measured = _measured(records, methods)
    names = sorted({each["method"] for each in measured})
    if "dense" not in names:
        return {}
    solution, _ = _fitted(measured)
    joined, dense = _joined(measured), names.index("dense")
    return {
        name: math.exp(solution[place] - solution[dense])
        for place, name in enumerate(names)
        if name in joined
    }


def left_over(records: Sequence[Record], methods: Iterable[str]) -> list[float]:
    """By how much trainings differ from that, in logarithms."""
    measured = _measured(records, methods)
    return _fitted(measured)[1].tolist() if measured else []


def _measured(records: Sequence[Record], methods: Iterable[str]) -> list[Record]:
    """To a budget, so that every method is measured at the same."""
    wanted = set(methods)
    return [
        each
        for each in records
        if "cpu_seconds" in each
        and each["method"] in wanted
        and each["target"] in _COMPARED
    ]


def _fitted(measured: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the methods' and the days' worth, and what they don't explain."""
    names = sorted({each["method"] for each in measured})
    days = sorted({each["date"] for each in measured})
    parts = np.zeros((len(measured), len(names) + len(days)))
    for row, each in enumerate(measured):
        parts[row, names.index(each["method"])] = 1.0
        parts[row, len(names) + days.index(each["date"])] = 1.0
    times = np.log([each["cpu_seconds"] for each in measured])
    solution = np.linalg.lstsq(parts, times, rcond=None)[0]
    return solution, times - parts @ solution


def _joined(measured: Sequence[Record]) -> set[str]:
    """The methods that common days join with the dense net."""
    joined, before = {"dense"}, set[str]()
    while joined != before:
        before = set(joined)
        days = {each["date"] for each in measured if each["method"] in joined}
        joined |= {each["method"] for each in measured if each["date"] in days}
    return joined
