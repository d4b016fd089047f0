"""What is known of a model's channels, in the words in which rules say it.

Every tensor carries an id for each of its channels. A layer's rule says which ids its
outputs carry, which axes of its weights run along which ids, which settings count them,
and what it does to a channel that holds a constant. Everything else is derived.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from keras_pdp.channels.graph import Call, Shape
from keras_pdp.channels.tensor import Array, Tensor, Value
from keras_pdp.channels.ties import Ids, Ties


@dataclasses.dataclass(frozen=True, eq=False)
class Slice:
    """An axis of a weight that runs along ids.

    Args:
        layer: The layer that was called.
        name: Where it is in the model.
        variable: The weight.
        axis: Which of its axes.
        ids: The id of each position.
        makes: Whether the weight makes these channels, rather than reads them.
    """

    layer: keras.Layer
    name: str
    variable: keras.Variable
    axis: int
    ids: Ids
    makes: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """A number in a layer's configuration that counts ids.

    Args:
        layer: The layer.
        key: The entry of its configuration.
        position: Which item of a list; None for a plain number.
        ids: What it counts.
    """

    layer: keras.Layer
    key: str
    position: int | None
    ids: Ids


@dataclasses.dataclass(frozen=True, eq=False)
class Work:
    """Multiply-accumulates of one call: `constant * product of the kept ids`."""

    layer: keras.Layer
    constant: int
    ids: tuple[Ids, ...]


class Knowledge(Protocol):
    """What a flow may ask and tell while values are computed."""

    def weight(self, variable: keras.Variable) -> Array:
        """The variable's value, with what was folded into it."""

    def bias(
        self, layer: keras.Layer, variable: keras.Variable | None
    ) -> Array | float:
        """The layer's bias, also one that folding gave it."""

    def consumed(self, by: Any, value: Value) -> None:
        """A layer sums over channels: notes what they hold."""

    def lost(self, ids: Ids, where: Array, reason: str) -> None:
        """Notes why channels that were constant are no longer so."""

    def needed(self, ids: Ids, where: Array) -> None:
        """Some channels stay, as others are computed with them."""


# Values of the inputs -> values of the outputs.
Flow = Callable[[Sequence[Value], Knowledge], list[Value]]


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One call with its tensors, and what it does to constants."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    flow: Flow


@dataclasses.dataclass(frozen=True, eq=False)
class Called:
    """What a rule is told of a call.

    Args:
        layer: The layer, out of its wrapper; or a function of `keras.ops`.
        name: Where it is in the model, for example `trunk/conv`.
        call: The arguments as they were given.
        inputs: The tensors among them, in order.
        shapes: Of the outputs that are used.
    """

    layer: Any
    name: str
    call: Call
    inputs: tuple[Tensor, ...]
    shapes: tuple[Shape, ...]


class Trace:
    """The channels of one model, and everything that runs along them.

    `follow.traced` makes it; rules fill it.
    """

    def __init__(self) -> None:
        self.ties = Ties()
        self.slices: dict[tuple[int, int], Slice] = {}
        self.settings: list[Setting] = []
        self.works: list[Work] = []
        self.steps: list[Step] = []
        self._elsewhere: dict[tuple[int, int | None], str] = {}
        self._refused: dict[int, str] = {}

    def pinned(self, shape: Shape, reason: str) -> Tensor:
        """A tensor whose last axis stays whole, and whose others are not followed."""
        sized = bool(shape) and shape[-1] is not None
        tensor = self.new(shape, axes=[-1] if sized else [])
        self.ties.pin(tensor.every_id, reason)
        return tensor

    def new(self, shape: Shape, axes: Sequence[int]) -> Tensor:
        """A tensor with fresh ids on some axes."""
        wanted = {axis % len(shape) for axis in axes}
        ids = [
            self.ties.fresh(size) if axis in wanted and size is not None else None
            for axis, size in enumerate(shape)
        ]
        return Tensor(tuple(shape), tuple(ids))

    def hold(self, tensor: Tensor, axis: int, reason: str) -> Ids | None:
        """Pins one axis; gives its ids."""
        ids = tensor.ids[axis]
        if ids is not None:
            self.ties.pin(ids, reason)
        return ids

    def cut(
        self,
        called: Called,
        variable: keras.Variable | None,
        axis: int,
        ids: Ids | None,
        makes: bool = False,
    ) -> None:
        """Says that an axis of a weight runs along ids."""
        if variable is None:
            return
        axis %= len(variable.shape)
        if ids is None:
            self._not_here(called, variable, axis)
            return
        for key in ((id(variable), axis), (id(variable), None)):
            if key in self._elsewhere:
                self.ties.pin(ids, self._elsewhere[key])
        known = self.slices.get((id(variable), axis))
        if known is not None:  # a layer called again, or a shared variable
            self.ties.tie(known.ids, ids)
            return
        self.slices[id(variable), axis] = Slice(
            called.layer, called.name, variable, axis, ids, makes
        )

    def count(
        self, layer: keras.Layer, key: str, ids: Ids | None, position: int | None = None
    ) -> None:
        """Says that a setting counts ids, of every call of the layer the same."""
        if ids is None:
            return
        if id(layer) in self._refused:  # all stay, and so does the setting
            self.ties.pin(ids, self._refused[id(layer)])
            return
        for known in self.settings:
            if (known.layer, known.key, known.position) != (layer, key, position):
                continue
            if len(known.ids) == len(ids):
                self.ties.tie(known.ids, ids)
                return
            told = f"calls of '{layer.name}' differ in their channels"
            for each in (known.ids, ids):
                self.ties.pin(each, told)
            self.settings.remove(known)
            self._refused[id(layer)] = told
            return
        self.settings.append(Setting(layer, key, position, ids))

    def works_on(
        self, layer: keras.Layer, constant: int, *ids: Ids | None, sizes: Any = ()
    ) -> None:
        """Says how many multiply-accumulates a call takes."""
        for each, size in zip(ids, sizes, strict=False):
            if each is None:
                constant *= size
        kept = tuple(each for each in ids if each is not None)
        self.works.append(Work(layer, constant, kept))

    def passes(
        self, called: Called, outputs: Sequence[Tensor], flow: Flow | None = None
    ) -> list[Tensor]:
        """Ends a rule: what comes out, and what happens to constants on the way."""
        # New tensors, also where a rule answers what it was given: another value.
        made = tuple(Tensor(each.shape, each.ids) for each in outputs)

        def nothing_known(inputs: Sequence[Value], _: Knowledge) -> list[Value]:
            return [Value.unknown(tensor) for tensor in made]

        self.steps.append(Step(called.name, called.inputs, made, flow or nothing_known))
        return list(made)

    def refuse(self, called: Called, reason: str) -> list[Tensor]:
        """Ends a rule that can't follow: what goes in and comes out stays whole.

        The weights of the layer stay whole too, also where another call is followed.
        """
        for tensor in called.inputs:
            self.ties.pin(tensor.every_id, reason)
        for variable in getattr(called.layer, "variables", ()):
            self._not_here(called, variable, None)
        told = f"'{called.name}' has a setting that a call needs which is not followed"
        self._refused[id(called.layer)] = told
        for known in self.settings:
            if known.layer is called.layer:
                self.ties.pin(known.ids, told)
        return self.passes(called, [self.pinned(s, reason) for s in called.shapes])

    def _not_here(
        self, called: Called, variable: keras.Variable, axis: int | None
    ) -> None:
        """Pins an axis of a weight (or all) that this call uses without ids."""
        reason = f"'{called.name}' shares a weight with a call that is not followed"
        self._elsewhere[id(variable), axis] = reason
        for at in range(len(variable.shape)) if axis is None else [axis]:
            known = self.slices.get((id(variable), at))
            if known is not None:
                self.ties.pin(known.ids, reason)


def size_of(shape: Shape) -> int:
    """Elements of one sample; sizes that are not known count as 1."""
    return int(np.prod([n or 1 for n in shape[1:]], dtype=np.int64))
