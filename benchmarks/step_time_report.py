"""The tables of the step time benchmark and its goals, from what was measured."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.step_time_frameworks import FRAMEWORKS
from benchmarks.step_time_nets import Net
from benchmarks.step_time_process import FRESH_STEPS
from benchmarks.step_time_training import SPARSITY
from benchmarks.step_time_turns import DENSE, Row

Record = dict[str, Any]  # of one net, one mode, one framework

MODES = {"graph": False, "XLA": True}
RAMP, SORTED = "ours, ramp", "ours, ramp, by sorting"
AT_REST = ("ours, warm-up", "ours, frozen tail")
XLA_GOAL, REST_GOAL, FIRST_GOAL = 1.03, 1.01, 1.5  # of the dense step

_HEAD = """\
# What a training step costs

Made by `python benchmarks/step_time.py`, {dates}: {versions}, {machine}, {cores} cores.

Median of the steps, each framework's trainings in turn in one process, and the ratio to
the dense steps of the same turns in that process: compare ratios, not milliseconds, as
frameworks ran one after the other. `train_on_batch`, Adam, a batch in memory; graph
mode, and XLA for the whole step. Ours goes to {sparsity:.0%}: before pruning begins; on
the ramp, where the callback sets another sparsity in every step, which is timed with
it; and with frozen masks. By sorting is the ramp with a sort in place of the search for
the threshold. tfmot is on its ramp, with masks set anew every 100 steps, its default,
most of which the median leaves out, and in every step; PQuantML's PDP is halfway up its
ramp. What has no masks in a method (attention in PQuantML's, and in tfmot's in runs
until 2026-11-28; depthwise kernels in tfmot) stays dense there: see the weights that
have one, and the share of them that is pruned in the end.

First step and memory are of a process of its own for each training, of {fresh} steps:
from the call to the first loss, tracing and compilation and all; and the most memory
that the process held, libraries and all.
"""

_COLUMNS = (
    "training",
    "weights with a mask",
    "pruned",
    "steps",
    "median, ms",
    "of dense",
    "first step, s",
    "of dense",
    "peak, MB",
    "of dense",
)


def markdown(
    nets: Sequence[Net], records: Sequence[Record], modes: Sequence[str] = tuple(MODES)
) -> str:
    """The tables of all nets in those modes, and the goals."""
    parts = [_head(records), overview(nets, records, modes)] if records else []
    for net in nets:
        for mode in modes:
            found = measured(records, net, mode)
            if found:
                parts.append("\n".join(_table(net, mode, found)))
            elif mode == "XLA" and net.no_xla:
                parts.append(f"## {net.title}, {mode}\n\n{_sentence(net.no_xla)}")
    parts.append("\n".join(["## Goals", "", *goals(nets, records, modes)]))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def overview(
    nets: Sequence[Net], records: Sequence[Record], modes: Sequence[str]
) -> str:
    """One table of all ratios: a row a net and mode, a column a training."""
    names = [
        name
        for framework in FRAMEWORKS.values()
        for name in framework.variants
        if name != DENSE
    ]
    lines = [["of the dense step", *names], ["---"] * (len(names) + 1)]
    for net in nets:
        for mode in modes:
            ratios = {
                row["variant"]: f"{row['ratio']:.2f}"
                for record in measured(records, net, mode).values()
                for row in record["rows"]
                if "ratio" in row
            }
            if ratios:
                cells = [ratios.get(name, "–") for name in names]
                lines.append([f"{net.title}, {mode}", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _head(records: Sequence[Record]) -> str:
    versions: dict[str, str] = {}
    for record in records:
        versions |= record["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    first = records[0]
    return _HEAD.format(
        dates=", ".join(sorted({record["date"] for record in records})),
        versions=f"{named}, Python {first['python']}",
        machine=first["machine"],
        cores=first["cores"],
        sparsity=SPARSITY,
        fresh=FRESH_STEPS,
    )


def _table(net: Net, mode: str, records: Mapping[str, Record]) -> Iterator[str]:
    yield f"## {net.title}, batch {net.batch}, {mode}"
    yield ""
    yield f"Measured {', '.join(sorted({each['date'] for each in records.values()}))}."
    yield ""
    yield f"| {' | '.join(_COLUMNS)} |"
    yield "|---" * len(_COLUMNS) + "|"
    for framework, record in records.items():
        dense = _row(record, DENSE)
        for row in record["rows"]:
            name = row["variant"]
            title = FRAMEWORKS[framework].title
            cells = [f"{title}, {name}" if name == DENSE else name]
            if "reason" in row:
                cells.append(row["reason"].replace("|", "\\|"))
            elif "ratio" in row:
                cells += _cells(row, dense)
            else:
                cells.append("not measured: nothing to compare it with")
            cells += [""] * (len(_COLUMNS) - len(cells))
            yield f"| {' | '.join(cells)} |"


def _cells(row: Row, dense: Row) -> list[str]:
    return [
        f"{row['pruned']:,}" if row["pruned"] else "",
        f"{row['sparsity']:.0%}" if row["pruned"] else "",
        str(row["steps"]),
        f"{row['median_ms']:,.2f}",
        f"{row['ratio']:.3f}",
        f"{row['first_s']:.2f}",
        f"{row['first_s'] / dense['first_s']:.2f}",
        f"{row['peak_mb']:,.0f}",
        f"{row['peak_mb'] / dense['peak_mb']:.2f}",
    ]


def goals(
    nets: Sequence[Net], records: Sequence[Record], modes: Sequence[str] = tuple(MODES)
) -> list[str]:
    """What was to be reached, with the figures, and whether it is."""
    said = []
    for net in nets:
        for mode in modes:
            found = measured(records, net, mode)
            where = f"{net.title}, {mode}"
            if "keras" in found:
                told = [*_own_goals(net, mode, found["keras"]), *_beside_peers(found)]
                said += [f"* {where}, {line}" for line in told]
            elif mode == "XLA" and net.no_xla:
                said.append(f"* {where}: {net.no_xla}.")
            else:
                said.append(f"* {where}: not measured.")
    return said


def measured(records: Sequence[Record], net: Net, mode: str) -> dict[str, Record]:
    """What there is of a net in a mode, by framework, in the frameworks' order."""
    there = {
        record["framework"]: record
        for record in records
        if (record["net"], record["mode"]) == (net.name, mode)
    }
    return {name: there[name] for name in FRAMEWORKS if name in there}


def _own_goals(net: Net, mode: str, record: Record) -> Iterator[str]:
    steps = dict.fromkeys(AT_REST, REST_GOAL)
    steps[RAMP] = net.goal if mode == "graph" else XLA_GOAL
    for variant, goal in steps.items():
        ratio = _row(record, variant)["ratio"]
        verdict = _verdict(ratio <= goal)
        yield f"{variant}: {ratio:.3f} of the dense step, goal {goal}: {verdict}."
    dense = _row(record, DENSE)["first_s"]
    for variant in steps:
        ratio = _row(record, variant)["first_s"] / dense
        verdict = _verdict(ratio <= FIRST_GOAL)
        yield (
            f"first step of {variant}: {ratio:.2f} of the dense model's, goal "
            f"{FIRST_GOAL}: {verdict}."
        )


def _beside_peers(found: Mapping[str, Record]) -> Iterator[str]:
    ours = _row(found["keras"], RAMP)["ratio"]
    for framework, record in found.items():
        if not FRAMEWORKS[framework].peer:
            continue
        for row in record["rows"]:
            if row["variant"] == DENSE:
                continue
            beside = f"below {row['variant']}"
            if "reason" in row:
                yield f"{beside}: it {row['reason']}."
            else:
                verdict = _verdict(ours < row["ratio"])
                yield f"{beside}: {ours:.3f} against {row['ratio']:.3f}: {verdict}."


def _verdict(reached: bool) -> str:
    return "reached" if reached else "missed"


def _row(record: Record, variant: str) -> Row:
    return next(row for row in record["rows"] if row["variant"] == variant)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
