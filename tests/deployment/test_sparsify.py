"""Sparse storage of arrays of every shape: what is stored unfolds to what was there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_pdp.deployment.sparse_encoding import densify
from keras_pdp.deployment.sparsify import compressed, in_blocks

DTYPES = [np.float32, np.float16, np.int8]


@st.composite
def kernels(draw, shapes, dtypes=DTYPES):
    """Arrays from free of zeros to all zero, with NaN, infinities and -0.0."""
    shape = draw(shapes)
    values = draw(hnp.arrays(draw(st.sampled_from(dtypes)), shape))
    return np.where(draw(hnp.arrays(bool, shape)), values, 0).astype(values.dtype)


def same_bits(a, b):
    """Equality to the bit, but for the sign of zeros, which is not stored."""
    a, b = (
        np.where(a == 0, 0, a).astype(a.dtype),
        np.where(b == 0, 0, b).astype(b.dtype),
    )
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@given(kernels(hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=9)))
def test_coordinates_unfold_to_the_array(values):
    stored, layout = compressed(values)
    assert same_bits(densify(stored, layout, values.shape), values)
    assert len(stored) == max(np.count_nonzero(values), min(values.size, 1))


@given(
    st.sampled_from([1, 2, 4, 16]).flatmap(
        lambda width: st.tuples(
            st.just(width),
            kernels(
                st.tuples(st.integers(0, 9), st.integers(0, 5).map(lambda n: n * width))
            ),
        )
    )
)
def test_blocks_unfold_to_the_array(case):
    width, values = case
    stored, layout = in_blocks(values, width)
    assert same_bits(densify(stored, layout, values.shape), values)
    assert len(stored) % width == 0
    blocks = np.any(values.reshape(-1, width) != 0, axis=1)
    assert len(stored) == width * max(np.count_nonzero(blocks), min(blocks.size, 1))


@pytest.mark.parametrize(
    "shape, axis",
    [
        ((5, 7), 1),
        ((7, 5), 0),
        ((6, 6), 1),
        ((32, 3, 3, 3), 0),
        ((8, 1, 1, 64), 3),
        ((1, 3, 3, 40), 3),
        ((1, 1, 1, 1), 3),
    ],
)
def test_the_axis_with_the_fewest_rows_is_compressed(shape, axis):
    values = np.zeros(shape, np.float32)
    values[(0,) * len(shape)] = 1
    stored, layout = compressed(values)
    assert layout.order[-1] == axis
    assert layout.levels[-1].segments.size == values.size // shape[axis] + 1


@pytest.mark.parametrize(
    "columns, kept, segments, indices",
    [
        (256, 255, "u1", "u1"),
        (256, 256, "u2", "u1"),
        (257, 255, "u1", "u2"),
        (65536, 65535, "u2", "u2"),
        (65537, 65536, "i4", "i4"),
    ],
)
def test_indices_are_as_small_as_they_can_be(columns, kept, segments, indices):
    values = np.zeros((1, columns), np.int8)
    values[0, :kept] = 1
    stored, layout = compressed(values)
    level = layout.levels[-1]
    assert (level.segments.dtype, level.indices.dtype) == (segments, indices)
    assert same_bits(densify(stored, layout, values.shape), values)


def test_nothing_but_zeros_is_stored_as_one_zero():
    for stored, layout in (
        compressed(np.zeros((3, 4), np.float16)),
        in_blocks(np.zeros((3, 4), np.float16), 4),
    ):
        assert not stored.any()
        assert stored.size in (1, 4)
        assert not densify(stored, layout, (3, 4)).any()


def test_negative_zeros_are_left_out():
    values = np.array([[-0.0, 2.0], [0.0, -0.0]], np.float32)
    stored, layout = compressed(values)
    assert stored.tolist() == [2.0]
    assert not np.signbit(densify(stored, layout, (2, 2))).any()


def test_values_without_a_place():
    _, layout = compressed(np.zeros((2, 0), np.float32))
    with pytest.raises(ValueError):
        densify(np.ones(1, np.float32), layout, (2, 0))


def test_a_number_has_no_axis_to_compress():
    with pytest.raises(ValueError, match="expected an array of one axis or more"):
        compressed(np.array(3.0))


def test_blocks_that_do_not_fill_a_row():
    with pytest.raises(ValueError, match="blocks of 4 in rows of 6"):
        in_blocks(np.zeros((2, 6)), 4)
