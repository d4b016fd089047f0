"""What benchmarks/edge.py found: JSON, tables in Markdown, and the picture."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.edge_goals import Outcome
from benchmarks.edge_measure import Measurement
from benchmarks.edge_picture import draw

WHERE_NOTHING_IS_FASTER = """\
What does not get faster, and where: unstructured and N:M zeros make no file faster on
an x86 processor with AVX, whose runtime has no kernels for them, however the file is
stored; the runtime has no N:M kernels anywhere; and such zeros in int8 files make
nothing faster on any processor, because the sparse kernels are float ones. What is
faster everywhere is a net with fewer channels."""


def as_dict(
    measurements: Sequence[Measurement],
    outcomes: Sequence[Outcome],
    circumstances: dict[str, Any],
) -> dict[str, Any]:
    """Everything, ready for `json.dump`; `null` stands for what was not measured."""
    return {
        **circumstances,
        "goals": [vars(outcome) for outcome in outcomes],
        "files": [_row(each) for each in measurements],
    }


def write(
    folder: Path,
    name: str,
    measurements: Sequence[Measurement],
    outcomes: Sequence[Outcome],
    circumstances: dict[str, Any],
) -> None:
    """Writes NAME.json, NAME.md and NAME.png."""
    found = as_dict(measurements, outcomes, circumstances)
    text = json.dumps(_without_nan(found), indent=1)
    (folder / f"{name}.json").write_text(text + "\n")
    (folder / f"{name}.md").write_text(markdown(measurements, outcomes, circumstances))
    draw(measurements, folder / f"{name}.png")


def markdown(
    measurements: Sequence[Measurement],
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
    for net in dict.fromkeys(each.net for each in measurements):
        rows = [each for each in measurements if each.net == net]
        parts += [f"## {net}", _table(_HEAD, [_cells(each) for each in rows])]
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
**×**: times faster than the dense file: that of the same weights for a file that is
stored sparsely, else the net of the same precision; **× int8**: than the net as dense
int8, in the browser. Medians of the ratios of single rounds, in each of which every
file of a net ran once, on one thread. **verdict**: whether the sparse kernels of ARM
and WebAssembly would take the file. The last three columns are relative differences of
the outputs over 64 random inputs: from the Keras model; from the dense file of the same
weights (0: the same to the bit); in the browser, from that dense file run natively."""


def _cells(each: Measurement) -> tuple[str, ...]:
    file, native, browser = each.file, each.native, each.browser
    shown = (
        (f"{browser.ms:.2f}", _times(browser.over_dense), _times(browser.over_int8))
        if browser
        else (each.browser_error or "–", "–", "–")
    )
    return (
        file.variant,
        file.precision,
        file.stored,
        file.verdict,
        f"{file.macs / 1e6:,.1f}",
        f"{file.nonzero_macs / 1e6:,.1f}",
        f"{file.report.raw_bytes / 1000:,.0f}",
        f"{file.gzip_bytes / 1000:,.0f}",
        f"{native.ms:.3f}",
        _times(native.over_dense),
        *shown,
        f"{browser.load_ms:.0f}" if browser else "–",
        f"{file.report.relative_difference:.0e}",
        _difference(each.twin_difference),
        _difference(each.browser_difference),
    )


def _row(each: Measurement) -> dict[str, Any]:
    file = each.file
    return {
        "net": each.net,
        "variant": file.variant,
        "precision": file.precision,
        "stored": file.stored,
        "verdict": file.verdict,
        "macs": file.macs,
        "nonzero_macs": file.nonzero_macs,
        "raw_bytes": file.report.raw_bytes,
        "gzip_bytes": file.gzip_bytes,
        "dense_raw_bytes": file.report.storage.dense_raw_bytes,
        "dense_gzip_bytes": file.report.storage.dense_gzip_bytes,
        "native": vars(each.native),
        "browser": each.browser and vars(each.browser),
        "keras_difference": file.report.relative_difference,
        "twin_difference": each.twin_difference,
        "browser_difference": each.browser_difference,
        "browser_error": each.browser_error,
    }


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
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _times(ratio: float) -> str:
    return "–" if math.isnan(ratio) else f"{ratio:.2f}"


def _difference(value: float | None) -> str:
    if value is None:
        return "–"
    return "0" if value == 0 else f"{value:.0e}"


def _without_nan(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
