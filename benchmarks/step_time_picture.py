"""The picture of the step time benchmark: how many dense steps a step costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.step_time_nets import Net
from benchmarks.step_time_report import RAMP, SORTED, Record, measured

_STYLES = {
    "ours, warm-up": ("tab:blue", "^"),
    RAMP: ("tab:blue", "o"),
    "ours, frozen tail": ("tab:blue", "v"),
    SORTED: ("tab:cyan", "x"),
    "tfmot, every 100 steps": ("tab:orange", "s"),
    "tfmot, every step": ("tab:orange", "D"),
    "PQuantML's PDP": ("tab:red", "P"),
}


def draw(
    nets: Sequence[Net], records: Sequence[Record], modes: Sequence[str], path: Path
) -> None:
    """A row a net and mode, a mark a training.

    Raises:
        ValueError: nothing was measured.
    """
    rows = {
        f"{net.title}, {mode}": ratios
        for net in nets
        for mode in modes
        if (ratios := _ratios(measured(records, net, mode)))
    }
    if not rows:
        raise ValueError(
            "expected measured steps to draw, received none; run "
            "`python benchmarks/step_time.py` first"
        )
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        figsize=(9, 0.55 * len(rows) + 2), layout="constrained"
    )
    for name, (colour, marker) in _STYLES.items():
        found = [
            (ratios[name], place)
            for place, ratios in enumerate(rows.values())
            if name in ratios
        ]
        if found:
            across, down = zip(*found, strict=True)
            axes.scatter(across, down, color=colour, marker=marker, s=44, label=name)
    axes.axvline(1, color="k", lw=1, ls=":")
    axes.set(xscale="log", xlabel="time of a training step, in dense steps")
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xticks([1, 1.5, 2, 3, 5, 10])
    axes.xaxis.set_minor_formatter("")
    axes.grid(True, axis="both", alpha=0.2)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _ratios(found: Mapping[str, Record]) -> dict[str, float]:
    """Of every training that was measured, by its name."""
    return {
        row["variant"]: row["ratio"]
        for record in found.values()
        for row in record["rows"]
        if "ratio" in row
        and row["variant"] in _STYLES  # not the dense one, the line at 1
    }
