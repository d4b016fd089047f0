"""Dense arrays in the sparse storage of TFLite: the inverse of `densify`.

A value is left out when it equals 0. That takes -0.0 for 0.0, which it comes back as:
kernels that were multiplied by a mask hold as many of the one as of the other.

One value is stored at least, be it a zero: a tensor without any is none of a constant
to the runtime. Only of an empty array nothing is stored.
"""

import math
from collections.abc import Sequence

import numpy as np

from keras_pdp.deployment.sparse_encoding import Array, Level, SparseLayout


def compressed(values: Array) -> tuple[Array, SparseLayout]:
    """Stores what is not zero, with its positions on one axis, as CSR does.

    Args:
        values: an array of one axis or more.

    Returns:
        The stored values, one axis, and their layout. All axes but one are walked
        densely, and the last of the walk is the one that needs the fewest bytes of
        indices; of equals the last axis, as the converter has it.

    Raises:
        ValueError: it is a single number, without axes.

    Example:

        >>> stored, layout = compressed(np.array([[0, 0, 5], [7, 8, 0]]))
        >>> stored, layout.levels[1].segments, layout.levels[1].indices
        (array([5, 7, 8]), array([0, 1, 3], dtype=uint8), array([2, 0, 1], dtype=uint8))
    """
    if not values.ndim:
        raise ValueError(
            "expected an array of one axis or more, received a single number without "
            "axes; store that densely"
        )
    axis = _cheapest_axis(values.shape, max(int(np.count_nonzero(values)), 1))
    order = (*(other for other in range(values.ndim) if other != axis), axis)
    walked = values.transpose(order)
    present = _at_least_one(walked != 0)
    levels = (*map(Level, walked.shape[:-1]), _level(present))
    return walked[present], SparseLayout(order, (), levels)


def in_blocks(values: Array, width: int) -> tuple[Array, SparseLayout]:
    """Stores the blocks of `width` neighbours in a row that are not all zero.

    Args:
        values: a matrix `(rows, columns)`.
        width: columns in a block; it divides the number of columns.

    Returns:
        The values of the stored blocks, one axis, and their layout.

    Raises:
        ValueError: `width` does not divide the number of columns.
    """
    rows, columns = values.shape
    if columns % width:
        raise ValueError(f"blocks of {width} in rows of {columns}")
    cut = values.reshape(rows, columns // width, width)
    present = _at_least_one(np.any(cut != 0, axis=-1))
    levels = (Level(rows), _level(present), Level(width))
    return cut[present].reshape(-1), SparseLayout((0, 1, 2), (1,), levels)


def _cheapest_axis(shape: Sequence[int], count: int) -> int:
    def index_bytes(axis: int) -> int:
        rows = math.prod(shape) // max(shape[axis], 1)
        segments = (rows + 1) * _index_type(count).itemsize
        return segments + count * _index_type(shape[axis] - 1).itemsize

    return min(reversed(range(len(shape))), key=index_bytes)


def _at_least_one(present: Array) -> Array:
    if present.size and not present.any():
        present.flat[0] = True
    return present


def _level(present: Array) -> Level:
    """A compressed level for the last axis of `present`, under dense ones."""
    rows = present.reshape(math.prod(present.shape[:-1]), present.shape[-1])
    ends = np.cumsum(np.count_nonzero(rows, axis=1))
    segments = np.concatenate([[0], ends])
    indices = np.nonzero(rows)[1]
    return Level(
        0,
        segments.astype(_index_type(int(segments[-1]))),
        indices.astype(_index_type(present.shape[-1] - 1)),
    )


def _index_type(largest: int) -> np.dtype[np.generic]:
    """The smallest of the file format's three index types."""
    if largest < 1 << 8:
        return np.dtype("u1")
    return np.dtype("<u2" if largest < 1 << 16 else "<i4")
