"""The picture of the accuracy benchmark: accuracy against sparsity, a panel a case."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.accuracy_methods import Method
from benchmarks.accuracy_report import Found, accuracies, name_of, summary
from benchmarks.accuracy_targets import DENSE, TARGETS, Weights

_COLOURS = {
    "ours": "tab:blue",
    "tfmot": "tab:orange",
    "pquant": "tab:red",
    "pdp-1e-4": "tab:purple",
    "pdp-1e-5": "tab:pink",
    "gradual": "tab:green",
    "straight-through": "tab:olive",
}


def draw(found: Found, methods: Mapping[str, Method], path: Path) -> None:
    """One panel for each case that has results of several seeds.

    Raises:
        ValueError: none has.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = [case for case, records in found.items() if _shown(records, methods)]
    if not cases:
        raise ValueError(
            "expected results of several seeds to draw, received none; run `python "
            "benchmarks/accuracy.py` first"
        )
    columns = min(len(cases), 2)
    rows = math.ceil(len(cases) / columns)
    figure, grid = pyplot.subplots(
        rows,
        columns,
        figsize=(5.6 * columns, 4.2 * rows + 0.6),
        squeeze=False,
        layout="constrained",
    )
    panels = list(grid.flat)
    for panel, case in zip(panels, cases, strict=False):
        _panel(panel, case.title, found[case], methods)
    for panel in panels[len(cases) :]:
        panel.set_visible(False)
    handles = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=2 * columns,
        frameon=False,
    )
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _panel(panel: Any, title: str, records: Any, methods: Mapping[str, Method]) -> None:
    shown = _shown(records, methods)
    panel.set(title=title, xlabel="zeros in the kernels", ylabel="test accuracy, %")
    # Even steps from target to target: where it matters they lie close together.
    panel.set_xticks(range(len(shown)), [name_of(each) for each in shown])
    panel.set_xlim(-0.5, len(shown) - 0.5)
    panel.grid(True, alpha=0.2)
    if dense := accuracies(records, "dense", DENSE):
        panel.axhline(summary(dense)[0], color="k", ls=":", label="dense")
    for name, colour in _COLOURS.items():
        points = [
            (place, *summary(numbers))
            for place, numbers in enumerate(
                accuracies(records, name, target) for target in shown
            )
            if len(numbers) > 1
        ]
        if points and name in methods:
            places, means, deviations = zip(*points, strict=True)
            panel.errorbar(
                places,
                means,
                deviations,
                color=colour,
                marker="o" if name == "ours" else ".",
                lw=2 if name == "ours" else 1,
                capsize=3,
                label=methods[name].title,
            )


def _shown(records: Any, methods: Mapping[str, Method]) -> list[Weights]:
    """Targets that a method has several seeds of: a single one has no spread."""
    return [
        target
        for target in TARGETS
        if isinstance(target, Weights)
        and any(accuracies(records, name, target)[1:] for name in methods)
    ]
