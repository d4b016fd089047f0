"""Every stored kernel as `(*window, in, out)`, and back."""

import numpy as np
import pytest

from keras_pdp.sparsity import layout
from keras_pdp.sparsity.layout import Layout
from tests.sparsity import cases

# equation, stored shape, the kernel as (in, out) or (shared, in, out) in numpy's words
EINSUM = [
    ("ab,bc->ac", (4, 3), "bc->bc"),
    (" ab , bc -> ac ", (4, 3), "bc->bc"),
    ("abc,cd->abd", (4, 3), "cd->cd"),
    ("abc,cde->abde", (4, 3, 2), "cde->cde"),
    ("abcd,cde->abe", (4, 3, 2), "cde->cde"),
    ("...x,xy->...y", (4, 3), "xy->xy"),
    ("... x, x y -> ... y", (4, 3), "xy->xy"),
    ("ab...,bc->ac...", (4, 3), "bc->bc"),
    ("ab,cb->ac", (3, 4), "cb->bc"),
    ("abc,dec->abde", (2, 3, 4), "dec->cde"),
    ("abc,dce->abde", (2, 4, 3), "dce->cde"),
    ("abc,bcd->abd", (2, 4, 3), "bcd->bcd"),
    ("abc,cbd->abd", (4, 2, 3), "cbd->bcd"),
    ("abc,dbc->abd", (3, 2, 4), "dbc->bcd"),
    ("ab,b->ab", (4,), "b->b"),
    ("ab,b->a", (4,), "b->b"),
]
EINSUM_SHAPES = {
    "abc,cde->abde": (4, 6),
    "abcd,cde->abe": (12, 2),
    "...x,xy->...y": (4, 3),
    "ab,cb->ac": (4, 3),
    "abc,dec->abde": (4, 6),
    "abc,cbd->abd": (2, 4, 3),
    "ab,b->ab": (4, 1, 1),
    "ab,b->a": (4, 1),
}
LAYOUTS = [
    (layout.as_stored(1), (5,)),
    (layout.as_stored(2), (4, 3)),
    (layout.as_stored(4), (3, 3, 4, 2)),
    (layout.as_stored(5), (2, 3, 2, 4, 5)),
    (layout.transposed(2), (4, 3)),
    (layout.transposed(3), (3, 5, 2)),
    (layout.transposed(4), (3, 2, 5, 4)),
    (layout.transposed(5), (3, 2, 1, 5, 4)),
    (layout.depthwise(3), (5, 4, 2)),
    (layout.depthwise(4), (3, 2, 4, 2)),
    *((layout.einsum(equation), stored) for equation, stored, _ in EINSUM),
]


@pytest.mark.parametrize("way, stored", LAYOUTS)
def test_restore_undoes_bring(way, stored):
    w = cases.weights(stored)
    brought = way.bring(w, np)
    assert brought.shape == way.shape(stored)
    np.testing.assert_array_equal(way.restore(brought, stored, np), w)


@pytest.mark.parametrize("way, stored", LAYOUTS)
def test_tensors_are_laid_out_like_arrays(way, stored):
    w = cases.weights(stored)
    brought = way.bring(cases.tensor(w))
    np.testing.assert_array_equal(cases.array(brought), way.bring(w, np))
    np.testing.assert_array_equal(cases.array(way.restore(brought, stored)), w)
    keep = w > 0.0
    back = way.restore(way.bring(cases.tensor(keep, "bool")), stored)
    np.testing.assert_array_equal(cases.array(back), keep)


@pytest.mark.parametrize("axes", range(1, 6))
def test_stored_kernels_are_left_as_they_are(axes):
    w = cases.weights((2, 3, 4, 5, 2)[:axes])
    assert layout.as_stored(axes).bring(w, np) is w
    assert layout.as_stored(axes).restore(w, w.shape, np) is w


@pytest.mark.parametrize("axes", range(2, 6))
def test_transposed_kernels_swap_their_last_two_axes(axes):
    w = cases.weights((2, 3, 4, 5, 6)[:axes])
    brought = layout.transposed(axes).bring(w, np)
    np.testing.assert_array_equal(brought, np.swapaxes(w, -1, -2))


def test_depthwise_kernels_have_their_window_as_input():
    w = cases.weights((3, 2, 4, 5))
    brought = layout.depthwise(4).bring(w, np)
    assert brought.shape == (6, 20)
    # One column is one channel's window.
    np.testing.assert_array_equal(brought[:, 2 * 5 + 3], w[:, :, 2, 3].ravel())
    assert layout.depthwise(3).shape((7, 4, 2)) == (7, 8)


@pytest.mark.parametrize("equation, stored, permutation", EINSUM)
def test_einsum_kernels_are_permuted_and_merged(equation, stored, permutation):
    w = cases.weights(stored)
    way = layout.einsum(equation)
    wanted = np.einsum(permutation, w).reshape(way.shape(stored))
    np.testing.assert_array_equal(way.bring(w, np), wanted)
    if equation in EINSUM_SHAPES:
        assert way.shape(stored) == EINSUM_SHAPES[equation]


@pytest.mark.parametrize(
    "equation, stored, given",
    [
        ("ab,bc->ac", (4, 3), (2, 4)),
        ("ab,cb->ac", (3, 4), (2, 4)),
        ("abc,dec->abde", (2, 3, 4), (2, 5, 4)),
        ("abcd,cde->abe", (4, 3, 2), (2, 5, 4, 3)),
        ("...x,xy->...y", (4, 3), (2, 5, 6, 4)),
        ("ab...,bc->ac...", (4, 3), (2, 4, 5)),
    ],
)
def test_a_zero_column_of_the_layout_is_a_dead_output(equation, stored, given):
    """What the layout calls an output is one: the equation gives 0 there."""
    way = layout.einsum(equation)
    brought = way.bring(cases.weights(stored), np).copy()
    brought[:, 0] = 0.0
    out = np.einsum(equation, cases.weights(given), way.restore(brought, stored, np))
    assert np.count_nonzero(out == 0.0) == out.size // brought.shape[1]


def test_layouts_compare_by_value():
    assert layout.einsum("ab,bc->ac") == layout.as_stored(2)
    assert layout.einsum("ab,cb->ac") == layout.transposed(2)
    assert hash(layout.depthwise(4)) == hash(Layout((0, 1, 2, 3), (2, 2)))
