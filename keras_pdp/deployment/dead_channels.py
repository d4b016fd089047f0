"""Finds the channels of a model that say nothing but a constant.

A channel may go when everybody who reads it could do without: its number is the same
everywhere and can be added to the reader's bias instead, or the reader multiplies it by
zero. What goes takes others with it, so the search is repeated until nothing changes.

Where zero padding cuts a constant at the border, no bias can replace it, but another
constant can: of all such channels that a convolution reads one stays, the carrier, and
takes the taps of the others, in proportion to their constants.
"""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pdp.channels.rules.sums import Sum
from keras_pdp.channels.tensor import Array, Value
from keras_pdp.channels.ties import Ids
from keras_pdp.channels.trace import Slice, Trace

_LAST = "the last channel of its layer stays"
_CARRIER = "it carries the constants of others, which padding cuts at the border"


@dataclasses.dataclass(frozen=True, eq=False)
class Verdict:
    """What may go, and what the rest is then.

    Args:
        keep: bool by id: the channel stays.
        values: The weights with constants folded into biases, by `id` of the variable;
            those that did not change are not in it.
        biases: Biases for layers that had none, by `id` of the layer.
        held: For channels that a kernel no longer makes but that stay: why, by root.
    """

    keep: Array
    values: dict[int, Array]
    biases: dict[int, Array]
    held: dict[int, str]


def search(trace: Trace) -> Verdict:
    """Which channels of a model are dead.

    Args:
        trace: Its channels, from `keras_pdp.channels.follow.traced`.
    """
    weights = Weights()
    roots = trace.ties.all_roots()
    made = {int(r) for each in _makers(trace) for r in np.unique(roots[each.ids])}
    may_go = np.array([r in made and trace.ties.reason(r) is None for r in roots])
    silent = _silent(trace, roots, weights)
    dead = np.zeros(len(roots), bool)
    while True:
        reading = _read(trace, weights)
        free = may_go & _together(reading.free(carried=False), roots)
        carried = may_go & _together(reading.free(carried=True), roots) & ~free
        stay = reading.carriers(carried, roots)
        spared = _spare_last(trace, free | (carried & ~stay), roots)
        if not (spared & ~dead).any():
            break
        dead = spared
        reading.fold(dead, stay & ~dead)
        _empty(reading, trace, dead, weights)
    lost = {int(roots[each]): why for each, why in reading.lost_to.items()}
    lost |= dict.fromkeys(np.flatnonzero(stay).tolist(), _CARRIER)
    held = {
        root: _why(trace, root, free, lost, silent) for root in silent if not dead[root]
    }
    return Verdict(~dead, weights.changed, weights.biases, held)


class Weights:
    """The model's weights as arrays, with what was folded into them."""

    def __init__(self) -> None:
        self.changed: dict[int, Array] = {}
        self.biases: dict[int, Array] = {}
        self._read: dict[int, Array] = {}

    def of(self, variable: keras.Variable) -> Array:
        """The variable's value, float64 where it has been changed."""
        if id(variable) in self.changed:
            return self.changed[id(variable)]
        if id(variable) not in self._read:
            dtype = "float64" if variable.dtype == "float64" else "float32"
            value = ops.convert_to_numpy(ops.cast(variable.value, dtype))
            self._read[id(variable)] = np.asarray(value)
        return self._read[id(variable)]

    def add(self, layer: keras.Layer, bias: keras.Variable | None, part: Array) -> None:
        """Adds to a layer's bias; gives it one where it has none."""
        if bias is None:
            self.biases[id(layer)] = self.biases.get(id(layer), 0.0) + part
        else:
            self.changed[id(bias)] = self.of(bias).astype("float64") + part

    def move_taps(self, by: Sum, moved: Array, to: int, number: Array) -> None:
        """Adds the taps of some input channels to those of another."""
        assert by.axis is not None
        kernel = np.array(self.of(by.kernel), "float64")
        taps = np.moveaxis(kernel, by.axis, 0)
        taps[to] += np.tensordot(number[moved] / number[to], taps[moved], axes=1)
        self.changed[id(by.kernel)] = kernel


class _Reading:
    """One pass through the model: who reads which channels, and what they hold."""

    def __init__(self, weights: Weights, count: int) -> None:
        self._weights = weights
        self._count = count
        self.sums: dict[tuple[int, int], list[tuple[Sum, Value]]] = {}
        self.lost_to: dict[int, str] = {}
        self._needed = np.zeros(count, bool)

    # What the flows of the rules ask and tell.

    def weight(self, variable: keras.Variable) -> Array:
        return self._weights.of(variable)

    def bias(self, layer: keras.Layer, variable: keras.Variable | None) -> Any:
        if variable is not None:
            return self._weights.of(variable)
        return self._weights.biases.get(id(layer), 0.0)

    def consumed(self, by: Sum, value: Value) -> None:
        key = (id(by.layer), id(by.kernel))
        self.sums.setdefault(key, []).append((by, value))

    def lost(self, ids: Ids, where: Array, reason: str) -> None:
        for each in ids[where]:
            self.lost_to.setdefault(int(each), reason)

    def needed(self, ids: Ids, where: Array) -> None:
        self._needed[ids[where]] = True

    # What follows from it.

    def free(self, carried: bool) -> Array:
        """By id: every reader of the channel could do without it.

        Args:
            carried: Count constants that are cut at the border as well.
        """
        free = ~self._needed
        for calls in self.sums.values():
            first = calls[0][0].numbers(calls[0][1])
            for by, value in calls:
                seen = value if carried and by.axis is not None else by.whole(value)
                numbers = by.numbers(value)
                for letter, positions in by.free(seen, self).items():
                    # One bias serves all calls of a layer: they have to agree.
                    agree = _equal(numbers[letter], first.get(letter))
                    unread = ~by.reads(letter, self)
                    free[by.summed[letter][~(positions & (agree | unread))]] = False
        return free

    def carriers(self, carried: Array, roots: Ids) -> Array:
        """Of the channels that could go if another stayed: those that have to stay."""
        stay = np.zeros(len(roots), bool)
        for by, value in self._cut():
            ids, number = self._constants(by, value)
            mine = carried[ids] & (number != 0.0)
            if mine.any() and not (mine & stay[ids]).any():
                # The largest constant: the others' share of its taps stays small.
                best = ids[np.argmax(np.where(mine, np.abs(number), 0.0))]
                stay |= roots == roots[best]
        return stay

    def fold(self, dead: Array, stay: Array) -> None:
        """Adds to biases, or to a carrier's taps, what the dead channels had to say."""
        for calls in self.sums.values():
            by, value = calls[0]
            gone = {letter: dead[ids] for letter, ids in by.summed.items()}
            part = by.share(by.whole(value), gone, self)
            if part.any():
                self._weights.add(by.layer, by.bias, part)
        for by, value in self._cut():
            ids, number = self._constants(by, value)
            moved = dead[ids] & (number != 0.0)
            if moved.any():
                carrier = int(np.argmax(np.where(stay[ids], np.abs(number), 0.0)))
                self._weights.move_taps(by, moved, carrier, number)

    def _cut(self) -> list[tuple[Sum, Value]]:
        """The sums with a border at which constants are cut."""
        calls = (each[0] for each in self.sums.values())
        return [(by, v) for by, v in calls if by.cuts and by.axis is not None]

    def _constants(self, by: Sum, value: Value) -> tuple[Ids, Array]:
        """The ids of what is summed, and their constants.

        0 where there is none, and where the kernel has nothing for it: that one needs
        no carrier, and there may be none.
        """
        for letter, numbers in by.numbers(value).items():
            number = np.nan_to_num(numbers[:, 0])
            return by.summed[letter], np.where(by.reads(letter, self), number, 0.0)
        return np.empty(0, np.int64), np.empty(0)


def _equal(one: Array, other: Array | None) -> Array:
    if other is None:
        return np.zeros(len(one), bool)
    return np.asarray(((one == other) | (np.isnan(one) & np.isnan(other))).all(axis=1))


def _read(trace: Trace, weights: Weights) -> _Reading:
    reading = _Reading(weights, len(trace.ties))
    values: dict[int, Value] = {}
    for step in trace.steps:
        inputs = [values.get(id(t), Value.unknown(t)) for t in step.inputs]
        results = step.flow(inputs, reading)
        values |= {id(t): v for t, v in zip(step.outputs, results, strict=True)}
    return reading


def _empty(reading: _Reading, trace: Trace, dead: Array, weights: Weights) -> None:
    """Takes the dead channels out of the kernels, so that nobody reads them again."""
    kernels = {id(calls[0][0].kernel) for calls in reading.sums.values()}
    for (key, axis), each in trace.slices.items():
        gone = dead[each.ids]
        if key in kernels and gone.any():
            value = np.array(weights.of(each.variable), "float64")
            np.moveaxis(value, axis, 0)[gone] = 0.0
            weights.changed[key] = value


def _makers(trace: Trace) -> list[Slice]:
    return [each for each in trace.slices.values() if each.makes]


def _silent(trace: Trace, roots: Ids, weights: Weights) -> dict[int, str]:
    """The channels for which some kernel holds only zeros, and which kernel lives."""
    silent: set[int] = set()
    living: dict[int, str] = {}
    for each in _makers(trace):
        value = np.moveaxis(weights.of(each.variable), each.axis, 0)
        alive = value.reshape(len(value), -1).any(axis=1)
        silent |= set(roots[each.ids[~alive]].tolist())
        for root in roots[each.ids[alive]].tolist():
            living.setdefault(root, each.name)
    return {root: living.get(root, "") for root in silent}


def _why(
    trace: Trace,
    root: int,
    free: Array,
    lost: dict[int, str],
    silent: dict[int, str],
) -> str:
    pinned = trace.ties.reason(root)
    if pinned:
        return pinned
    if free[root]:
        return _LAST
    if root in lost:
        return lost[root]
    if silent[root]:
        return f"it is tied to a channel that '{silent[root]}' still makes"
    return (
        "what it holds is not one constant for all who read it (along another axis, or "
        "in the calls of a shared layer)"
    )


def _together(free: Array, roots: Ids) -> Array:
    """Tied channels go together or not at all."""
    stuck = np.zeros(len(roots), bool)
    stuck[roots[~free]] = True
    return ~stuck[roots]


def _spare_last(trace: Trace, free: Array, roots: Ids) -> Array:
    """Leaves every axis of every weight one channel."""
    free = free.copy()
    changed = True
    while changed:
        changed = False
        for each in trace.slices.values():
            if free[each.ids].all():
                free[roots == roots[each.ids[0]]] = False
                changed = True
    return free
