"""How masks harden: geometrically, between two moments in any units."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_pdp import Epochs, Position, Steps
from keras_pdp.sparsity.hardening import check, hardness

STEPS_PER_EPOCH = 50


def at(epoch, epochs=100):
    """The position after `epoch` epochs of 50 steps."""
    return Position(epoch, epoch * STEPS_PER_EPOCH, epochs)


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (0.5, 0.6),
        (Epochs(50), 0.6),
        (0.5, Epochs(60)),
        (Steps(2500), Steps(3000)),
        (Epochs(50), Steps(3000)),
    ],
)
def test_by_hand(begin, end):
    found = [hardness(100.0, begin, end, at(e)) for e in (0, 49, 50, 55, 57.5, 60, 99)]
    expected = [1.0, 1.0, 1.0, 10.0, 100**0.75, 100.0, 100.0]
    assert found == pytest.approx(expected)


def test_masks_that_never_freeze_harden_until_the_end_of_the_run():
    assert hardness(100.0, 0.5, None, at(75)) == pytest.approx(10.0)
    assert hardness(100.0, 0.5, None, at(100)) == 100.0


def test_a_schedule_that_does_not_say_when_it_is_complete_hardens_nothing():
    assert [hardness(100.0, None, 0.6, at(e)) for e in (0, 55, 100)] == [1.0] * 3


@pytest.mark.parametrize("moment", [0.0, Epochs(0), Steps(0)])
def test_a_moment_at_the_start(moment):
    assert hardness(100.0, moment, 0.5, at(0)) == 1.0
    assert hardness(100.0, moment, 0.5, at(25)) == pytest.approx(10.0)


def test_where_no_steps_are_counted_a_later_step_has_not_come():
    uncounted = Position(epoch=30, step=0, epochs=100)
    assert hardness(100.0, Steps(0), 0.6, uncounted) == pytest.approx(10.0)
    assert hardness(100.0, Steps(1), 0.6, uncounted) == 1.0


@pytest.mark.parametrize("moment", [0.5, Epochs(50), Steps(2500)])
def test_where_freezing_is_no_later_there_is_nothing_between(moment):
    assert hardness(100.0, moment, 0.5, at(49.9)) == 1.0
    assert hardness(100.0, moment, 0.5, at(50.1)) == 100.0
    assert hardness(100.0, moment, 0.2, at(50.1)) == 100.0


@pytest.mark.parametrize("harden", [1, 1.0, 10, 1e6])
def test_a_number_from_1_to_a_million_comes_back(harden):
    assert check(harden) == harden


@pytest.mark.parametrize("harden", [0.999, 1e6 + 0.5, math.nan, math.inf])
def test_what_it_can_not_be(harden):
    with pytest.raises(ValueError, match="harden"):
        check(harden)


moments = st.one_of(
    st.floats(0, 1),
    st.builds(Epochs, st.floats(0, 100)),
    st.builds(Steps, st.floats(0, 100 * STEPS_PER_EPOCH)),
)


@pytest.mark.hypothesis
@given(
    st.floats(1, 1e6),
    moments,
    st.one_of(st.none(), moments),
    st.lists(st.floats(1e-6, 100), min_size=2),
)
def test_masks_never_soften(harden, begin, end, epochs):
    """Bounded, and at the pace of epochs and steps together it never falls."""
    found = [hardness(harden, begin, end, at(e)) for e in sorted(epochs)]
    assert all(1.0 <= value <= harden for value in found)
    assert all(math.isfinite(value) for value in found)
    for earlier, later in zip(found, found[1:], strict=False):
        # Moments are placed by the pace so far, to rounding.
        assert later >= earlier * (1 - 1e-6)
