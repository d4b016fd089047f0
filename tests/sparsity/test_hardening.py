"""How masks harden: geometrically, with the fraction of the final sparsity."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_pdp.sparsity.hardening import check, hardness


def test_by_hand():
    found = [hardness(100.0, fraction) for fraction in (0.0, 0.25, 0.5, 1.0)]
    assert found == pytest.approx([1.0, math.sqrt(10.0), 10.0, 100.0])


def test_1_hardens_nothing():
    assert [hardness(1.0, fraction) for fraction in (0.0, 0.3, 1.0)] == [1.0] * 3


@pytest.mark.parametrize("harden", [1, 1.0, 10, 1e6])
def test_a_number_from_1_to_a_million_comes_back(harden):
    assert check(harden) == harden


@pytest.mark.parametrize("harden", [0.999, 1e6 + 0.5, math.nan, math.inf])
def test_what_it_can_not_be(harden):
    with pytest.raises(ValueError, match="harden"):
        check(harden)


@pytest.mark.hypothesis
@given(st.floats(1, 1e6), st.lists(st.floats(0, 1), min_size=2))
def test_masks_never_soften(harden, fractions):
    found = [hardness(harden, fraction) for fraction in sorted(fractions)]
    assert all(1.0 <= value <= harden for value in found)
    assert found == sorted(found)
