"""The table of the accuracy benchmark, from the records of its pieces."""

import math
import statistics
from collections.abc import Mapping, Sequence

from benchmarks import accuracy_time
from benchmarks.accuracy_cases import Case
from benchmarks.accuracy_methods import Method
from benchmarks.accuracy_peers import BEGIN
from benchmarks.accuracy_store import Record
from benchmarks.accuracy_targets import (
    DENSE,
    TARGETS,
    Channels,
    Pattern,
    Target,
    Weights,
)

Found = Mapping[Case, Sequence[Record]]

# Whatever the number of epochs: nothing, or a ramp by the epoch that begins later.
UNPRUNED_FIRST_EPOCH = ("dense", "pdp-1e-4", "pdp-1e-5")

_HEAD = """\
# Accuracy of pruned nets

Test accuracy in percent with exact zeros in the weights (the hard mask, stripped), mean
± standard deviation over seeds (how many, or which one). All methods of a case start
from the same weights and see the same batches in the same order for the same epochs,
with the same optimizer. Choices are made on a validation split that is cut from the
training data; the test data is for this table alone. Bold is the best mean of a column
among those of the most seeds; "not run" is what it says. The dense net has no zeros; it
stands in the first column.

50 % … 99 % are of all kernels' weights together, one budget for the net, where the
method has one. 2:4 and 1:4 keep two and one of every four weights along the inputs.
Channels go until half of the net's parameters can be removed, where the method counts
so; what could be removed in fact stands below each table. Time is processor time of the
training from `fit` to the plain net, graph building included, over that of the dense
net's in Keras 3, for tfmot too. Machines differed from day to day: least squares of the
logarithms tell methods from days, and the last lines say what they leave over; a dash
is a method that no chain of common days joins with the dense net.
`step_time.py` takes turns and tells what a step costs.
CIFAR-10 is as reassembled for this project: 97 of its images are JPEG decodes.
"""


def markdown(found: Found, methods: Mapping[str, Method]) -> str:
    """The tables of all cases.

    Args:
        found: of each case the records to show.
        methods: the rows, by name.
    """
    parts = [_HEAD]
    for case, records in found.items():
        parts.append(f"## {case.title}\n\n{_how(case)}\n")
        parts.append(_table(records, methods))
        parts += [f"{text}\n" for text in _below(case, records, methods) if text]
    notes = [f"- {m.title}: {text}" for m in methods.values() if (text := _about(m))]
    parts.append("## Methods\n\n" + "\n".join(notes) + "\n")
    parts.append(_uneven(found, methods))
    parts.append(_made(found))
    return "\n".join(parts)


def accuracies(records: Sequence[Record], method: str, target: Target) -> list[float]:
    """Of all seeds, in percent."""
    return [100 * each["test_accuracy"] for each in trained(records, method, target)]


def summary(numbers: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation, 0 of a single one."""
    return statistics.mean(numbers), statistics.stdev(numbers) if numbers[1:] else 0.0


def name_of(target: Target) -> str:
    """As the tables and the picture say it."""
    match target:
        case Weights(share):
            return f"{share:.0%}".replace("%", " %")
        case Channels():
            return "channels"
    return str(target)


def other_sparsity(records: Sequence[Record], methods: Mapping[str, Method]) -> str:
    """Where the zeros of the stripped net are not what was asked for."""
    found = []
    for name, method in methods.items():
        for target in _budgets():
            zeros = [each["sparsity"] for each in trained(records, name, target)]
            if zeros and abs(statistics.mean(zeros) - target.sparsity) > 5e-4:
                measured = f"{100 * statistics.mean(zeros):.2f} %"
                found.append(f"{method.title} {measured} at {name_of(target)}")
    return f"Zeros that are not as asked: {', '.join(found)}." if found else ""


def unlike_patterns(records: Sequence[Record], methods: Mapping[str, Method]) -> str:
    """Where one pattern made more zeros with one method than with another.

    None of them need be what the pattern says: not every kernel has whole groups.
    """
    found = []
    for target in TARGETS:
        if not isinstance(target, Pattern):
            continue
        by_share: dict[str, list[str]] = {}
        for name, method in methods.items():
            zeros = [each["sparsity"] for each in trained(records, name, target)]
            if zeros:
                share = f"{100 * statistics.mean(zeros):.2f} %"
                by_share.setdefault(share, []).append(method.title)
        if len(by_share) > 1:
            told = "; ".join(f"{s} {' / '.join(ms)}" for s, ms in by_share.items())
            found.append(f"Zeros at {target}: {told}.")
    return " ".join(found)


def at(records: Sequence[Record], method: str, target: Target) -> list[Record]:
    """The records of a method at a target, refusals too."""
    return [
        each
        for each in records
        if each["method"] == method and each["target"] == str(target)
    ]


def trained(records: Sequence[Record], method: str, target: Target) -> list[Record]:
    """Those of them that have an accuracy."""
    return [each for each in at(records, method, target) if "test_accuracy" in each]


def _how(case: Case) -> str:
    mirrored = ", half of the images mirrored" if case.flip else ""
    start = (
        " It starts from weights that were trained on the validation examples as well, "
        "which therefore flatter every method."
        if case.start
        else ""
    )
    return (
        f"{case.training:,} training, {case.validation:,} validation and "
        f"{case.test:,} test examples; {case.epochs} epochs in batches of "
        f"{case.batch}, {case.optimizer}{mirrored}.{start}"
    )


def _table(records: Sequence[Record], methods: Mapping[str, Method]) -> str:
    head = ["", *map(name_of, TARGETS), "time"]
    lines = [head, ["---"] * len(head)]
    best = {target: _best(records, methods, target) for target in TARGETS}
    times = accuracy_time.relative(records, methods)
    for name, method in methods.items():
        if name == "dense":
            rest = [""] * (len(TARGETS) - 1)
            lines.append([method.title, _cell(records, name, DENSE), *rest, "1"])
            continue
        cells = []
        for target in TARGETS:
            text = _cell(records, name, target)
            cells.append(f"**{text}**" if best[target] == name else text)
        time = f"{times[name]:.2f}" if name in times else "–"
        lines.append([method.title, *cells, time])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(records: Sequence[Record], method: str, target: Target) -> str:
    numbers = accuracies(records, method, target)
    if numbers[1:]:
        mean, deviation = summary(numbers)
        return f"{mean:.2f} ± {deviation:.2f} ({len(numbers)})"
    if numbers:
        (seed,) = _seeds(records, method, target)
        return f"{numbers[0]:.2f} (seed {seed})"
    reasons = {
        each["refused"] for each in at(records, method, target) if "refused" in each
    }
    return "; ".join(sorted(reasons)).replace("|", "\\|") or "not run"


def _best(
    records: Sequence[Record], methods: Mapping[str, Method], target: Target
) -> str | None:
    """Among those of the most seeds: means of different seeds don't compare."""
    seeds = {name: _seeds(records, name, target) for name in methods}
    most = max(seeds.values(), key=len)
    alike = [name for name in methods if seeds[name] == most]
    if len(most) < 2 or len(alike) < 2:
        return None
    return max(
        alike, key=lambda name: statistics.mean(accuracies(records, name, target))
    )


def _seeds(records: Sequence[Record], method: str, target: Target) -> set[int]:
    return {each["seed"] for each in trained(records, method, target)}


def _uneven(found: Found, methods: Mapping[str, Method]) -> str:
    """How far times are from their method's and their day's."""
    apart = [
        abs(each)
        for records in found.values()
        for each in accuracy_time.left_over(records, methods)
    ]
    if not apart:
        return ""
    return (
        "A training to a budget took as long as its method and its day make expect, "
        f"to a factor of {math.exp(statistics.median(apart)):.2f} in the median and "
        f"{math.exp(max(apart)):.1f} at most.\n"
    )


def _below(
    case: Case, records: Sequence[Record], methods: Mapping[str, Method]
) -> list[str]:
    return [
        _start(case, records),
        other_sparsity(records, methods),
        unlike_patterns(records, methods),
        _removed(records, methods),
        _the_same(records, methods),
    ]


def _start(case: Case, records: Sequence[Record]) -> str:
    """That all began alike shows in the first epoch, where it is before any pruning."""
    shown = [
        each
        for each in records
        if "losses" in each and each["target"] in ("dense", *map(str, _budgets()))
    ]
    if len({each["method"] for each in shown}) < 2:
        return ""
    starts = {(each["seed"], each["initial"]) for each in records}
    same = len(starts) == len({seed for seed, _ in starts})
    told = (
        f"The initial weights of a seed are {'the same' if same else '**different**'} "
        "to the bit"
    )
    whose = "of a seed"
    if BEGIN * case.epochs < 1:
        # All but these prune in it.
        shown = [each for each in shown if each["method"] in UNPRUNED_FIRST_EPOCH]
        whose = "of a seed of the dense net and of the paper's form"
    apart = 0.0
    for seed in {each["seed"] for each in shown}:
        losses = [each["losses"][0] for each in shown if each["seed"] == seed]
        apart = max(apart, max(losses) / min(losses) - 1)
    if not apart:
        return f"{told}."
    return (
        f"{told}; the training loss of the first epoch, before any pruning, differs "
        f"between all trainings {whose} by at most {apart:.1g} of its size."
    )


def _removed(records: Sequence[Record], methods: Mapping[str, Method]) -> str:
    told = _told_removed(_removals(records, methods), methods)
    return f"Parameters that `shrink` removes, channels: {told}." if told else ""


def other_removal(records: Sequence[Record], methods: Mapping[str, Method]) -> str:
    """Where the channels that can be removed save another part than was asked for."""
    removals = _removals(records, methods)
    asked = statistics.mean(t.share for t in TARGETS if isinstance(t, Channels))
    if all(abs(share - asked) < 0.01 for share in removals.values()):
        return ""
    told = _told_removed(removals, methods)
    return f"Parameters that pruned channels save: {told}."


def _removals(
    records: Sequence[Record], methods: Mapping[str, Method]
) -> dict[str, float]:
    """By method, of those that prune channels."""
    found = {}
    for name in methods:
        shares = [
            each["removed"]
            for target in TARGETS
            for each in trained(records, name, target)
            if "removed" in each
        ]
        if shares:
            found[name] = statistics.mean(shares)
    return found


def _told_removed(removals: Mapping[str, float], methods: Mapping[str, Method]) -> str:
    by_share: dict[str, list[str]] = {}
    for name, share in removals.items():
        by_share.setdefault(f"{100 * share:.1f} %", []).append(methods[name].title)
    return "; ".join(f"{share} {' / '.join(ms)}" for share, ms in by_share.items())


def _the_same(records: Sequence[Record], methods: Mapping[str, Method]) -> str:
    """Where two methods came to the same training, so that only one was compared.

    Behind a ReLU no gradient passes a channel that is 0, straight through or not.
    """
    found = []
    for target in TARGETS:
        by_losses: dict[str, list[str]] = {}
        for name, method in methods.items():
            losses = {e["seed"]: e["losses"] for e in trained(records, name, target)}
            if losses:
                key = str(sorted(losses.items()))
                by_losses.setdefault(key, []).append(method.title)
        found += [
            f"{' / '.join(ms)} at {name_of(target)}"
            for ms in by_losses.values()
            if len(ms) > 1
        ]
    return f"The same trainings to the bit: {', '.join(found)}." if found else ""


def _about(method: Method) -> str:
    weights = method.settings(Weights(0.9))
    told = [f"`{weights}`" if weights else ""]
    others: dict[str, Target] = {"patterns": Pattern(2, 4), "channels": Channels(0.5)}
    for name, target in others.items():
        if (settings := method.settings(target)) != weights:
            told.append(f"{name}: `{settings}`")
    return "; ".join(filter(None, (*told, method.note)))


def _made(found: Found) -> str:
    records = [each for some in found.values() for each in some]
    if not records:
        return "No piece is there yet: `python benchmarks/accuracy.py`.\n"
    versions = sorted(
        {
            f"{name} {number}"
            for each in records
            for name, number in each["versions"].items()
        }
    )
    dates = sorted({each["date"] for each in records})
    span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    trained = sum("test_accuracy" in each for each in records)
    return (
        f"{trained} trainings, {span}; {', '.join(versions)}. Made by "
        "`python benchmarks/accuracy.py`, and from its results this table by "
        "`python benchmarks/accuracy.py --table`.\n"
    )


def _budgets() -> list[Weights]:
    return [target for target in TARGETS if isinstance(target, Weights)]
