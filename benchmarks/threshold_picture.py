"""The picture of the threshold benchmark: time a score against their number."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

_WAYS = {  # field of a row, line style, words
    "ours_ms": ("-", "ours"),
    "sort_ms": (":", "a sort"),
    "read_ms": ("--", "one read of the data"),
}
_COLOURS = ("tab:blue", "tab:cyan", "tab:green", "tab:orange")


def draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """A colour an engine, a style a way.

    Raises:
        ValueError: nothing was measured.
    """
    there = [result for result in results if result.get("rows")]
    if not there:
        raise ValueError(
            "expected measured thresholds to draw, received none; run "
            "`python benchmarks/threshold.py` first"
        )
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    figure, axes = pyplot.subplots(figsize=(8, 4.6), layout="constrained")
    for result, colour in zip(there, _COLOURS, strict=False):
        for field, (style, _) in _WAYS.items():
            rows = [row for row in result["rows"] if field in row]
            sizes = [row["size"] for row in rows]
            each = [row[field] / row["size"] * 1e6 for row in rows]
            axes.plot(sizes, each, style, color=colour, marker=".", lw=1.5)
    axes.set(xscale="log", yscale="log", xlabel="scores", ylabel="ns a score")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(True, alpha=0.2)
    engines = [
        Line2D([], [], color=colour, label=result["engine"])
        for result, colour in zip(there, _COLOURS, strict=False)
    ]
    ways = [
        Line2D([], [], color="k", ls=style, label=words)
        for style, words in _WAYS.values()
    ]
    figure.legend(handles=[*engines, *ways], loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
