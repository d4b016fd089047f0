"""Where a step on the ramp spends what the dense step does not: a profile.

    python -m benchmarks.step_parts              all nets; writes results/step_parts.md
    python -m benchmarks.step_parts --net mlp    one net; writes nothing

Dense and wrapped steps take turns with the parts of the wrapped one, each of which is
run alone for all kernels of the net: the callback's next sparsity, set after a step as
in training; the search for the threshold, the same with the masked kernel, its
gradient, and a frozen mask in both directions. Beside them is what memory allows: one
read of all kernels, and one read with one write. Graph mode, where the parts are
programs of their own; compiled as a whole they are no longer apart.
"""

import argparse
import datetime
import functools
import importlib.metadata
import itertools
import os
import platform
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from benchmarks.accuracy_nets import is_pruned
from benchmarks.step_time_nets import NETS, Net
from benchmarks.step_time_ours import BEGIN, END, ramp, tail
from benchmarks.step_time_training import SPARSITY, Task, dense
from benchmarks.step_time_turns import in_turn
from keras_pdp import PDPCallback, pruned_layers, wrap
from keras_pdp.sparsity import mask
from keras_pdp.training import masked_kernel
from keras_pdp.training.compiled import compiled, read, traced_once
from keras_pdp.training.pruned_kernel import PrunedKernel

RESULTS = Path(__file__).parent / "results"
PROFILED = ("small", "resnet20", "transformer", "mlp", "mlp128")
RAMP, FROZEN = tf.constant(1), tf.constant(2)  # `PrunedKernel.phase`
STEPS = {
    "dense step": dense,
    "step on the ramp": ramp,
    "step of the frozen tail": tail,
}
Part = Callable[[], object]


class Profiled:
    """The kernels of a net on the ramp, and the parts of a step for them."""

    def __init__(self, net: Net) -> None:
        model = wrap(net.build(keras), select=is_pruned)
        self.callback = PDPCallback(SPARSITY)
        self.callback.set_model(model)
        self.callback.update(BEGIN)
        self.model = model  # which the callback needs
        self.kernels = [k for layer in pruned_layers(model) for k in layer.kernels]
        self.weights = sum(kernel.size for kernel in self.kernels)

    def parts(self, steps: int) -> dict[str, Part]:
        """By what they are called in the table; each is run about so many times."""
        for_all = {
            "threshold": _threshold,
            "threshold and masked kernel": _forwards(RAMP),
            "its gradient": _backwards(RAMP),
            "frozen mask": _forwards(FROZEN),
            "its gradient, frozen": _backwards(FROZEN),
            "one read": _one_read,
            "one read and write": _one_write,
        }
        numbers = itertools.count()

        def callback() -> None:  # further on each time: it sets what has risen
            done = min(next(numbers) / steps, 1.0)
            self.callback.update(BEGIN + (END - BEGIN) * done)

        return {
            # In turn behind a step, as in training: by itself it takes a fraction.
            "callback": callback,
            **{name: _each(build, self.kernels) for name, build in for_all.items()},
        }


def _each(
    build: Callable[[PrunedKernel], Part], kernels: Iterable[PrunedKernel]
) -> Part:
    """The part of every kernel, in one function, as a step is: calls take time too."""
    built = [build(kernel) for kernel in kernels]
    function = tf.function(lambda: [part() for part in built], autograph=False)
    return lambda: function()[-1].numpy()  # waited for


def soft_cut(w: Any, pruned: Any, *, granularity: Any, layout: Any) -> Any:
    """The threshold alone."""
    return mask.soft_cut(layout.bring(w), pruned, granularity)


def _threshold(kernel: PrunedKernel) -> Part:
    w, pruned = read(kernel.variable), read(kernel.pruned)
    program = compiled(soft_cut, **kernel._static)
    return lambda: program(w, pruned)


def _forwards(phase: Any) -> Callable[[PrunedKernel], Part]:
    def build(kernel: PrunedKernel) -> Part:
        w, state = read(kernel.variable), _state(kernel)
        soft = traced_once(masked_kernel.soft, **kernel._static)
        return lambda: soft(w, phase, *state)[0]

    return build


def _backwards(phase: Any) -> Callable[[PrunedKernel], Part]:
    def build(kernel: PrunedKernel) -> Part:
        w, (pruned, tau, hardness, stored) = read(kernel.variable), _state(kernel)
        soft = traced_once(masked_kernel.soft, **kernel._static)
        _, t, *slope = soft(w, phase, pruned, tau, hardness, stored)
        given = tf.random.normal(w.shape), w, t, slope[0] if slope else None
        state = phase, pruned, tau, stored
        back = functools.partial(
            masked_kernel.soft_gradient,
            granularity=kernel.granularity,
            layout=kernel.layout,
        )
        return lambda: back(*given, *state)

    return build


def _state(kernel: PrunedKernel) -> tuple[Any, Any, Any, Any]:
    variables = kernel.pruned, kernel.tau, kernel.hardness, kernel.mask
    pruned, tau, hardness, stored = map(read, variables)
    return pruned, tau, hardness, stored


def _one_read(kernel: PrunedKernel) -> Part:
    w = read(kernel.variable)
    return lambda: tf.reduce_max(w)


def _one_write(kernel: PrunedKernel) -> Part:
    w = read(kernel.variable)
    return lambda: tf.negative(w)


def measured(net: Net) -> tuple[int, dict[str, float]]:
    """How many weights have a mask, and each part's milliseconds, as a median."""
    task = Task(net, jit=False, steps=net.steps)
    profiled = Profiled(net)
    parts = {name: start(task).step for name, start in STEPS.items()}
    parts |= profiled.parts(net.steps)
    for part in parts.values():
        part()  # traces and compiles
    times = in_turn(parts, net.steps)
    medians = {name: 1e3 * statistics.median(found) for name, found in times.items()}
    return profiled.weights, medians


def told(net: Net, weights: int, medians: dict[str, float]) -> list[str]:
    """The lines of a net."""
    step, reads = medians["dense step"], medians["one read"]
    lines = [
        "",
        f"## {net.title}, batch {net.batch}, {weights:,} weights with a mask",
        "",
        "| part | ms | of the dense step | in reads of the kernels |",
        "|---|---|---|---|",
    ]
    for name, ms in medians.items():
        lines.append(f"| {name} | {ms:.2f} | {ms / step:.3f} | {ms / reads:.1f} |")
    ours = ("callback", "threshold and masked kernel", "its gradient")
    more = medians["step on the ramp"] - step
    parts = sum(medians[name] for name in ours)
    lines += [
        "",
        f"On the ramp a step takes {more:.1f} ms more than the dense one; callback, "
        f"masked kernel and gradient take {parts:.1f} ms by themselves.",
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--net", choices=PROFILED, help="default: all")
    given = parser.parse_args()
    versions = (f"{p} {importlib.metadata.version(p)}" for p in ("keras", "tensorflow"))
    lines = [
        "# Where a step on the ramp spends its time",
        "",
        f"Made by `python -m benchmarks.step_parts`, {datetime.date.today()}: "
        f"{', '.join(versions)}, Python {platform.python_version()}, "
        f"{platform.machine()}, {os.cpu_count()} cores. Medians of steps and parts "
        "that took turns in one process; a part is run alone, for all kernels. "
        f"Graph mode, at {SPARSITY:.0%}.",
    ]
    for name in [given.net] if given.net else PROFILED:
        lines += told(NETS[name], *measured(NETS[name]))
    text = "\n".join(lines) + "\n"
    print(text)
    if not given.net:
        (RESULTS / "step_parts.md").write_text(text)


if __name__ == "__main__":
    main()
