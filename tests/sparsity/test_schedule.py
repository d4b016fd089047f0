"""Every schedule is 0, then rises, then is 1; moments in three units."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_pdp import (
    Constant,
    Epochs,
    Exponential,
    Linear,
    PerEpoch,
    Polynomial,
    Position,
    Steps,
)
from keras_pdp.sparsity import schedule as schedules

RAMPS = [Linear, Polynomial, Exponential]
STEPS_PER_EPOCH = 50


def at(epoch, epochs=100):
    """The position after `epoch` epochs of 50 steps."""
    return Position(epoch, epoch * STEPS_PER_EPOCH, epochs)


moments = st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(
    lambda pair: pair[1] - pair[0] > 1e-6
)
ramps = st.one_of(
    st.builds(lambda m: Linear(*m), moments),
    st.builds(lambda m, p: Polynomial(*m, power=p), moments, st.floats(0.1, 20)),
    st.builds(lambda m, r: Exponential(*m, rate=r), moments, st.floats(1e-3, 50)),
    st.builds(
        lambda m: Linear(Epochs(100 * m[0]), Epochs(100 * m[1])),
        moments,
    ),
    st.builds(
        lambda m: Polynomial(Steps(5000 * m[0]), Steps(5000 * m[1])),
        moments,
    ),
    st.builds(Constant, st.floats(0, 1)),
    st.builds(Linear.paper, st.integers(1, 30), st.floats(0.01, 1.0)),
)


@given(ramps, st.floats(0, 100), st.floats(0, 100))
def test_schedules_rise_from_0_to_1(schedule, epoch, other):
    early, late = sorted([epoch, other])
    # Powers and exponentials are rounded: a last digit may fall.
    assert 0.0 <= schedule(at(early)) <= schedule(at(late)) + 1e-12 <= 1.0 + 1e-12


@given(st.sampled_from(RAMPS), moments, st.floats(0, 1))
def test_ramps_are_0_before_their_begin_and_1_from_their_end(ramp, moment, fraction):
    begin, end = moment
    value = ramp(begin, end)(Position(fraction, fraction, 1))
    if fraction <= begin:
        assert value == 0.0
    elif fraction >= end:
        assert value == 1.0
    else:
        assert 0.0 <= value <= 1.0


@pytest.mark.parametrize(
    "schedule, values",
    [
        (Linear(0.2, 0.6), [0.0, 0.25, 0.5, 0.75, 1.0]),
        (Polynomial(0.2, 0.6), [0.0, 37 / 64, 7 / 8, 63 / 64, 1.0]),
        (Polynomial(0.2, 0.6, power=1), [0.0, 0.25, 0.5, 0.75, 1.0]),
        (Polynomial(0.2, 0.6, power=2), [0.0, 7 / 16, 3 / 4, 15 / 16, 1.0]),
        (
            Exponential(0.2, 0.6),
            [(1 - math.exp(-4 * p)) / (1 - math.exp(-4)) for p in (0, 0.25, 0.5)]
            + [(1 - math.exp(-3)) / (1 - math.exp(-4)), 1.0],
        ),
        (Constant(0.4), [0.0, 0.0, 1.0, 1.0, 1.0]),
    ],
)
def test_values_by_hand(schedule, values):
    for epoch, value in zip([20, 30, 40, 50, 60], values, strict=True):
        assert schedule(at(epoch)) == pytest.approx(value, abs=1e-12)
    assert schedule(at(0)) == schedule(at(19.9)) == 0.0
    assert schedule(at(60.1)) == schedule(at(100)) == 1.0


def test_exponential_with_a_small_rate_is_linear():
    for epoch in (20, 30, 47.5):
        assert Exponential(0.1, 0.6, rate=1e-9)(at(epoch)) == pytest.approx(
            Linear(0.1, 0.6)(at(epoch))
        )


def test_defaults():
    assert Linear() == Linear(0.1, 0.5)
    assert Polynomial() == Polynomial(0.1, 0.5, power=3)
    assert Exponential() == Exponential(0.1, 0.5, rate=4)
    assert Constant() == Constant(0.0)
    assert Constant()(at(0)) == 1.0


def test_one_ramp_in_fractions_epochs_and_steps():
    ways = [
        Linear(0.2, 0.6),
        Linear(Epochs(20), Epochs(60)),
        Linear(Steps(1000), Steps(3000)),
    ]
    for epoch in (0, 20, 27.5, 40, 59.98, 60, 99):
        values = [way(at(epoch)) for way in ways]
        assert values == pytest.approx([values[0]] * 3, abs=1e-12)
    assert Constant(Epochs(3))(at(2.99)) == Constant(Steps(150))(at(2.98)) == 0.0
    assert Constant(Epochs(3))(at(3)) == Constant(Steps(150))(at(3)) == 1.0


def test_fractions_follow_the_length_of_the_run_and_epochs_do_not():
    assert Linear(0.0, 0.5)(at(2, epochs=8)) == 0.5
    assert Linear(0.0, 0.5)(at(2, epochs=4)) == 1.0
    assert Linear(Epochs(0), Epochs(4))(at(2, epochs=8)) == 0.5
    assert Linear(Epochs(0), Epochs(4))(at(2, epochs=4)) == 0.5


def test_the_papers_schedule():
    paper = Linear.paper(16, 0.015)
    assert paper == Linear.paper()
    table = {0: 0.0, 15: 0.0, 16: 0.015, 17: 0.03, 49: 0.51, 81: 0.99, 82: 1.0}
    for epoch, fraction in table.items():
        assert paper(at(epoch)) == pytest.approx(fraction, abs=1e-12), epoch
        # Held within the epoch.
        for part in (0.01, 0.5, 0.98):
            assert paper(at(epoch + part)) == paper(at(epoch))
    assert paper(at(15)) == 0.0
    assert paper(at(82)) == 1.0


def test_a_run_may_have_steps_without_end():
    assert Linear(Steps(5), Steps(10))(Position(3, math.inf, 3)) == 1.0


@pytest.mark.parametrize(
    "schedule, freeze_at",
    [
        (Linear(Epochs(1), Epochs(2)), 0.9),
        (Constant(Steps(5)), 0.9),
        (Linear(0.1, 0.5), Epochs(3)),
        (PerEpoch(Linear(0.1, 0.5)), 0.9),
    ],
)
def test_a_fraction_of_the_run_does_not_place_epochs_and_steps(schedule, freeze_at):
    with pytest.raises(ValueError, match=r"needs Position\(.*freeze_at=.*"):
        schedules.check_in_fractions(schedule, freeze_at)


@pytest.mark.parametrize("freeze_at", [0.9, None])
def test_a_fraction_of_the_run_places_fractions(freeze_at):
    schedules.check_in_fractions(Linear(0.1, 0.5), freeze_at)


@given(st.integers(1, 40), st.floats(0.01, 1.0), st.integers(0, 150))
def test_the_papers_formula(warmup, rate, epoch):
    wanted = min(1.0, max(0.0, rate * (epoch - warmup + 1)))
    assert Linear.paper(warmup, rate)(at(epoch)) == pytest.approx(wanted, abs=1e-9)


def test_a_schedule_held_during_each_epoch():
    for inner in (
        Linear(0.0, 1.0),
        Linear(Epochs(0), Epochs(10)),
        Linear(Steps(0), Steps(500)),
    ):
        held = PerEpoch(inner)
        for epoch, value in [(0, 0), (0.5, 0), (1, 0.1), (3.98, 0.3), (10, 1)]:
            assert held(at(epoch, epochs=10)) == pytest.approx(value, abs=1e-12)


def test_reached():
    assert schedules.reached(0.5, at(50))
    assert not schedules.reached(0.5, at(49.9))
    assert schedules.reached(Epochs(3), at(3)) and not schedules.reached(
        Epochs(3), at(2.9)
    )
    assert schedules.reached(Steps(7), Position(0.1, 7, 1))
    assert not schedules.reached(Steps(7), Position(0.1, 6, 1))


@pytest.mark.parametrize(
    "schedule, freeze_at",
    [
        (Linear(0.1, 0.8), 0.7),
        (Linear(Epochs(1), Epochs(8)), Epochs(7)),
        (Polynomial(Steps(1), Steps(80)), Steps(79)),
        (Constant(0.5), 0.4),
        (Linear.paper(16, 0.015), Epochs(60)),
        (PerEpoch(Exponential(0.1, 0.8)), 0.7),
    ],
)
def test_freezing_before_the_end_raises(schedule, freeze_at):
    with pytest.raises(ValueError, match="`freeze_at` .* before the end .* Received"):
        schedules.check_order(schedule, freeze_at)


@pytest.mark.parametrize(
    "schedule, freeze_at",
    [
        (Linear(0.1, 0.8), 0.8),
        (Linear(0.1, 0.8), 1),
        (Constant(0.5), 0.5),
        (Linear.paper(16, 0.015), Epochs(90)),
        # Which comes first depends on the run.
        (Linear(Epochs(1), Epochs(8)), 0.1),
        (Linear(Epochs(1), Epochs(8)), Steps(1)),
    ],
)
def test_freezing_later_is_right(schedule, freeze_at):
    assert schedules.check_order(schedule, freeze_at) is None


class Half(schedules.Schedule):
    def __call__(self, position):
        return 0.5


def test_a_schedule_of_ones_own():
    assert PerEpoch(Half())(at(3)) == 0.5
    assert Half().complete is None
    assert schedules.check_order(Half(), 0.0) is None


@pytest.mark.parametrize("schedule", [Linear(), Constant(), PerEpoch(Polynomial())])
def test_a_schedule_that_is_one_comes_back(schedule):
    assert schedules.check(schedule) is schedule


@pytest.mark.parametrize("moment", [0.0, 0.5, 1, Epochs(3), Steps(7)])
def test_a_moment_that_is_valid_comes_back(moment):
    assert schedules.check_moment("freeze_at", moment) == moment


@pytest.mark.parametrize(
    "schedule, freeze_at",
    [
        (Polynomial(), 0.7),
        (Linear(0.2, 0.4), 0.64),
        (Constant(0.6), 0.76),
        (Linear(0, 1), 1.0),
        (Linear(0, 0.5), 0.7),
        (Constant(), 0.4),
        (PerEpoch(Linear(0.2, 0.8)), 0.88),
        (Linear(Epochs(1), Epochs(2)), 0.7),
        (Constant(Steps(100)), 0.7),
        (Half(), 0.7),
    ],
)
def test_masks_freeze_two_fifths_of_the_way_from_the_ramps_end_to_the_runs(
    schedule, freeze_at
):
    """As far as the schedule says by fractions of the run where it ends."""
    assert schedules.TWO_FIFTHS_OF_THE_REST.after(schedule) == pytest.approx(freeze_at)


def test_the_defaults_and_their_moments_are_round_numbers():
    assert Polynomial(0.1, 0.5, 3.0) == schedules.OF_A_BUDGET
    assert Polynomial(0.0, 0.1, 3.0) == schedules.OF_PATTERNS
    after = schedules.TWO_FIFTHS_OF_THE_REST.after
    assert after(schedules.OF_A_BUDGET) == 0.7
    assert after(schedules.OF_PATTERNS) == 0.46


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda: Linear(0.5, 0.5), ValueError, r"Constant\(begin\).*begin=0.5, end=0"),
        (lambda: Linear(0.6, 0.5), ValueError, "should end after it begins"),
        (lambda: Linear(Epochs(5), Epochs(4)), ValueError, "end after it begins"),
        (lambda: Linear(-0.1, 0.5), ValueError, r"`begin` .* in \[0, 1\].* -0.1"),
        (lambda: Linear(0.1, 1.5), ValueError, r"`end` .* Epochs\(n\).* 1.5"),
        (lambda: Linear(0, 10), ValueError, r"Epochs\(n\) or Steps\(n\).* 10"),
        (lambda: Linear(0.1, Epochs(5)), ValueError, r"of one kind.* end=Epochs\("),
        (lambda: Linear(Steps(1), Epochs(5)), ValueError, "of one kind"),
        (lambda: Linear("0.1", 0.5), TypeError, "`begin` .* a number. Received: '0.1'"),
        (lambda: Linear(0.1, None), TypeError, "`end` .* a number. Received: None"),
        (lambda: Linear(True, 1.0), TypeError, "Received: True"),
        (lambda: Linear(0.1, math.nan), ValueError, "finite number. Received: nan"),
        (lambda: Polynomial(power=0), ValueError, "`power` .* greater than 0"),
        (lambda: Polynomial(power="3"), TypeError, "`power` .* Received: '3'"),
        (lambda: Polynomial(0.5, 0.4), ValueError, "should end after it begins"),
        (lambda: Exponential(rate=-4.0), ValueError, "`rate` .* Received: -4.0"),
        (lambda: Exponential(rate=math.inf), ValueError, "finite number"),
        (lambda: Constant(2.0), ValueError, r"`begin` .* in \[0, 1\].* Received: 2.0"),
        (lambda: Constant("now"), TypeError, "Received: 'now'"),
        (lambda: Epochs(-1), ValueError, r"`Epochs\(count\)` .* negative.* -1"),
        (lambda: Steps(-0.5), ValueError, r"`Steps\(count\)` .* negative.* -0.5"),
        (lambda: Epochs("3"), TypeError, r"`Epochs\(count\)` .* a number. .*'3'"),
        (lambda: Steps(math.inf), ValueError, "finite number. Received: inf"),
        (lambda: Position("1", 0, 1), TypeError, "`epoch` .* number. Received: '1'"),
        (lambda: Position(-0.1, 0, 1), ValueError, "`epoch` .* negative.* -0.1"),
        (lambda: Position(0, -1, 1), ValueError, "`step` .* negative.* -1"),
        (lambda: Position(0, math.nan, 1), ValueError, "`step` .* finite.* nan"),
        (lambda: Position(0, 0, 0), ValueError, "`epochs` .* at least 1.* 0"),
        (lambda: Position(0, 0, 1.5), TypeError, "`epochs` .* integer.* 1.5"),
        (lambda: PerEpoch(0.5), TypeError, "should be a Schedule .* Received: 0.5"),
        (lambda: Linear.paper(0), ValueError, "`warmup_epochs` .* at least 1.* 0"),
        (lambda: Linear.paper(1.5), TypeError, "`warmup_epochs` .* integer.* 1.5"),
        (lambda: Linear.paper(16, 0.0), ValueError, "`rate` .* Received: 0.0"),
        (lambda: Linear.paper(16, 1.5), ValueError, r"`rate` .* \(0, 1\].* 1.5"),
        (lambda: schedules.check(0.5), TypeError, "should be a Schedule .* 0.5"),
        (lambda: schedules.check(Linear), TypeError, r"Polynomial\(0.1, 0.5\)"),
    ],
)
def test_what_is_not_valid_raises(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_a_schedule_of_ones_own_may_give_any_fraction(fraction):
    assert schedules.fraction_at(lambda position: fraction, at(3)) == fraction


@pytest.mark.parametrize("fraction", [-0.01, 1.01, 2.0, math.nan])
def test_what_is_no_fraction_is_refused(fraction):
    with pytest.raises(ValueError, match=rf"in \[0, 1\]. Received: {fraction} from"):
        schedules.fraction_at(lambda position: fraction, at(3))
