"""What benchmarks/edge.py found, as tables in Markdown."""

import math
from collections.abc import Sequence
from typing import Any

from benchmarks.edge_goals import Outcome
from benchmarks.edge_rows import Row

WHERE_NOTHING_IS_FASTER = """\
What does not get faster, and where: unstructured and N:M zeros make no file faster on
an x86 processor with AVX, whose runtime has no kernels for them, however the file is
stored; the runtime has no N:M kernels anywhere; and such zeros in int8 files make
nothing faster on any processor, because the sparse kernels are float ones. A row of a
small net that seems to say otherwise is to be held against those of int8 files that are
stored densely, which skip nothing: so much differs from file to file. What is faster in
both runtimes here is a net with fewer channels. No ARM device was timed."""


def markdown(
    rows: Sequence[Row],
    outcomes: Sequence[Outcome],
    circumstances: dict[str, Any],
) -> str:
    """The tables with what they mean."""
    parts = [
        "# Size, latency and agreement of pruned files",
        _made(circumstances),
        WHERE_NOTHING_IS_FASTER,
        "## Goals",
        _table(
            ("goal", "asked for", "measured", "reached"),
            [
                (o.goal, o.asked, o.measured, "yes" if o.reached else "**no**")
                for o in outcomes
            ],
        ),
        _LEGEND,
    ]
    for net in dict.fromkeys(each.net for each in rows):
        cells = [_cells(each) for each in rows if each.net == net]
        parts += [f"## {net}", _table(_HEAD, cells)]
    if circumstances["refused"]:
        lines = [
            f"* {each['net']}, {each['variant']}, {each['precision']}: {each['reason']}"
            for each in circumstances["refused"]
        ]
        parts += ["## Not written, because not right", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


_HEAD = (
    "variant",
    "weights",
    "stored",
    "verdict",
    "MACs, M",
    "non-zero",
    "kB",
    "gzipped",
    "native ms",
    "×",
    "browser ms",
    "×",
    "× int8",
    "load ms",
    "Keras",
    "dense twin",
    "browser",
)

_LEGEND = """\
**unstructured**, N:M and blocks: that part of the weights of 1×1 convolutions and Dense
layers is zero, the smallest of each kernel; other convolutions stay whole.

**×**: times faster than the dense file: that of the same weights for a file that is
stored sparsely, else the net of the same precision; **× int8**: than the net as dense
int8, in the browser. Medians of the ratios of single rounds, in each of which every
file of a net ran once, on one thread. **verdict**: whether the sparse kernels of ARM
and WebAssembly would take the file. The last three columns are relative differences of
the outputs over 64 random inputs: from the Keras model; from the dense file of the same
weights (0: the same to the bit); in the browser, from that dense file run natively."""


def _cells(each: Row) -> tuple[str, ...]:
    native, browser = each.native, each.browser
    shown = (
        (f"{browser.ms:.2f}", _times(browser.over_dense), _times(browser.over_int8))
        if browser
        else (each.browser_error or "–", "–", "–")
    )
    return (
        each.variant,
        each.precision,
        each.stored,
        each.verdict,
        f"{each.macs / 1e6:,.1f}",
        f"{each.nonzero_macs / 1e6:,.1f}",
        f"{each.raw_bytes / 1000:,.0f}",
        f"{each.gzip_bytes / 1000:,.0f}",
        f"{native.ms:.3f}",
        _times(native.over_dense),
        *shown,
        f"{browser.load_ms:.0f}" if browser else "–",
        f"{each.keras_difference:.0e}",
        _twin(each),
        _difference(each.browser_difference),
    )


def _made(circumstances: dict[str, Any]) -> str:
    versions = circumstances["versions"].items()
    machine = circumstances["machine"]
    return (
        f"`{circumstances['command']}`, {circumstances['date']}, "
        + ", ".join(f"{name} {number}" for name, number in versions)
        + f", Chromium {circumstances['chromium'] or '–'}, LiteRT.js "
        f"{circumstances['litertjs'] or '–'}; {machine['architecture']}, "
        f"{machine['cpu']} ({', '.join(machine['vector_extensions'])}), "
        f"{machine['cores']} cores, load at the start "
        f"{machine['load_average_at_start'][0]}. Random weights, pruned by magnitude: "
        "no accuracy here."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """On one line, without what would end the cell: reasons are not ours."""
    return " ".join(text.split()).replace("|", "\\|")


def _twin(each: Row) -> str:
    """0 is said of bytes, so not of a difference that only rounds to it."""
    if each.twin_identical is False and each.twin_difference == 0:
        return "not 0"
    return _difference(each.twin_difference)


def _times(ratio: float) -> str:
    return "–" if math.isnan(ratio) else f"{ratio:.2f}"


def _difference(value: float | None) -> str:
    if value is None:
        return "–"
    return "0" if value == 0 else f"{value:.0e}"
