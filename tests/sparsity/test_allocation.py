"""The budget is met to the unit, and shared as each rule says."""

import dataclasses
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_pdp import Block, Channel, erdos_renyi, global_magnitude, lamp, uniform
from keras_pdp.sparsity import layer_adaptive
from keras_pdp.sparsity.allocation import Candidate
from keras_pdp.sparsity.layer_adaptive import Relative
from tests.sparsity import cases

RULES = [uniform, global_magnitude, erdos_renyi, lamp]


def single_weights(w):
    """A kernel whose weights compete one by one."""
    w = np.abs(np.asarray(w, "float32"))
    return Candidate(w.ravel(), np.ones(w.size, int), w.shape)


def in_units(w, granularity):
    sizes = granularity.sizes(w.shape).ravel()
    return Candidate(cases.unit_scores(w, granularity), sizes, w.shape)


def removed(candidates, shares):
    """Units removed from each kernel, as the counts that the wrappers will set."""
    return {n: round(s * len(candidates[n].scores)) for n, s in shares.items()}


def kernels(*shapes):
    return {
        f"k{i}": single_weights(cases.weights(shape, std=0.05 * (i + 1), seed=i))
        for i, shape in enumerate(shapes)
    }


drawn_kernels = st.lists(
    st.tuples(st.integers(1, 7), st.integers(1, 6)).flatmap(
        lambda shape: st.lists(
            st.sampled_from([0.0, 0.1, 0.2, 0.3]) | st.floats(0, 1, width=32),
            min_size=shape[0] * shape[1],
            max_size=shape[0] * shape[1],
        ).map(lambda values: single_weights(np.reshape(values, shape)))
    ),
    min_size=1,
    max_size=5,
).map(lambda found: {f"k{i}": kernel for i, kernel in enumerate(found)})
drawn_sparsity = st.floats(0.0, 0.999) | st.sampled_from([0.0, 0.29, 0.5, 0.9])


@given(st.sampled_from(RULES), drawn_kernels, drawn_sparsity)
def test_the_budget_is_met_to_one_weight(rule, candidates, sparsity):
    shares = rule(candidates, sparsity)
    assert list(shares) == list(candidates)
    counts = removed(candidates, shares)
    total = sum(c.weights for c in candidates.values())
    most = total - len(candidates)
    assert sum(counts.values()) == min(round(sparsity * total), most)
    for name, candidate in candidates.items():
        assert 0 <= counts[name] < len(candidate.scores)
        # A count, not a fraction near one: nothing is lost on the way back.
        assert shares[name] == counts[name] / len(candidate.scores)


@given(
    st.sampled_from(RULES),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=5),
    drawn_sparsity,
    st.integers(0, 5),
)
def test_the_budget_is_met_to_half_a_unit(rule, shapes, sparsity, seed):
    candidates = {
        f"k{i}": in_units(cases.weights(shape, seed=seed + i), Channel())
        for i, shape in enumerate(shapes)
    }
    counts = removed(candidates, rule(candidates, sparsity))
    size = {n: c.shape[0] for n, c in candidates.items()}
    most = sum(size[n] * (len(c.scores) - 1) for n, c in candidates.items())
    total = sum(c.weights for c in candidates.values())
    missing = round(sparsity * total) - sum(counts[n] * size[n] for n in counts)
    assert all(counts[n] < len(c.scores) for n, c in candidates.items())
    exhausted = sum(counts[n] * size[n] for n in counts) == most
    assert missing >= -max(size.values()) / 2
    assert missing <= max(size.values()) / 2 or exhausted


@given(drawn_kernels, drawn_sparsity)
def test_global_magnitude_is_one_sort_over_everything(candidates, sparsity):
    everything = []
    for name, candidate in candidates.items():
        scores = candidate.scores.tolist()
        scores.remove(max(scores))  # one unit stays
        everything += [(score, name) for score in scores]
    total = sum(c.weights for c in candidates.values())
    cut = sorted(everything, key=lambda one: one[0])[: round(sparsity * total)]
    below = [name for _, name in cut]
    counts = removed(candidates, global_magnitude(candidates, sparsity))
    assert counts == {name: below.count(name) for name in candidates}


def test_global_magnitude_by_hand():
    candidates = {
        "small": single_weights([[0.1, 0.2, 0.3]]),
        "large": single_weights([[0.25, 1.0, 2.0, 3.0, 4.0]]),
    }
    assert global_magnitude(candidates, 3 / 8) == {"small": 2 / 3, "large": 1 / 5}
    # The largest of each stays, so that `large` gives what `small` can't.
    assert global_magnitude(candidates, 0.5) == {"small": 2 / 3, "large": 2 / 5}


@given(drawn_kernels, drawn_sparsity)
def test_lamp_is_one_sort_over_parts_of_what_is_left(candidates, sparsity):
    """By its definition, weight for weight; the largest of each kernel stays."""
    everything = []
    for name, candidate in candidates.items():
        ranked = sorted(candidate.scores.astype(float))
        for place, score in enumerate(ranked[:-1]):
            rest = sum(other**2 for other in ranked[place:])
            everything.append((score**2 / rest if rest else 0.0, name))
    total = sum(c.weights for c in candidates.values())
    count = min(round(sparsity * total), len(everything))
    counts = removed(candidates, lamp(candidates, sparsity))
    assert sum(counts.values()) == count
    cut = sorted(worth for worth, _ in everything)[count - 1] if count else -1.0
    for name in candidates:
        # Worths that differ by rounding only, or are 0 in float32, may change places.
        less, most = cut * (1 - 1e-5), max(cut * (1 + 1e-5), 1e-70)
        below = sum(n == name and max(x, 1e-70) < less for x, n in everything)
        reached = sum(n == name and x <= most for x, n in everything)
        assert below <= counts[name] <= reached


def test_lamp_by_hand():
    # 1/14, 4/13, 1 and, ten times as large, 9/50, 16/41, 1.
    candidates = {
        "small": single_weights([[1.0, 2.0, 3.0]]),
        "large": single_weights([[30.0, 40.0, 50.0]]),
    }
    order = ["small", "large", "small", "large"]
    for count in range(5):
        counts = removed(candidates, lamp(candidates, count / 6))
        assert counts == {n: order[:count].count(n) for n in candidates}


@given(drawn_kernels, drawn_sparsity, st.integers(-20, 20))
def test_lamp_does_not_see_how_large_a_kernel_is(candidates, sparsity, exponent):
    """By powers of 2, which round nothing."""
    (name, first), *_ = candidates.items()
    scaled = dataclasses.replace(first, scores=first.scores * np.float32(2**exponent))
    if (scaled.scores > 0).sum() < (first.scores > 0).sum():
        return  # underflow
    expected = lamp(candidates, sparsity)
    assert lamp({**candidates, name: scaled}, sparsity) == expected


def test_lamp_counts_blocks_by_their_weights():
    """Of a block it is the worth of one weight, so that layouts may meet."""
    w = cases.weights((16, 8))
    blocks = in_units(w, Block((4, 1)))
    fine = single_weights(w)
    ranked = np.sort(blocks.scores.astype(float))
    worth = ranked**2 / np.cumsum(4 * ranked[::-1] ** 2)[::-1]
    alone = np.sort(fine.scores.astype(float))
    alone = alone**2 / np.cumsum(alone[::-1] ** 2)[::-1]
    counts = removed({"b": blocks, "f": fine}, lamp({"b": blocks, "f": fine}, 0.5))
    # The two cuts are at the same place.
    least, most = alone[counts["f"] - 1], alone[counts["f"]]
    assert np.count_nonzero(worth < least) <= counts["b"]
    assert counts["b"] <= np.count_nonzero(worth < most)
    assert 4 * counts["b"] + counts["f"] == pytest.approx(128, abs=2)


def by_definition(candidate):
    """A kernel's units in rising order with what each is worth, added up one by one."""
    units = zip(candidate.scores.tolist(), candidate.sizes.tolist(), strict=True)
    ranked = sorted(units, key=lambda unit: unit[0])  # of equal scores the first leads
    worth = [
        score / math.sqrt(sum(size * other**2 for other, size in ranked[place:]))
        for place, (score, _) in enumerate(ranked)
    ]
    sizes = [size for _, size in ranked]
    return Relative(np.array(worth), np.array(sizes), candidate.shape)


def test_lamp_of_units_of_several_sizes_by_its_definition():
    """A unit counts with all of its weights."""
    random = np.random.default_rng(0)
    scores = random.choice(np.float32([0.5, 1.0, 1.5, 2.0]), 64)
    uneven = Candidate(scores, random.choice([1, 4], 64), (64, 4))
    candidates = {"u": uneven, "s": kernels((20, 5))["k0"]}
    defined = {name: by_definition(each) for name, each in candidates.items()}
    for sparsity in np.linspace(0, 0.95, 60):
        expected = global_magnitude(defined, sparsity)
        assert lamp(candidates, sparsity) == expected


@pytest.mark.parametrize("count", [1, 2, 6, 7, 8, 14, 15, 400])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_parts_of_what_is_left_are_added_up_in_chunks(monkeypatch, count, scale):
    monkeypatch.setattr(layer_adaptive, "_CHUNK", 7)
    scores = np.sort(np.abs(cases.weights((count, 1)).ravel()))
    units = Candidate(scores, np.arange(count) % 3 + 1, (count, 1))
    found = layer_adaptive.relative(np.float32(scale) * scores, units.sizes)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, by_definition(units).scores, rtol=1e-5)


def test_lamp_leaves_scores_that_are_relative_already():
    """Those of channels, which are ranked with what their removal saves."""
    worth = Relative(np.array([0.3, 0.1, 0.9]), np.array([4, 4, 4]), (4, 3))
    single = single_weights([[1.0, 2.0, 3.0]])  # sqrt(1/14) = 0.27, sqrt(4/13) = 0.55
    candidates = {"w": worth, "s": single}
    taken = {0: (0, 0), 4: (1, 0), 5: (1, 1), 9: (2, 1), 10: (2, 2)}
    for weights, (channels, weights_alone) in taken.items():
        counts = removed(candidates, lamp(candidates, weights / 15))
        assert counts == {"w": channels, "s": weights_alone}


def test_a_kernel_of_zeros_has_nothing_left_to_be_a_part_of():
    found = layer_adaptive.relative(np.zeros(3, "float32"), np.ones(3, int))
    np.testing.assert_array_equal(found, np.zeros(3, "float32"))


def test_lamp_adds_up_more_units_than_fit_in_one_chunk(monkeypatch):
    candidates = kernels((40, 10), (30, 7), (4, 5))
    expected = {s: lamp(candidates, s) for s in (0.1, 0.5, 0.9)}
    monkeypatch.setattr(layer_adaptive, "_CHUNK", 7)
    assert {s: lamp(candidates, s) for s in expected} == expected


def test_lamp_of_scores_that_are_all_zero_or_tiny():
    zeros = Candidate(np.zeros(4, "float32"), np.ones(4, int), (4, 1))
    tiny = Candidate(np.array([1e-30, 2e-30], "float32"), np.ones(2, int), (2, 1))
    counts = removed({"z": zeros, "t": tiny}, lamp({"z": zeros, "t": tiny}, 0.5))
    assert counts == {"z": 3, "t": 0}
    counts = removed({"z": zeros, "t": tiny}, lamp({"z": zeros, "t": tiny}, 0.6))
    assert counts == {"z": 3, "t": 1}


def test_global_magnitude_takes_the_nearer_of_two_sums():
    """Channels of 4 weights, and of 1: the cut comes where the sum is nearest."""
    wide = Candidate(np.array([0.1, 0.4, 0.5]), np.array([4, 4, 4]), (4, 3))
    slim = Candidate(np.array([0.2, 0.3, 0.6]), np.array([1, 1, 1]), (1, 3))
    candidates = {"wide": wide, "slim": slim}
    taken = dict.fromkeys((0, 1, 2), (0, 0))
    taken |= {3: (1, 0), 4: (1, 0), 5: (1, 1), 6: (1, 2), 8: (1, 2), 9: (2, 2)}
    for weights, (wide_units, slim_units) in taken.items():
        counts = removed(candidates, global_magnitude(candidates, weights / 15))
        assert counts == {"wide": wide_units, "slim": slim_units}, weights


@pytest.mark.parametrize(
    "weights, units", [(1, 0), (2, 0), (3, 1), (5, 1), (6, 1), (7, 2), (16, 3)]
)
@pytest.mark.parametrize("rule", [uniform, global_magnitude])
def test_of_two_numbers_of_units_as_near_the_smaller_is_taken(rule, weights, units):
    blocks = Candidate(np.array([0.3, 0.1, 0.2, 0.4]), np.full(4, 4), (4, 4))
    shares = rule({"blocks": blocks}, weights / 16)
    assert shares == {"blocks": units / 4}


def test_smaller_blocks_at_the_edge_count_for_what_they_have():
    candidate = in_units(cases.weights((9, 8)), Block((4, 1)))
    assert sorted(set(candidate.sizes)) == [1, 4]
    counts = removed({"k": candidate}, global_magnitude({"k": candidate}, 0.5))
    order = np.argsort(candidate.scores)
    weights = candidate.sizes[order[: counts["k"]]].sum()
    assert abs(weights - 36) <= 2


def test_ties_across_kernels_are_broken_exactly():
    candidates = {f"k{i}": single_weights(np.full((5, 4), 0.1)) for i in range(3)}
    for rule in RULES:
        for count in (1, 7, 30, 41, 57):
            counts = removed(candidates, rule(candidates, count / 60))
            assert sum(counts.values()) == count
    assert removed(candidates, global_magnitude(candidates, 25 / 60)) == {
        "k0": 19,
        "k1": 6,
        "k2": 0,
    }


def test_uniform_gives_every_kernel_the_same():
    candidates = kernels((100, 10), (10, 10), (4, 5))
    for sparsity in (0.29, 0.5, 0.75, 0.9):
        for name, count in removed(candidates, uniform(candidates, sparsity)).items():
            assert abs(count - sparsity * candidates[name].weights) < 1.0
    assert set(uniform(candidates, 0.9).values()) == {0.9}


def test_erdos_renyi_by_hand():
    """raw = 0.11, 0.2, 0.45; 224 of 1120 stay: 177.3, 32.2 and 14.5."""
    candidates = kernels((100, 10), (10, 10), (4, 5))
    assert removed(candidates, erdos_renyi(candidates, 0.8)) == {
        "k0": 823,
        "k1": 68,
        "k2": 5,
    }
    # 560 stay. The third would have 1.8 of itself: all 20; 456.9 and 83.1 are left.
    assert removed(candidates, erdos_renyi(candidates, 0.5)) == {
        "k0": 543,
        "k1": 17,
        "k2": 0,
    }


@pytest.mark.parametrize("shape", [(2, 9), (4, 18), (5, 37), (7, 22)])
def test_erdos_renyi_leaves_all_dense_where_rounding_says_more_than_all(shape):
    """Where the density of the last kernel comes out as 1 + 2e-16."""
    assert erdos_renyi(kernels(shape), 0.0) == {"k0": 0.0}


def test_erdos_renyi_counts_the_window_of_a_convolution():
    """Densities as 134 / 36864 to 130 / 4096, sum over product of the shapes."""
    candidates = kernels((3, 3, 64, 64), (1, 1, 64, 64))
    shares = erdos_renyi(candidates, 0.95)
    ratio = (134 / 36864) / (130 / 4096)
    assert (1 - shares["k0"]) / (1 - shares["k1"]) == pytest.approx(ratio, rel=0.01)


@pytest.mark.parametrize("rule", RULES)
def test_kernels_of_one_unit_are_left_whole(rule):
    candidates = {
        "one": single_weights([[0.001]]),
        "two": single_weights([[0.001, 0.002]]),
        "many": single_weights(cases.weights((10, 10))),
    }
    shares = rule(candidates, 0.95)
    assert shares["one"] == 0.0
    assert sum(removed(candidates, shares).values()) == round(0.95 * 103)
    assert rule({"one": candidates["one"]}, 0.9) == {"one": 0.0}


@pytest.mark.parametrize("rule", RULES)
def test_nothing_is_removed_at_sparsity_0_and_one_unit_stays_at_0_999(rule):
    candidates = kernels((20, 10), (5, 3), (1, 1), (2, 1))
    assert set(rule(candidates, 0.0).values()) == {0.0}
    counts = removed(candidates, rule(candidates, 0.999))
    assert counts == {"k0": 199, "k1": 14, "k2": 0, "k3": 1}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("sparsity", [0.3, 0.77, 0.95])
def test_the_order_of_the_kernels_does_not_matter(rule, sparsity):
    """Where nothing ties; a tie goes to the first."""
    candidates = kernels((31, 7), (13, 11), (6, 5), (17, 3))
    reverse = dict(reversed(candidates.items()))
    assert rule(reverse, sparsity) == rule(candidates, sparsity)


@pytest.mark.parametrize("rule", RULES)
def test_the_share_does_not_fall_when_the_budget_rises(rule):
    candidates = kernels((31, 7), (13, 11), (6, 5))
    total = sum(c.weights for c in candidates.values())
    shares = [
        sum(removed(candidates, rule(candidates, count / total)).values())
        for count in range(0, total - 3, 13)
    ]
    assert shares == list(range(0, total - 3, 13))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "candidates, sparsity, error, message",
    [
        ({}, 0.5, ValueError, "at least one kernel"),
        ([1, 2], 0.5, TypeError, r"mapping .* \[1, 2\]"),
        ("k", 1.5, ValueError, r"in \[0, 1\]. Received: 1.5"),
        ("k", -0.1, ValueError, "Received: -0.1"),
        ("k", float("nan"), ValueError, "finite number. Received: nan"),
        ("k", "0.5", TypeError, "`sparsity` .* number.* '0.5'"),
    ],
)
def test_what_cannot_be_shared_raises(rule, candidates, sparsity, error, message):
    if candidates == "k":
        candidates = kernels((4, 3))
    with pytest.raises(error, match=message):
        rule(candidates, sparsity)


def test_units_that_cost_a_part_are_taken_until_the_budget_is_met():
    """Sizes between 1 and 2 are not whole numbers of anything."""
    scores = np.arange(1.0, 7.0)
    one = Candidate(scores, np.full(6, 1.25), (1, 6))
    other = Candidate(scores + 0.5, np.full(6, 1.75), (1, 6))
    counts = removed(
        {"a": one, "b": other}, global_magnitude({"a": one, "b": other}, 0.5)
    )
    # 8 of 7 + 10 weights: 1.25, 1.75, 1.25, 1.75 and 1.25 make 7.25, one more 9.
    assert counts == {"a": 3, "b": 2}


@pytest.mark.parametrize("seed", range(5))
def test_units_of_several_sizes_go_one_by_one_from_the_smallest(seed):
    """By its definition: the largest of each kernel stays, of equals the first go."""
    random = np.random.default_rng(seed)
    candidates = {
        name: Candidate(
            random.choice([0.0, 0.5, 1.0, 1.5, 2.0], count),
            random.choice([1, 3, 5], count),
            (count, 4),
        )
        for name, count in {"a": 30, "b": 7, "c": 1, "d": 40}.items()
    }
    free = [
        (score, size, name)
        for name, c in candidates.items()
        for i, (score, size) in enumerate(zip(c.scores, c.sizes, strict=True))
        if i != np.argmax(c.scores)
    ]
    order = sorted(free, key=lambda unit: unit[0])
    total = sum(c.weights for c in candidates.values())
    for budget in [*range(9), *range(9, total, 5)]:
        sums = np.cumsum([0, *(size for _, size, _ in order)])
        count = int(np.argmin(np.abs(sums - budget)))  # of two as near the smaller
        taken = [name for *_, name in order[:count]]
        found = removed(candidates, global_magnitude(candidates, budget / total))
        assert found == {name: taken.count(name) for name in candidates}


def test_whole_units_beside_units_that_cost_a_part():
    """One of each: the kernel of whole units does not decide for both."""
    whole = Candidate(np.array([1.0, 4.0, 5.0]), np.full(3, 2), (2, 3))
    part = Candidate(np.array([2.0, 3.0, 6.0]), np.full(3, 2.75), (1, 3))
    candidates = {"w": whole, "p": part}
    counts = removed(candidates, global_magnitude(candidates, 6 / 14))
    # 6 of 14 weights: 2 and 2.75; 7.5 would be further away. Three units of 2 are 6.
    assert counts == {"w": 1, "p": 1}


def test_allocations_leave_their_argument_alone():
    candidates = kernels((5, 4), (3, 3))
    before = {n: c.scores.copy() for n, c in candidates.items()}
    for rule in RULES:
        rule(candidates, 0.5)
    for name, candidate in candidates.items():
        np.testing.assert_array_equal(candidate.scores, before[name])


@pytest.mark.parametrize("kinds", ["dd", "df", "fd", "de", "ee"])
def test_scores_of_any_precision_compete(kinds):
    """A cut finer than one of the precisions; and -0.0 is a zero."""
    scores = [[-0.0, 0.1 + 1e-12, 0.5, 2.0], [0.0, 0.1, 0.25, 3.0]]
    ones = np.ones(4, int)
    candidates = {
        name: Candidate(np.array(values, kind), ones, (4, 1))
        for name, values, kind in zip("ab", scores, kinds, strict=True)
    }
    cut = sorted(
        (float(score), name)
        for name, candidate in candidates.items()
        for score in candidate.scores[:-1]
    )
    for count in range(7):
        found = removed(candidates, global_magnitude(candidates, count / 8))
        names = [name for _, name in cut[:count]]
        assert found == {name: names.count(name) for name in "ab"}


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_negative_zero_is_a_zero_like_the_other_one(zero):
    first = Candidate(np.array([zero, 1.0]), np.ones(2, int), (2, 1))
    other = Candidate(np.array([-zero, 2.0]), np.ones(2, int), (2, 1))
    candidates = {"first": first, "other": other}
    shares = global_magnitude(candidates, 0.25)
    assert removed(candidates, shares) == {"first": 1, "other": 0}


def test_the_largest_stays_where_it_is_next_to_the_cut():
    """Its score is the last one before that of another kernel at which the cut is."""
    below = np.nextafter(np.float32(2.0), np.float32(0.0))
    candidates = {
        "a": single_weights([[1.0, below]]),
        "b": single_weights([[2.0, 3.0]]),
    }
    shares = global_magnitude(candidates, 0.5)
    assert removed(candidates, shares) == {"a": 1, "b": 1}


def test_a_global_cut_makes_no_copy_of_all_scores():
    candidates = kernels(*[(256, 256)] * 4)
    size = sum(c.scores.nbytes for c in candidates.values())
    tracemalloc.start()
    global_magnitude(candidates, 0.5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size / 4
