"""What is pruned together: how a kernel is cut into pools of units.

A kernel in the layout `(*window, in, out)` is viewed as `(pools, units, elements)`.
Units compete inside a pool and live or die whole. Scores, threshold and mask are
written once on that view, so that a granularity is no more than a pair of inverse
reshapes.

| granularity          | pools    | units in a pool          | elements of a unit |
|----------------------|----------|--------------------------|--------------------|
| `Unstructured()`     | 1        | all weights              | 1                  |
| `Channel(axis)`      | 1        | channels                 | the channel        |
| `Block(shape)`       | 1        | blocks of the last axes  | the block          |
| `NofM(n, m, axis)`   | size / m | m consecutive weights    | 1                  |
"""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pdp.sparsity import validation

# A backend's tensor (or a numpy array); the backends share no common type.
Tensor = Any
Shape = tuple[int, ...]

# Ranking a group takes memory of its square, and a shorter axis is padded to it.
_LARGEST_GROUP = 256

register = keras.saving.register_keras_serializable(package="keras_pdp")


class Granularity(abc.ABC):
    """A pair of inverse reshapes between a kernel and its units.

    Every method takes kernels of one to five axes. `split` and `join` take the array
    namespace as an argument, `keras.ops` by default, so that the same few lines serve
    tensors in a training step and numpy arrays in a report.
    """

    @abc.abstractmethod
    def split(self, w: Tensor, xp: Any = ops) -> Tensor:
        """Views a kernel as `(pools, units, elements)`, zero-padded at the end."""

    @abc.abstractmethod
    def join(self, units: Tensor, shape: Shape, xp: Any = ops) -> Tensor:
        """Puts `(pools, units, elements)` back into a kernel of `shape`."""

    @property
    def kept_per_pool(self) -> int | None:
        """Units every pool keeps; None where the sparsity decides."""
        return None

    @property
    def ignores_axes(self) -> bool:
        """Whether a kernel is cut in the same way as the vector of its weights."""
        return False

    @abc.abstractmethod
    def elements(self, shape: Shape) -> int:
        """Weights in a unit, padding counted."""

    def sizes(self, shape: Shape) -> np.ndarray:
        """Weights in each unit, `(pools, units)`; 0 for a unit that is only padding."""
        ones = np.ones(shape, np.float32)
        return self.split(ones, np).sum(axis=-1).astype(np.int64)

    def unit_count(self, shape: Shape) -> int:
        """Units that compete, padding not counted."""
        return int(np.count_nonzero(self.sizes(shape)))

    def prunable_count(self, shape: Shape) -> int:
        """The most units that may be pruned: one always stays."""
        return self.unit_count(shape) - 1

    def allowed(self, pruned: int, shape: Shape) -> int:
        """The nearest number of units that may be pruned."""
        return min(pruned, self.prunable_count(shape))

    def get_config(self) -> dict[str, Any]:
        """The fields, JSON-safe; `from_config(get_config())` is an equal value."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Granularity":
        """Builds the value from `get_config()`."""
        return cls(**config)


@register
@dataclasses.dataclass(frozen=True)
class Unstructured(Granularity):
    """Every weight on its own: the finest choice, and the most accurate.

    Example:

    >>> Unstructured().split(np.zeros((3, 4)), np).shape
    (1, 12, 1)
    """

    def split(self, w: Tensor, xp: Any = ops) -> Tensor:
        return xp.reshape(w, (1, math.prod(w.shape), 1))

    def join(self, units: Tensor, shape: Shape, xp: Any = ops) -> Tensor:
        return xp.reshape(units, shape)

    @property
    def ignores_axes(self) -> bool:
        return True

    def elements(self, shape: Shape) -> int:
        return 1

    def sizes(self, shape: Shape) -> np.ndarray:
        # One number seen everywhere: eight bytes a weight would be twice the kernel.
        return np.broadcast_to(np.int64(1), (1, math.prod(shape)))

    def unit_count(self, shape: Shape) -> int:
        return math.prod(shape)


@register
@dataclasses.dataclass(frozen=True)
class NofM(Granularity):
    """Keep `n` of every `m` consecutive weights along one axis.

    The axis counts in the layout `(*window, in, out)`; the default is the reduction
    axis. Where its length is no multiple of `m`, the last group holds the remainder
    and keeps its `n` largest weights, or all of them when it has no more than `n`.

    Args:
        n: Weights kept in a group, at least 1 and less than `m`. Defaults to 2.
        m: Weights in a group, at most 256. Defaults to 4.
        axis: The axis along which groups run. Defaults to -2, the input axis. A kernel
            of one axis has only that one.

    Raises:
        TypeError: If an argument is no integer.
        ValueError: If not 1 <= n < m <= 256.

    Example:

    >>> NofM(2, 4).split(np.zeros((10, 3)), np).shape  # 3 groups: 4 + 4 + 2
    (9, 4, 1)
    """

    n: int = 2
    m: int = 4
    axis: int = -2

    def __post_init__(self) -> None:
        # Stored as plain ints: JSON knows no numpy integers.
        object.__setattr__(self, "m", validation.integer("m", self.m, minimum=2))
        object.__setattr__(self, "n", validation.integer("n", self.n, minimum=1))
        object.__setattr__(self, "axis", validation.integer("axis", self.axis))
        if self.n >= self.m:
            raise ValueError(
                "`NofM(n, m)` keeps n of every m weights, so n should be less than m. "
                f"Received: n={self.n}, m={self.m}."
            )
        if self.m > _LARGEST_GROUP:
            raise ValueError(
                f"`m` should be at most {_LARGEST_GROUP}: a pattern is of a few "
                "weights that hardware takes together; for more use Unstructured(). "
                f"Received: n={self.n}, m={self.m}."
            )

    @property
    def kept_per_pool(self) -> int:
        return self.n

    def split(self, w: Tensor, xp: Any = ops) -> Tensor:
        axis = _position(self.axis, w.shape)
        w = xp.moveaxis(w, axis, -1)
        padding = -w.shape[-1] % self.m
        if padding:
            w = xp.pad(w, [(0, 0)] * (len(w.shape) - 1) + [(0, padding)])
        return xp.reshape(w, (math.prod(w.shape) // self.m, self.m, 1))

    def join(self, units: Tensor, shape: Shape, xp: Any = ops) -> Tensor:
        axis = _position(self.axis, shape)
        length = shape[axis]
        rest = shape[:axis] + shape[axis + 1 :]
        w = xp.reshape(units, (*rest, length + -length % self.m))
        return xp.moveaxis(w[..., :length], -1, axis)

    def elements(self, shape: Shape) -> int:
        return 1

    def unit_count(self, shape: Shape) -> int:
        return math.prod(shape)

    def prunable_count(self, shape: Shape) -> int:
        group = (self.sizes(shape)).sum(axis=1)
        return int(np.maximum(group - self.n, 0).sum())


@register
@dataclasses.dataclass(frozen=True)
class Block(Granularity):
    """Blocks of the last two axes `(in, out)`, for kernels that take whole blocks.

    Where a side is no multiple of the block's, the last block is smaller and is scored
    by the weights it really has. A kernel of one axis is taken as `(n, 1)`.

    Args:
        shape: Rows (input axis) and columns (output axis) of a block, each at least 1.
            Defaults to `(4, 1)`: four consecutive inputs of one output.

    Raises:
        TypeError: If `shape` is no pair of integers.
        ValueError: If a side is less than 1, or both are 1.

    Example:

    >>> Block((4, 1)).split(np.zeros((10, 3)), np).shape
    (1, 9, 4)
    """

    shape: tuple[int, int] = (4, 1)

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple | list) or len(self.shape) != 2:
            raise TypeError(
                "`Block(shape)` should be a pair (rows, columns), for example (4, 1). "
                f"Received: {self.shape!r}."
            )
        sides = tuple(validation.integer("shape", side, 1) for side in self.shape)
        if sides == (1, 1):
            raise ValueError("A block of shape (1, 1) is `Unstructured()`; use that.")
        # A list comes back from JSON; equal blocks must compare equal.
        object.__setattr__(self, "shape", sides)

    def split(self, w: Tensor, xp: Any = ops) -> Tensor:
        rows, columns = self._sides(w.shape)
        matrix = xp.reshape(w, self._matrices(w.shape))
        window, high, wide = matrix.shape
        grid_high, grid_wide = -(-high // rows), -(-wide // columns)
        padding = (grid_high * rows - high, grid_wide * columns - wide)
        if any(padding):
            matrix = xp.pad(matrix, [(0, 0), (0, padding[0]), (0, padding[1])])
        grid = xp.reshape(matrix, (window, grid_high, rows, grid_wide, columns))
        blocks = xp.transpose(grid, (0, 1, 3, 2, 4))
        return xp.reshape(blocks, (1, window * grid_high * grid_wide, rows * columns))

    def join(self, units: Tensor, shape: Shape, xp: Any = ops) -> Tensor:
        rows, columns = self._sides(shape)
        window, high, wide = self._matrices(shape)
        grid_high, grid_wide = -(-high // rows), -(-wide // columns)
        blocks = xp.reshape(units, (window, grid_high, grid_wide, rows, columns))
        grid = xp.transpose(blocks, (0, 1, 3, 2, 4))
        matrix = xp.reshape(grid, (window, grid_high * rows, grid_wide * columns))
        return xp.reshape(matrix[:, :high, :wide], shape)

    def elements(self, shape: Shape) -> int:
        return math.prod(self._sides(shape))

    def _sides(self, shape: Shape) -> tuple[int, int]:
        """The block, no larger than the kernel: padding takes memory."""
        _, high, wide = self._matrices(shape)
        return min(self.shape[0], high), min(self.shape[1], wide)

    @staticmethod
    def _matrices(shape: Shape) -> tuple[int, int, int]:
        """The kernel as `(window, in, out)`."""
        high, wide = (shape[0], 1) if len(shape) == 1 else shape[-2:]
        return math.prod(shape) // (high * wide), high, wide


@register
@dataclasses.dataclass(frozen=True)
class Channel(Granularity):
    """Whole channels along one axis: what can be removed from the model physically.

    Args:
        axis: The channel axis in the layout `(*window, in, out)`. Defaults to -1, the
            output channels. A kernel of one axis has only that one.
        round_to: The channels that a kernel keeps are a multiple of it, for hardware
            that computes them in tiles; a kernel with fewer channels stays whole.
            Defaults to 1.

    Raises:
        TypeError: If an argument is no integer.
        ValueError: If `round_to` is less than 1.

    Example:

    >>> Channel().split(np.zeros((3, 3, 8, 16)), np).shape
    (1, 16, 72)
    >>> Channel(round_to=8).allowed(7, (3, 3, 8, 20))  # 13 would stay: 16 do
    4
    """

    axis: int = -1
    round_to: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "axis", validation.integer("axis", self.axis))
        multiple = validation.integer("round_to", self.round_to, minimum=1)
        object.__setattr__(self, "round_to", multiple)

    def __repr__(self) -> str:
        rounded = f", round_to={self.round_to}" if self.round_to > 1 else ""
        return f"Channel(axis={self.axis}{rounded})"

    def prunable_count(self, shape: Shape) -> int:
        channels = self.unit_count(shape)
        return max(channels - self.round_to, 0)

    def allowed(self, pruned: int, shape: Shape) -> int:
        return nearest_count(pruned, self.unit_count(shape), [(1, self.round_to)])

    def split(self, w: Tensor, xp: Any = ops) -> Tensor:
        axis = _position(self.axis, w.shape)
        channels = w.shape[axis]
        w = xp.moveaxis(w, axis, 0)
        return xp.reshape(w, (1, channels, math.prod(w.shape) // channels))

    def join(self, units: Tensor, shape: Shape, xp: Any = ops) -> Tensor:
        axis = _position(self.axis, shape)
        rest = shape[:axis] + shape[axis + 1 :]
        return xp.moveaxis(xp.reshape(units, (shape[axis], *rest)), 0, axis)

    def elements(self, shape: Shape) -> int:
        return math.prod(shape) // shape[_position(self.axis, shape)]


def nearest_count(
    pruned: int, channels: int, multiples: Sequence[tuple[int, int]]
) -> int:
    """How many of some channels may be pruned, near a wanted number.

    One always stays. Between equally near ones the smaller is taken.

    Args:
        pruned: The wanted number.
        channels: How many there are.
        multiples: Pairs `(times, m)`: `times` the channels that stay should be a
            multiple of m, unless all of them stay.

    Example:

    >>> nearest_count(7, 20, [(1, 8)])
    4
    """
    fits = [
        channels - kept
        for kept in range(channels, 0, -1)
        if kept == channels or all(kept * times % m == 0 for times, m in multiples)
    ]
    return min(fits, key=lambda count: abs(count - pruned))


def check(granularity: object) -> Granularity:
    """Returns `granularity`, or raises a TypeError that says what one looks like."""
    if isinstance(granularity, Granularity):
        return granularity
    hint = " Instantiate it." if isinstance(granularity, type) else ""
    raise TypeError(
        "`granularity` should be a value such as Unstructured(), NofM(2, 4), "
        f"Block((4, 1)) or Channel(). Received: {granularity!r}.{hint}"
    )


def _position(axis: int, shape: Shape) -> int:
    """The axis as an index >= 0; a kernel of one axis has only that one."""
    axes = len(shape)
    if axes == 1:
        return 0
    if not -axes <= axis < axes:
        raise ValueError(
            f"axis={axis} does not exist in a kernel of shape {tuple(shape)}; "
            f"it should be between {-axes} and {axes - 1}."
        )
    return axis % axes
