"""The accuracy benchmark at a glance: a row a net and target, and who is first."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.accuracy_cases import Case
from benchmarks.accuracy_methods import Method
from benchmarks.accuracy_report import (
    Found,
    at,
    name_of,
    other_removal,
    other_sparsity,
    summary,
    trained,
    unlike_patterns,
)
from benchmarks.accuracy_store import Record
from benchmarks.accuracy_targets import DENSE, TARGETS, Target, Weights

OURS = "ours"
_HIGH = 0.95  # where the margins are counted from
_GOAL = 0.8  # where the goal of being first begins
_NONE = "–"
Accuracies = Mapping[int, float]


@dataclass(frozen=True)
class Row:
    """One net at one target.

    Args:
        case, target: which.
        accuracies: of each method that ran, percent by seed.
    """

    case: Case
    target: Target
    accuracies: Mapping[str, Accuracies]

    @property
    def is_fair(self) -> bool:
        """Whether several seeds of ours stand beside several of another."""
        several = [name for name, found in self.accuracies.items() if len(found) > 1]
        return OURS in several and len(several) > 1

    def best(self) -> str:
        """The highest mean of those that had the seeds of ours."""
        return max(self._alike(), key=lambda name: self.behind(name, OURS))

    def rival(self) -> str | None:
        """The highest of the others of them."""
        others = [name for name in self._alike() if name != OURS]
        return max(others, key=lambda name: self.behind(name, OURS), default=None)

    def _alike(self) -> list[str]:
        seeds = self.accuracies[OURS].keys()
        return [n for n, found in self.accuracies.items() if seeds <= found.keys()]

    def compares(self, one: str, other: str) -> bool:
        """Whether some seed was run by both."""
        of = self.accuracies
        return bool(of.get(one, {}).keys() & of.get(other, {}).keys())

    def behind(self, better: str, name: str) -> float:
        """Points between two methods' means over the seeds that both have."""
        seeds = self.accuracies[better].keys() & self.accuracies[name].keys()
        of = self.accuracies
        return statistics.mean(of[better][seed] - of[name][seed] for seed in seeds)

    def level(self, other: str) -> bool:
        """Whether ours is within a standard deviation of it, its or the other's."""
        spread = max(
            summary(list(self.accuracies[name].values()))[1] for name in (OURS, other)
        )
        return abs(self.behind(other, OURS)) <= spread


def digest(found: Found, methods: Mapping[str, Method]) -> str:
    """The table, and what can be counted from it.

    Args:
        found: of each case the records to show.
        methods: the columns, by name.
    """
    rows = [row for row in rows_of(found, methods) if row.is_fair]
    if not rows:
        return "No row has several seeds of ours and of another method yet.\n"
    lines = [
        *_goal(rows, methods),
        *_margins(rows, methods),
        *_amiss(rows, found, methods),
    ]
    told = "".join(f"* {line}\n" for line in lines)
    return "\n".join([_table(rows, found, methods), told])


def rows_of(found: Found, methods: Mapping[str, Method]) -> Iterator[Row]:
    """All that were run by any method but the dense one."""
    for case, records in found.items():
        for target in TARGETS:
            ran = {name: _by_seed(records, name, target) for name in methods}
            if accuracies := {name: each for name, each in ran.items() if each}:
                yield Row(case, target, accuracies)


def _by_seed(records: Sequence[Record], method: str, target: Target) -> Accuracies:
    return {
        each["seed"]: 100 * each["test_accuracy"]
        for each in trained(records, method, target)
    }


def _table(rows: Sequence[Row], found: Found, methods: Mapping[str, Method]) -> str:
    names = [OURS, *(name for name in methods if name not in (OURS, "dense"))]
    head = ["", "", "dense", *(methods[name].title for name in names)]
    lines = [head, ["---"] * len(head)]
    cases = [row.case for row in rows]
    for number, row in enumerate(rows):
        dense = _cell(_by_seed(found[row.case], "dense", DENSE))
        first = cases.index(row.case) == number
        cells = [row.case.title, name_of(row.target), dense]
        if not first:  # a net's name and its dense accuracy stand once
            cells = ["", name_of(row.target), ""]
        for name in names:
            text = _cell(row.accuracies.get(name, {}))
            if text == _NONE and at(found[row.case], name, row.target):
                text = "can't"  # there are records, and all are refusals
            cells.append(f"**{text}**" if row.best() == name else text)
        lines.append(cells)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(accuracies: Accuracies) -> str:
    if not accuracies:
        return _NONE
    mean, deviation = summary(list(accuracies.values()))
    text = f"{mean:.1f} ± {deviation:.1f}" if len(accuracies) > 1 else f"{mean:.1f}"
    return text if len(accuracies) == 3 else f"{text} ({len(accuracies)})"


def _goal(rows: Sequence[Row], methods: Mapping[str, Method]) -> Iterator[str]:
    """How often ours is first where that is the goal, and where it is not."""
    aimed = [row for row in rows if not _is_below(row.target, _GOAL)]
    behind = [row for row in aimed if row.best() != OURS]
    ahead = [row for row in aimed if row not in behind]
    # Where no other had all seeds of ours, there is nothing to be ahead of.
    clear = [r for r in ahead if (rival := r.rival()) and not r.level(rival)]
    close = [row for row in behind if row.level(row.best())]
    yield (
        f"{len(aimed)} rows are at {_percent(_GOAL)} and above, of a pattern or of "
        f"channels. Ours has the highest mean in {len(ahead)}, in {len(clear)} of them "
        "by more than one standard deviation (the larger of the two methods'), is "
        f"within one of the highest in {len(close)}, and further behind in "
        f"{len(behind) - len(close)}."
    )
    for row in behind:
        points = row.behind(row.best(), OURS)
        yield (
            f"{row.case.title} at {name_of(row.target)}: {points:.1f} points behind "
            f"{methods[row.best()].title}"
            f"{'' if row.level(row.best()) else ', more than one standard deviation'}."
        )


def _margins(rows: Sequence[Row], methods: Mapping[str, Method]) -> Iterator[str]:
    """How far ours is ahead of each other method where much is pruned."""
    pruned = [
        row
        for row in rows
        if isinstance(row.target, Weights) and row.target.sparsity >= _HIGH
    ]
    for name, method in methods.items():
        points = [row.behind(OURS, name) for row in pruned if row.compares(OURS, name)]
        if name != OURS and points:
            mean, low, high = (
                round(number, 1) + 0.0  # or -0.04 would be -0.0
                for number in (statistics.mean(points), min(points), max(points))
            )
            yield (
                f"At {_percent(_HIGH)} and above: {mean:+.1f} points against "
                f"{method.title} on average ({low:+.1f} to {high:+.1f}, "
                f"{len(points)} rows)."
            )


def _amiss(
    rows: Sequence[Row], found: Found, methods: Mapping[str, Method]
) -> Iterator[str]:
    """Where a method's nets are pruned otherwise than their column says."""
    for case in dict.fromkeys(row.case for row in rows):
        for told in (other_sparsity, unlike_patterns, other_removal):
            if text := told(found[case], methods):
                yield f"{case.title}: {text[0].lower()}{text[1:]}"


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def _is_below(target: Target, sparsity: float) -> bool:
    return isinstance(target, Weights) and target.sparsity < sparsity
