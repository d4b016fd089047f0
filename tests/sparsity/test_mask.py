"""The masks against their formulas in float64, and against a ranking."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_pdp import Block, Calibrated, Channel, NofM, Unstructured
from keras_pdp.sparsity import mask, threshold
from tests.sparsity import cases

SHAPE = (3, 2, 7, 5)
STDS = [0.02, 0.2]


@functools.cache
def soft(granularity, mode=cases.MODES[0]):
    return cases.run(
        lambda w, pruned, tau: mask.soft_mask(w, pruned, tau, granularity), mode
    )


@functools.cache
def hard(granularity, mode=cases.MODES[0]):
    return cases.run(lambda w, pruned: mask.hard_mask(w, pruned, granularity), mode)


def soft_mask(w, pruned, tau, granularity, mode=cases.MODES[0]):
    function = soft(granularity, mode)
    return cases.array(
        function(cases.tensor(w), cases.count(pruned), cases.tensor(tau))
    )


def hard_mask(w, pruned, granularity, mode=cases.MODES[0]):
    return cases.array(hard(granularity, mode)(ops.convert_to_tensor(w), pruned))


def counts(granularity, shape):
    """A few numbers of units, from none to all that may go."""
    most = granularity.prunable_count(shape)
    if granularity.kept_per_pool is not None:
        return sorted({0, most})
    return sorted({0, min(1, most), most // 2, most})


class Formula:
    """PDP of one kernel in float64 numpy, its threshold held constant."""

    def __init__(self, w, pruned, granularity):
        self.w = w.astype("float64")
        self.granularity = granularity
        pool, unit = cases.membership(granularity, w.shape)
        self.number = cases.numbered(pool, unit)
        self.sizes = np.bincount(self.number.ravel())
        self.pool = np.zeros(len(self.sizes), int)
        self.pool[self.number] = pool
        self.s = self.scores(self.w)
        self.rho = 1.0
        if granularity.kept_per_pool is not None:
            self.rho = pruned / granularity.prunable_count(w.shape)
        self.t = np.zeros(pool.max() + 1)
        self.keep = np.ones(len(self.s), bool)
        self.whole = np.zeros(len(self.s), bool)
        for p in range(len(self.t)):
            inside = np.flatnonzero(self.pool == p)
            # Of equal scores the first ones lead.
            ranked = inside[np.argsort(-self.s[inside], kind="stable")]
            keep = granularity.kept_per_pool or len(inside) - pruned
            if len(inside) <= keep:
                self.whole[inside] = True
                continue
            self.t[p] = (self.s[ranked[keep - 1]] + self.s[ranked[keep]]) / 2
            self.keep[ranked[keep:]] = False

    def scores(self, w):
        square = np.bincount(self.number.ravel(), np.square(w).ravel())
        return np.sqrt(square / self.sizes)

    def sigmoid(self, w, tau):
        t = self.t[self.pool]
        with np.errstate(over="ignore"):
            m = 1.0 / (1.0 + np.exp(-(self.scores(w) ** 2 - t**2) / tau))
        return np.where(self.whole, 1.0, m)

    def soft(self, tau, w=None):
        m = 1.0 + self.rho * (self.sigmoid(self.w if w is None else w, tau) - 1.0)
        return m[self.number]

    def hard(self):
        return self.keep[self.number]

    def gradient(self, tau):
        """d sum(m w) / dw in closed form: `m + (2 w^2 / tau) m (1 - m)` for size 1."""
        m = self.sigmoid(self.w, tau)
        slope = 2.0 * self.rho * m * (1.0 - m) / (tau * self.sizes)
        total = np.bincount(self.number.ravel(), self.w.ravel())
        return self.soft(tau) + (slope * total)[self.number] * self.w

    def differences(self, tau, step=1e-6):
        """The same by central differences."""
        result = np.zeros(self.w.size)
        for i in range(self.w.size):
            sides = []
            for sign in (1, -1):
                w = self.w.copy()
                w.flat[i] += sign * step
                sides.append(np.sum(self.soft(tau, w) * w))
            result[i] = (sides[0] - sides[1]) / (2 * step)
        return result.reshape(self.w.shape)


def realistic(granularity, std, shape=SHAPE):
    """A kernel at 80 % of its units with a calibrated temperature."""
    w = cases.weights(shape, std)
    pruned = round(0.8 * granularity.prunable_count(shape))
    formula = Formula(w, pruned, granularity)
    t = float(np.sqrt(np.mean(formula.t**2)))
    return w, pruned, Calibrated().at(t), formula


# The soft mask


@pytest.mark.parametrize("std", STDS)
@pytest.mark.parametrize("mode", cases.MODES)
@pytest.mark.parametrize("granularity", cases.GRANULARITIES)
def test_soft_mask_is_the_formula(granularity, mode, std):
    w, pruned, tau, formula = realistic(granularity, std)
    m = soft_mask(w, pruned, tau, granularity, mode)
    wanted = formula.soft(tau)
    assert m.shape == w.shape
    assert m.dtype == np.float32
    np.testing.assert_allclose(m, wanted, rtol=0, atol=1e-6)
    # Neither all 0 nor all 1, or nothing soft is tested.
    assert np.mean((wanted > 0.05) & (wanted < 0.95)) > 0.1


@pytest.mark.parametrize("granularity", cases.GRANULARITIES)
def test_closed_form_gradient_is_the_difference_quotient(granularity):
    w, _, tau, formula = realistic(granularity, 0.1, shape=(7, 5))
    assert formula.w.shape == w.shape
    np.testing.assert_allclose(
        formula.gradient(tau), formula.differences(tau), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("mode", [mode for mode in cases.MODES if mode != "graph"])
@pytest.mark.parametrize("granularity", cases.GRANULARITIES)
def test_automatic_gradient_is_the_closed_form(granularity, mode):
    """With the threshold a constant: no weight gets more, those at the cut neither."""
    function = soft(granularity, mode)
    for std in STDS:
        w, pruned, tau, formula = realistic(granularity, std)
        rest = (cases.count(pruned), cases.tensor(tau))
        gradient = cases.gradient(
            lambda w, rest=rest: function(w, *rest) * w, cases.tensor(w)
        )
        np.testing.assert_allclose(
            gradient, formula.gradient(tau), rtol=1e-5, atol=2e-6
        )


def test_the_gradient_of_many_weights_is_the_closed_form_too(monkeypatch):
    """The loops of their search carry weights, but no gradient of them."""
    monkeypatch.setattr(threshold, "MANY", 2)
    w, pruned, tau, formula = realistic(Unstructured(), 0.1)

    def product(w):
        m = mask.soft_mask(w, cases.count(pruned), cases.tensor(tau), Unstructured())
        return m * w

    gradient = cases.gradient(product, cases.tensor(w))
    np.testing.assert_allclose(gradient, formula.gradient(tau), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("mode", cases.MODES)
@pytest.mark.parametrize("std", STDS)
def test_the_slope_of_single_weights_is_the_closed_form(std, mode):
    w, _, tau, formula = realistic(Unstructured(), std)
    slope = cases.run(mask.slope, mode)
    found = slope(*map(cases.tensor, (w, formula.t[0], tau)))
    np.testing.assert_allclose(
        cases.array(found), formula.gradient(tau), rtol=1e-5, atol=2e-6
    )


def test_the_slope_is_1_far_above_the_threshold_and_0_far_below():
    """Also where the square of a weight in units of tau is beyond float32."""
    w = cases.tensor([3e38, -1e20, 1.0, 1e-12, -1e-30, 0.0])
    for tau in (1e-20, 1e-30, 1e-37):
        slope = mask.slope(w, cases.tensor(1e-6), cases.tensor(tau))
        np.testing.assert_array_equal(cases.array(slope), [1, 1, 1, 0, 0, 0])


def test_gradient_of_single_weights_by_hand():
    """t = 0.2: at w = t, m = 1/2 and the slope is 1/2 + t^2 / (2 tau)."""
    w, tau = cases.tensor([0.1, 0.3, 0.2, 0.2]), cases.tensor(0.01)
    function = soft(Unstructured())
    gradient = cases.gradient(lambda w: function(w, cases.count(2), tau) * w, w)
    np.testing.assert_allclose(gradient[2:], 0.5 + 0.04 / 0.02, rtol=1e-6)
    m = 1 / (1 + np.exp(-(0.09 - 0.04) / 0.01))
    np.testing.assert_allclose(
        gradient[1], m + (2 * 0.09 / 0.01) * m * (1 - m), rtol=1e-5
    )


@pytest.mark.parametrize("granularity", [Unstructured(), NofM(1, 2, axis=0)])
def test_weights_at_the_cut_get_no_gradient_through_the_threshold(granularity):
    """Of the mask's sum: through t every slope would come back with a minus sign."""
    w = cases.weights((8, 1))
    pruned = 4
    formula = Formula(w, pruned, granularity)
    tau = float(np.mean(formula.t**2))
    function = soft(granularity)
    gradient = cases.gradient(
        lambda w: function(w, cases.count(pruned), cases.tensor(tau)), cases.tensor(w)
    )
    m = formula.soft(tau)
    np.testing.assert_allclose(gradient, 2 * w / tau * m * (1 - m), rtol=1e-4)
    assert (np.sign(gradient) == np.sign(w)).all()


@pytest.mark.parametrize("granularity", cases.GRANULARITIES)
def test_soft_mask_above_a_half_is_the_hard_mask(granularity):
    w, pruned, tau, formula = realistic(granularity, 0.1)
    if granularity.kept_per_pool is not None:
        pruned = granularity.prunable_count(SHAPE)
    keep = hard_mask(w, pruned, granularity)
    np.testing.assert_array_equal(soft_mask(w, pruned, tau, granularity) >= 0.5, keep)
    np.testing.assert_array_equal(keep, formula.hard())


@pytest.mark.parametrize("granularity", cases.BY_BUDGET)
def test_among_ties_a_kept_weight_is_at_least_a_half_and_a_pruned_one_at_most(
    granularity,
):
    w = np.sign(cases.weights(SHAPE)) * np.float32(0.1)
    pruned = granularity.prunable_count(SHAPE) // 2
    m = soft_mask(w, pruned, 0.002, granularity)
    keep = hard_mask(w, pruned, granularity)
    assert m[keep].min() >= 0.5 - 1e-6
    assert m[~keep].max() <= 0.5 + 1e-6


@pytest.mark.parametrize("granularity", cases.GRANULARITIES)
def test_scaling_weights_and_temperature_together_changes_nothing(granularity):
    w, pruned, tau, _ = realistic(granularity, 0.1)
    np.testing.assert_array_equal(
        soft_mask(w, pruned, tau, granularity),
        soft_mask(w / 8, pruned, tau / 64, granularity),
    )


def test_soft_mask_is_precise_where_the_difference_of_squares_is_not():
    """At tau = 1e-5 and weights of 0.2, in a band of t +- 1e-4."""
    t, tau = np.float32(0.2), np.float32(1e-5)
    s = t + np.linspace(-1e-4, 1e-4, 1001).astype("float32")
    t64, s64 = t.astype("float64"), s.astype("float64")
    exact = 1 / (1 + np.exp(-(s64**2 - t64**2) / tau.astype("float64")))
    assert 0.01 < exact.min() < exact.max() < 0.99
    m = cases.array(mask.sigmoid_mask(cases.tensor(s), t, tau))
    np.testing.assert_allclose(m, exact, rtol=0, atol=1e-6)
    naive = 1 / (1 + np.exp(-(s**2 - t**2) / tau))
    assert np.abs(naive - exact).max() > 1e-5


@pytest.mark.parametrize("mode", cases.MODES)
def test_the_margin_of_any_two_floats_has_the_sign_of_their_difference(mode):
    """Also where a factor is beyond float32, and in their sum."""
    largest = float(np.finfo("float32").max)
    s = np.array([0.0, 1e-30, 1.0, 1e30, largest], "float32")
    margin = cases.run(mask.margin, mode)
    for t, tau in itertools.product(s, (1e-36, 1e-30, 1.0, largest)):
        found = cases.array(margin(*map(cases.tensor, (s, t, tau))))
        assert np.isfinite(found).all()
        assert (found[s == t] == 0).all()
        assert (found * np.sign(s - t) >= 0).all()
        # In float64, where it is not beyond what the sigmoid tells apart.
        exact = (np.square(s, dtype="f8") - np.square(t, dtype="f8")) / tau
        near = np.abs(exact) < 100
        np.testing.assert_allclose(found[near], exact[near], rtol=1e-5, atol=1e-12)


def test_the_largest_weights_have_the_gradient_1_however_small_tau_is():
    w = cases.tensor([np.finfo("float32").max, -1e30, 1e-3, 1e-4])
    pruned, tau = cases.count(2), cases.tensor(1e-36)
    function = soft(Unstructured())
    gradient = cases.gradient(lambda w: function(w, pruned, tau) * w, w)
    np.testing.assert_array_equal(gradient, [1, 1, 0, 0])


def test_a_coupled_mask_is_the_sigmoid_of_a_margin_set_elsewhere():
    margin = np.array([-50.0, -1.0, 0.0, 0.5, 80.0], "float32")
    square = np.array([0.0, 0.04, 0.09, 1.0, 4.0], "float32")
    share = np.array([3.0, 20.0, 0.0, 7.0, 1.0], "float32")
    m = cases.array(mask.coupled_mask(*map(cases.tensor, (square, margin, share))))
    np.testing.assert_allclose(m, 1 / (1 + np.exp(-margin.astype("f8"))), rtol=1e-6)


def test_a_coupled_mask_moves_with_its_kernels_part_of_the_margin():
    margin, share = np.array([-1.0, 0.0, 0.5]), np.array([20.0, 3.0, 0.0])
    square = cases.tensor([0.04, 0.09, 1.0])
    gradient = cases.gradient(
        lambda q: mask.coupled_mask(q, cases.tensor(margin), cases.tensor(share)),
        square,
    )
    m = 1 / (1 + np.exp(-margin))
    np.testing.assert_allclose(gradient, share * m * (1 - m), rtol=1e-5)


def test_far_from_the_threshold_the_mask_is_0_or_1_and_its_gradient_finite():
    w = cases.tensor([1e-3, 0.1, 0.5, -1.0, 30.0])
    pruned, tau = cases.count(2), cases.tensor(1e-6)
    function = soft(Unstructured())
    np.testing.assert_array_equal(
        cases.array(function(w, pruned, tau)), [0, 0, 1, 1, 1]
    )
    gradient = cases.gradient(lambda w: function(w, pruned, tau) * w, w)
    np.testing.assert_array_equal(gradient, [0, 0, 1, 1, 1])


@pytest.mark.parametrize("granularity", cases.GRANULARITIES)
def test_a_kernel_of_zeros_is_masked_by_a_half(granularity):
    w, tau = cases.tensor(np.zeros((8, 4))), cases.tensor(Calibrated().at(0.0))
    pruned = cases.count(granularity.prunable_count((8, 4)))
    function = soft(granularity)
    m = cases.array(function(w, pruned, tau))
    gradient = cases.gradient(lambda w: function(w, pruned, tau) * w, w)
    np.testing.assert_array_equal(m, np.full((8, 4), 0.5))
    np.testing.assert_array_equal(gradient, m)


@pytest.mark.parametrize("mode", [mode for mode in cases.MODES if mode != "graph"])
@pytest.mark.parametrize("granularity", [Channel(), Block((8, 1)), Block((4, 2))])
def test_a_dead_unit_moves_no_mask(granularity, mode):
    w = cases.weights((8, 4))
    w[:, 2:] = 0.0
    function, tau = soft(granularity, mode), cases.tensor(0.005)
    pruned = cases.count(2)
    gradient = cases.gradient(lambda w: function(w, pruned, tau), cases.tensor(w))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[:, 2:], 0.0)
    assert np.count_nonzero(gradient[:, :2]) == 16
    product = cases.gradient(lambda w: function(w, pruned, tau) * w, cases.tensor(w))
    m = cases.array(function(cases.tensor(w), pruned, tau))
    np.testing.assert_array_equal(product[:, 2:], m[:, 2:])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_weights_are_masked_in_float32(dtype):
    w = ops.cast(cases.tensor(cases.weights((40, 10))), dtype)
    full = ops.cast(w, "float32")
    for granularity in (Unstructured(), Channel(), NofM()):
        pruned, tau = cases.count(5), cases.tensor(0.001)
        m = soft(granularity)(w, pruned, tau)
        assert cases.array(m).dtype == np.float32
        np.testing.assert_array_equal(
            cases.array(m), cases.array(soft(granularity)(full, pruned, tau))
        )


def test_soft_mask_of_a_pattern_is_blended_in():
    w = np.float32([[0.1], [0.4], [0.3], [0.2]])
    granularity = NofM(2, 4)
    full = soft_mask(w, 2, 0.02, granularity)
    t = 0.25
    np.testing.assert_allclose(
        full, 1 / (1 + np.exp(-(w.astype("float64") ** 2 - t**2) / 0.02)), atol=1e-6
    )
    half = soft_mask(w, 1, 0.02, granularity)
    np.testing.assert_allclose(half, 1 + 0.5 * (full - 1), atol=1e-7)
    np.testing.assert_array_equal(soft_mask(w, 0, 0.02, granularity), np.ones((4, 1)))


@pytest.mark.parametrize("pruned", [1, 3])
def test_groups_that_keep_all_are_exactly_one(pruned):
    """Of 6 rows in groups of 4 the last two form a group that keeps both."""
    w = cases.weights((6, 3))
    m = soft_mask(w, 2 * pruned, 0.01, NofM(2, 4))
    np.testing.assert_array_equal(m[4:], np.ones((2, 3)))
    assert (m[:4] < 1.0).all()


# Scores and the cut


@pytest.mark.parametrize("granularity, shape", cases.ALL)
def test_scores_are_the_root_mean_square_of_real_weights(granularity, shape):
    w = cases.weights(shape)
    s = cases.array(mask.scores(cases.tensor(w), granularity))
    sizes = granularity.sizes(shape)
    assert s.shape == sizes.shape
    assert (s[sizes == 0] == 0.0).all()
    np.testing.assert_allclose(
        np.sort(s[sizes > 0]), np.sort(cases.unit_scores(w, granularity)), rtol=1e-6
    )


def test_a_smaller_block_at_the_edge_is_scored_by_what_it_has():
    w = cases.tensor([[1.0], [1.0], [1.0], [1.0], [1.0]])
    s = mask.scores(w, Block((2, 3)))
    np.testing.assert_array_equal(cases.array(s), [[1.0, 1.0, 1.0]])


def test_a_dead_unit_is_the_first_to_go():
    w = cases.tensor([[1e-3, 0.0, 2e-3], [1e-3, 0.0, 2e-3]])
    s = cases.array(mask.scores(w, Channel()))
    np.testing.assert_allclose(s, [[1e-3, 0.0, 2e-3]], rtol=1e-6)
    keep = cases.array(hard_mask(w, cases.count(1), Channel()))
    np.testing.assert_array_equal(keep, [[True, False, True]] * 2)


@pytest.mark.parametrize("size", [1e-45, 1e-30, 1e-19, 1e19, 1e30, 3e38])
def test_extreme_weights_are_scored(size):
    """Single weights of any size; the mean of squares has half the exponents."""
    w = np.float32([[1, 2, 3, 4]]) * np.float32(size / 4)
    s = cases.array(mask.scores(cases.tensor(w), Unstructured()))
    np.testing.assert_array_equal(s, w)
    t = mask.cut(cases.tensor(s), cases.count(2), Unstructured())
    assert w[0, 1] <= cases.array(t).item() <= w[0, 2]


def test_the_cut_lies_midway():
    s = cases.tensor([[0.4, 0.1, 0.2, 0.3]])
    for pruned, t in [(1, 0.15), (2, 0.25), (3, 0.35)]:
        found = mask.cut(s, cases.count(pruned), Unstructured())
        np.testing.assert_allclose(cases.array(found), [[t]], rtol=1e-6)
    s = cases.tensor([[0.4, 0.1, 0.2, 0.3], [1.0, 0.0, 3.0, 0.0]])
    for keep, t in [(1, [0.35, 2.0]), (2, [0.25, 0.5]), (3, [0.15, 0.0])]:
        found = mask.cut(s, cases.count(1), NofM(keep, 4))
        np.testing.assert_allclose(cases.array(found)[:, 0], t, rtol=1e-6)


# The hard mask


@pytest.mark.parametrize("granularity, shape", cases.ALL)
def test_hard_mask_keeps_the_largest_units_whole(granularity, shape):
    w = cases.weights(shape)
    number = cases.numbered(*cases.membership(granularity, shape))
    for pruned in counts(granularity, shape):
        keep = hard_mask(w, pruned, granularity)
        assert keep.dtype == bool
        assert len(np.unique(number[~keep])) == pruned
        if pruned == 0:
            assert keep.all()
        else:
            wanted = Formula(w, pruned, granularity).hard()
            np.testing.assert_array_equal(keep, wanted)


@pytest.mark.parametrize("mode", cases.MODES)
@pytest.mark.parametrize("granularity", cases.GRANULARITIES)
def test_hard_mask_is_the_same_however_it_is_run(granularity, mode):
    w = cases.weights(SHAPE)
    for pruned in counts(granularity, SHAPE)[1:]:
        np.testing.assert_array_equal(
            hard_mask(w, cases.count(pruned), granularity, mode),
            Formula(w, pruned, granularity).hard(),
        )


@pytest.mark.parametrize("granularity, shape", cases.PATTERN_CASES)
@pytest.mark.parametrize("ties", [False, True])
def test_every_group_keeps_n_or_all_it_has(granularity, shape, ties):
    w = cases.weights(shape)
    w = np.round(w, 1) if ties else w
    pool, _ = cases.membership(granularity, shape)
    keep = hard_mask(w, 1, granularity)
    kept = np.bincount(pool.ravel(), keep.ravel())
    size = np.bincount(pool.ravel())
    np.testing.assert_array_equal(kept, np.minimum(size, granularity.n))


@pytest.mark.parametrize("granularity, shape", cases.ALL)
def test_among_equal_units_the_first_stay(granularity, shape):
    w = np.full(shape, -0.125, "float32")  # whose sums are exact in any order
    most = granularity.prunable_count(shape)
    pruned = most if granularity.kept_per_pool is not None else most // 2
    keep = hard_mask(w, pruned, granularity)
    units = granularity.split(keep, np)[..., 0]
    # Where a unit is kept, so are those before it.
    assert (np.diff(units.astype(int), axis=1) <= 0).all()
    assert np.count_nonzero(~units & (granularity.sizes(shape) > 0)) == pruned


@pytest.mark.parametrize("granularity", cases.BY_BUDGET)
@pytest.mark.parametrize("ties", [False, True])
def test_a_larger_count_prunes_a_superset(granularity, ties):
    w = cases.weights((5, 4))
    w = np.round(w, 1) if ties else w
    before = np.ones(w.shape, bool)
    for pruned in range(granularity.prunable_count(w.shape) + 1):
        keep = hard_mask(w, pruned, granularity)
        assert not (keep & ~before).any()
        before = keep


@pytest.mark.parametrize("granularity", cases.GRANULARITIES)
def test_hard_mask_does_not_depend_on_scale_or_sign(granularity):
    w = np.round(cases.weights(SHAPE), 2)
    pruned = granularity.prunable_count(SHAPE) // 2
    keep = hard_mask(w, pruned, granularity)
    for scale in (2.0**-20, 0.5, -1.0, 1024.0):
        scaled = w * np.float32(scale)
        np.testing.assert_array_equal(hard_mask(scaled, pruned, granularity), keep)


@pytest.mark.parametrize(
    "granularity", [Unstructured(), Channel(), Block((4, 1)), NofM(2, 4), NofM(1, 2)]
)
def test_permuting_units_permutes_the_mask(granularity):
    w = cases.weights((8, 6))
    columns = np.random.default_rng(1).permutation(6)
    pruned = granularity.prunable_count(w.shape) // 2
    np.testing.assert_array_equal(
        hard_mask(w[:, columns], pruned, granularity),
        hard_mask(w, pruned, granularity)[:, columns],
    )


def test_permuting_a_group_permutes_its_mask():
    w, rows = cases.weights((8, 3)), [2, 0, 3, 1, 5, 4, 7, 6]
    np.testing.assert_array_equal(
        hard_mask(w[rows], 1, NofM(2, 4)), hard_mask(w, 1, NofM(2, 4))[rows]
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_ties_are_counted_exactly(dtype):
    w = ops.cast(cases.tensor(cases.weights((50, 40))), dtype)
    full = cases.array(ops.cast(w, "float32"))
    assert len(np.unique(np.abs(full))) < 1800
    for pruned in (1, 777, 1500, 1999):
        keep = cases.array(hard(Unstructured())(w, cases.count(pruned)))
        assert np.count_nonzero(~keep) == pruned
        wanted = Formula(full, pruned, Unstructured()).hard()
        np.testing.assert_array_equal(keep, wanted)
    keep = cases.array(hard(NofM(2, 4, axis=-1))(w, cases.count(1)))
    assert (keep.reshape(50, 10, 4).sum(axis=-1) == 2).all()


@given(
    st.lists(st.sampled_from([0.0, -0.1, 0.1, 0.2, -0.3]), min_size=12, max_size=12),
    st.sampled_from(cases.GRANULARITIES),
    st.data(),
)
def test_any_kernel_with_ties_is_cut_exactly(values, granularity, data):
    w = np.float32(values).reshape(4, 3)
    most = granularity.prunable_count(w.shape)
    if granularity.kept_per_pool is None:
        pruned = data.draw(st.integers(0, most))
    else:
        pruned = data.draw(st.sampled_from([0, most]))
    keep = hard_mask(w, cases.count(pruned), granularity)
    number = cases.numbered(*cases.membership(granularity, w.shape))
    assert len(np.unique(number[~keep])) == pruned
    assert len(np.unique(number[keep])) == number.max() + 1 - pruned


@pytest.mark.parametrize("granularity", [Unstructured(), Channel(), NofM()])
@pytest.mark.parametrize("mode", [mode for mode in cases.MODES if mode != "eager"])
def test_a_new_count_is_no_new_trace(granularity, mode):
    traces = []

    def both(w, pruned, tau):
        traces.append(mode)
        return (
            mask.soft_mask(w, pruned, tau, granularity),
            mask.hard_mask(w, pruned, granularity),
        )

    compiled = cases.run(both, mode)
    w = cases.tensor(cases.weights((12, 8)))
    for pruned in range(1, 7):
        compiled(w, cases.count(pruned), cases.tensor(0.01 * pruned))
    assert len(traces) == 1
