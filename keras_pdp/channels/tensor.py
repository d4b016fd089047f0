"""A tensor of the graph: its shape, the ids on its axes, and what is known of it."""

import dataclasses
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from keras_pdp.channels.graph import Shape
from keras_pdp.channels.ties import Ids

Array: TypeAlias = NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """Args:

    shape: with the batch; None where a size is not known.
    ids: for each axis the ids of its positions; None for an axis along which nothing
        is removed (the batch, space, time).
    """

    shape: Shape
    ids: tuple[Ids | None, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def followed(self) -> tuple[int, ...]:
        """The axes with ids."""
        return tuple(i for i, each in enumerate(self.ids) if each is not None)

    @property
    def extent(self) -> tuple[int, ...]:
        """The shape with 1 for every axis that has no ids."""
        return tuple(1 if each is None else len(each) for each in self.ids)

    @property
    def every_id(self) -> Ids:
        """All ids of all axes."""
        found = [each for each in self.ids if each is not None]
        return np.concatenate(found) if found else np.empty(0, np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """What a tensor holds whatever the model's input is.

    Args:
        number: of the tensor's `extent`; meaningless where nothing is known.
        known: bool, of the same shape: the channel holds this one number everywhere.
    """

    number: Array
    known: Array

    @classmethod
    def unknown(cls, tensor: Tensor) -> "Value":
        """Of a tensor about which nothing is known."""
        return cls(np.zeros(tensor.extent), np.zeros(tensor.extent, bool))

    @property
    def zero(self) -> Array:
        """Where it is known to be exactly 0."""
        return self.known & (self.number == 0.0)
