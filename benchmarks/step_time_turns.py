"""Steps of several trainings, timed in turn."""

import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Row = dict[str, Any]
DENSE = "dense"
SKIPPED = 1  # turns, after the first steps
# A training whose steps have taken so long takes no more of them, once it has some.
SECONDS, LEAST = 30.0, 3


def in_turn(
    steps: Mapping[str, Callable[[], object]], count: int
) -> dict[str, list[float]]:
    """Seconds of each one's steps, without the first turns."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    shuffled = random.Random(0)
    for turn in range(SKIPPED + count):
        # None always follows the same one, which may leave it less of the cache.
        for name in shuffled.sample(list(steps), len(steps)):
            if len(times[name]) >= LEAST and sum(times[name]) > SECONDS:
                continue
            start = time.perf_counter()
            steps[name]()
            if turn >= SKIPPED:
                times[name].append(time.perf_counter() - start)
    return times


def compared(times: Mapping[str, list[float]]) -> dict[str, Row]:
    """Medians, and their ratios to the dense steps of the same turns."""
    rows = {}
    for name, measured in times.items():
        median = statistics.median(measured)
        beside = statistics.median(times[DENSE][: len(measured)])
        rows[name] = {
            "steps": len(measured),
            "median_ms": median * 1e3,
            "ratio": median / beside,
        }
    return rows
