"""The sparse storage of TFLite tensors: coordinates from index vectors.

A sparse constant is stored as a tree. Each level of the tree walks one axis, in
`traversal_order`; a level is either *dense* (every position is present) or
*compressed* (`segments[p] : segments[p + 1]` are the places in `indices` of the
children of node `p`, as in CSR). The leaves, left to right, are the stored values.

Axes numbered `rank` and above are the insides of blocks: axis `rank + b` runs inside
the blocks of axis `block_map[b]`, so that

    position on axis a = position of the block on a * block size + position inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Level:
    """One level of the tree: an axis walked densely, or through index vectors.

    Args:
        size: positions on the axis, for a dense level. A compressed level has 0: its
            indices say which positions exist.
        segments: for a compressed level, where the children of each node begin; one
            entry more than there are nodes. `None` for a dense level.
        indices: for a compressed level, the positions of all children.
    """

    size: int
    segments: Array | None = None
    indices: Array | None = None

    @property
    def index_bytes(self) -> int:
        """Bytes that the two index vectors take in the file."""
        vectors = (self.segments, self.indices)
        return sum(vector.nbytes for vector in vectors if vector is not None)


@dataclass(frozen=True, eq=False)
class SparseLayout:
    """How the stored values of a sparse tensor are laid out.

    Args:
        order: the axis that each level walks.
        block_map: the axis that each block axis lies on; empty without blocks.
        levels: one for each entry of `order`.
    """

    order: tuple[int, ...]
    block_map: tuple[int, ...]
    levels: tuple[Level, ...]

    @property
    def storage(self) -> str:
        """`"block"` when values are stored by blocks, else `"csr"`."""
        return "block" if self.block_map else "csr"

    @property
    def index_bytes(self) -> int:
        """Bytes of all index vectors."""
        return sum(level.index_bytes for level in self.levels)


def densify(values: Array, layout: SparseLayout, shape: Sequence[int]) -> Array:
    """Puts stored values at their places in a dense array of zeros.

    Zeros, and not zero points: what stands where nothing is stored is the number 0 in
    the runtime's `DENSIFY` too, whatever the quantization says that it means.

    Args:
        values: the stored values, one axis.
        layout: where they belong.
        shape: shape of the dense tensor.

    Returns:
        An array of `shape` and of the dtype of `values`.

    Raises:
        ValueError: the layout contradicts itself, the shape or the number of values.

    Example:
        A 2×3 matrix with two values, rows dense and columns compressed:

        >>> rows, columns = Level(2), Level(0, np.array([0, 1, 2]), np.array([2, 0]))
        >>> densify(np.array([5, 7]), SparseLayout((0, 1), (), (rows, columns)), (2, 3))
        array([[0, 0, 5],
               [7, 0, 0]])
    """
    _check_axes(layout, len(shape))
    if 0 in shape and not len(values):  # there is no place to check
        return np.zeros(tuple(shape), values.dtype)
    positions = _leaf_positions(layout, len(values))
    place = _join_blocks(layout, positions, len(shape))
    for axis, (where, size) in enumerate(zip(place, shape, strict=True)):
        outside = where.size and (where.min() < 0 or where.max() >= size)
        # A block may hang over the end of an axis that it does not divide; no
        # converter writes such files correctly, so this is an error and no padding.
        if outside:
            raise ValueError(f"a stored index lies outside axis {axis} of size {size}")
    dense = np.zeros(tuple(shape), values.dtype)
    dense[tuple(place)] = values
    return dense


def _check_axes(layout: SparseLayout, rank: int) -> None:
    axes = rank + len(layout.block_map)
    if sorted(layout.order) != list(range(axes)) or len(layout.levels) != axes:
        raise ValueError(
            f"the sparse layout of a tensor of {rank} axes walks {layout.order} in "
            f"{len(layout.levels)} levels; expected each of {axes} axes once"
        )
    if any(not 0 <= axis < rank for axis in layout.block_map):
        raise ValueError(f"blocks on axes {layout.block_map} of a rank {rank} tensor")
    walk = zip(layout.order, layout.levels, strict=True)
    inside = [level for axis, level in walk if axis >= rank]
    if any(level.segments is not None for level in inside):
        raise ValueError("the inside of a block is compressed; expected dense blocks")


def _leaf_positions(layout: SparseLayout, leaves: int) -> dict[int, Array]:
    """The position of every leaf on every walked axis, `{axis: positions}`."""
    nodes = 1
    positions: dict[int, Array] = {}
    for axis, level in zip(layout.order, layout.levels, strict=True):
        parent, position = _children(level, nodes, _node_limit(layout, leaves))
        positions = {known: at[parent] for known, at in positions.items()}
        positions[axis] = position
        nodes = len(position)
    if nodes != leaves:
        raise ValueError(f"the sparse layout has {nodes} places for {leaves} values")
    return positions


def _node_limit(layout: SparseLayout, leaves: int) -> int:
    # Nodes end as leaves or are counted by the segments of a later level, so a sound
    # file never has more; without the limit a few damaged bytes ask for any memory.
    counted = [len(x.segments) for x in layout.levels if x.segments is not None]
    return max([leaves, *counted])


def _children(level: Level, nodes: int, limit: int) -> tuple[Array, Array]:
    """For each node of the next level: its parent, and its position on the axis."""
    if level.segments is None or level.indices is None:
        if level.size < 0 or nodes * level.size > limit:
            raise ValueError(f"a dense level of size {level.size} under {nodes} nodes")
        parent = np.repeat(np.arange(nodes), level.size)
        return parent, np.tile(np.arange(level.size), nodes)
    counts: Array = np.diff(level.segments.astype(np.int64))
    sound = (
        len(counts) == nodes
        and level.segments[0] == 0
        and bool(np.all(counts >= 0))
        and int(level.segments[-1]) == len(level.indices)
    )
    if not sound:
        raise ValueError(
            f"the index vectors of a compressed level contradict each other: "
            f"{len(level.segments)} segments, {len(level.indices)} indices, "
            f"{nodes} nodes"
        )
    return np.repeat(np.arange(nodes), counts), level.indices.astype(np.int64)


def _join_blocks(
    layout: SparseLayout, positions: dict[int, Array], rank: int
) -> list[Array]:
    place = [positions[axis] for axis in range(rank)]
    for block, axis in enumerate(layout.block_map):
        size = layout.levels[layout.order.index(rank + block)].size
        place[axis] = place[axis] * size + positions[rank + block]
    return place
