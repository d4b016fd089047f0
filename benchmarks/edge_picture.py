"""The picture of benchmarks/edge.py: size against latency."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.edge_measure import Speed
from benchmarks.edge_rows import Row

_KINDS = {
    "dense": "tab:gray",
    "channels": "tab:orange",
    "unstructured": "tab:blue",
    "2:4": "tab:purple",
    "block": "tab:green",
}
_MARKERS = {"float32": "o", "float16": "^", "int8": "s"}


def draw(measured: Sequence[Row], path: Path) -> None:
    """Size against latency: a row a net, the first two; a column a runtime."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    nets = list(dict.fromkeys(each.net for each in measured))[:2]
    figure, axes = pyplot.subplots(
        len(nets), 2, figsize=(11, 4.6 * len(nets)), squeeze=False, layout="constrained"
    )
    for row, net in zip(axes, nets, strict=True):
        rows = [each for each in measured if each.net == net]
        _scatter(row[0], rows, f"{net}, native", [each.native for each in rows])
        _scatter(row[1], rows, f"{net}, browser", [each.browser for each in rows])
    figure.legend(
        handles=_handles(), loc="outside lower center", ncols=5, frameon=False
    )
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _scatter(
    axes: Any,
    rows: Sequence[Row],
    title: str,
    speeds: Sequence[Speed | None],
) -> None:
    axes.set(title=title, xlabel="file, kB", ylabel="latency, ms", xscale="log")
    axes.set_yscale("log")
    axes.grid(True, which="both", alpha=0.2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(_few)
        axis.set_tick_params(which="minor", labelsize=7)
    for each, speed in zip(rows, speeds, strict=True):
        if speed is None:
            continue
        kilobytes = each.raw_bytes / 1000
        full = each.stored == "sparse"
        colour = _colour(each.variant)
        axes.scatter(
            kilobytes,
            speed.ms,
            s=46,
            marker=_MARKERS[each.precision],
            edgecolors=colour,
            facecolors=colour if full else "none",
        )
        ours = each.variant.endswith(", prepared")
        axes.annotate(
            _label(each.variant),
            (kilobytes, speed.ms),
            # Below where the net was prepared: it often sits on the other's point.
            xytext=(0, -12) if ours else (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=colour,
        )


def _label(variant: str) -> str:
    """As short as can be told apart: `p` for prepared."""
    short = variant.replace("unstructured ", "").replace("channels ", "−")
    return short.replace(", prepared", " p").replace(" %", "%")


def _few(number: float, _: int) -> str:
    """Labels at 2 and 5 of every decade."""
    return f"{number:g}" if f"{number:e}"[0] in "25" else ""


def _handles() -> list[Any]:
    from matplotlib.lines import Line2D

    kinds = [
        Line2D([], [], color=colour, marker="o", linestyle="", label=kind)
        for kind, colour in _KINDS.items()
    ]
    precisions = [
        Line2D([], [], color="k", marker=marker, ls="", mfc="none", label=precision)
        for precision, marker in _MARKERS.items()
    ]
    filled = Line2D([], [], color="k", marker="o", ls="", label="stored sparsely")
    prepared = Line2D([], [], ls="", label="p: prepared for sparse inference")
    return [*kinds, *precisions, filled, prepared]


def _colour(variant: str) -> str:
    return next(colour for kind, colour in _KINDS.items() if variant.startswith(kind))
