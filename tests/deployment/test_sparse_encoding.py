"""Trees of sparse storage, small enough to check on paper."""

import numpy as np
import pytest

from keras_pdp.deployment.sparse_encoding import Level, SparseLayout, densify


def csr(segments, indices):
    return Level(0, np.array(segments, np.uint8), np.array(indices, np.uint8))


def test_rows_compressed():
    layout = SparseLayout((0, 1), (), (Level(2), csr([0, 1, 3], [2, 0, 1])))
    dense = densify(np.array([5, 7, 8]), layout, (2, 3))
    np.testing.assert_array_equal(dense, [[0, 0, 5], [7, 8, 0]])
    assert (layout.storage, layout.index_bytes) == ("csr", 6)


def test_columns_walked_first():
    layout = SparseLayout((1, 0), (), (Level(3), csr([0, 1, 1, 3], [1, 0, 1])))
    dense = densify(np.array([5, 7, 8]), layout, (2, 3))
    np.testing.assert_array_equal(dense, [[0, 0, 7], [5, 0, 8]])


def test_both_axes_compressed():
    layout = SparseLayout((0, 1), (), (csr([0, 2], [0, 3]), csr([0, 1, 3], [1, 0, 2])))
    dense = densify(np.array([5, 7, 8]), layout, (4, 3))
    assert dense[0, 1] == 5
    assert dense[3, 0] == 7
    assert dense[3, 2] == 8
    assert np.count_nonzero(dense) == 3


def test_blocks_of_two_columns():
    levels = (Level(2), csr([0, 1, 2], [1, 0]), Level(2))
    layout = SparseLayout((0, 1, 2), (1,), levels)
    dense = densify(np.array([1, 2, 3, 4]), layout, (2, 4))
    np.testing.assert_array_equal(dense, [[0, 0, 1, 2], [3, 4, 0, 0]])
    assert layout.storage == "block"


def test_square_blocks():
    levels = (Level(2), csr([0, 1, 1], [1]), Level(2), Level(2))
    layout = SparseLayout((0, 1, 2, 3), (0, 1), levels)
    dense = densify(np.array([1, 2, 3, 4]), layout, (4, 4))
    np.testing.assert_array_equal(dense[:2, 2:], [[1, 2], [3, 4]])
    assert np.count_nonzero(dense) == 4


def test_nothing_stored_is_zero():
    layout = SparseLayout((0, 1), (), (Level(2), csr([0, 0, 0], [])))
    dense = densify(np.empty(0, np.int8), layout, (2, 3))
    np.testing.assert_array_equal(dense, np.zeros((2, 3)))


@pytest.mark.parametrize(
    "layout, message",
    [
        (SparseLayout((0, 0), (), (Level(2), Level(3))), "each of 2 axes once"),
        (SparseLayout((0, 1), (), (Level(2),)), "each of 2 axes once"),
        (SparseLayout((0, 1, 2), (5,), (Level(2),) * 3), "blocks on axes"),
        (SparseLayout((0, 1, 2), (1,), (Level(2), Level(1), csr([0], []))), "block"),
        (SparseLayout((0, 1), (), (Level(2), csr([0, 1], [0]))), "contradict"),
        (SparseLayout((0, 1), (), (Level(2), csr([0, 3, 2], [0, 1]))), "contradict"),
        (SparseLayout((0, 1), (), (Level(2), csr([0, 1, 1], [0]))), "1 places for 2"),
        (SparseLayout((0, 1), (), (Level(2), csr([0, 1, 2], [0, 9]))), "outside axis"),
        (SparseLayout((0, 1), (), (Level(-1), Level(2))), "dense level of size -1"),
        (SparseLayout((0, 1), (), (Level(1 << 30), Level(1 << 30))), "dense level"),
    ],
)
def test_layouts_that_contradict_themselves(layout, message):
    with pytest.raises(ValueError, match=message):
        densify(np.array([1, 2]), layout, (2, 3))
