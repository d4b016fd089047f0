"""Exact order statistics, against a sort."""

import functools
import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops

from keras_pdp.sparsity import bracket, selection, threshold
from tests.sparsity import cases

TINY = np.float32(1e-45)  # the smallest subnormal
HUGE = np.finfo("float32").max
BY_HAND = {
    "two": [0.5, 0.25],
    "two equal": [0.5, 0.5],
    "three": [3.0, 1.0, 2.0],
    "all zero": [0.0] * 5,
    "all equal": [0.1] * 6,
    "signed zeros": [0.0, -0.0, 0.0, -0.0, 1.0],
    "ties at every cut": [2.0, 1.0, 2.0, 1.0, 3.0, 2.0, 1.0, 3.0],
    "subnormals": [TINY, 0.0, 3 * TINY, 2 * TINY, 1e-38, TINY],
    "huge": [HUGE, 1.0, HUGE, np.nextafter(HUGE, np.float32(0)), 0.0],
    "neighbours": list(np.nextafter(np.float32(1), np.float32([0, 1, 2]))),
}
# Around the borders of a counting tile of 16 x 8, and of sixteen of them.
SIZES = [63, 64, 65, 127, 128, 129, 2047, 2048, 2049, 100_003]


@functools.cache
def neighbours(mode):
    return cases.run(threshold.neighbours, mode)


@functools.cache
def kept(mode):
    return cases.run(threshold.kept, mode)


def reference_kept(scores, pruned):
    """By rank: the smallest go, of equal ones the last."""
    largest_first = np.argsort(-scores.astype("float64"), kind="stable")
    mask = np.zeros(len(scores), bool)
    mask[largest_first[: len(scores) - pruned]] = True
    return mask


def check_neighbours(scores, pruned, mode):
    ranked = np.sort(np.abs(scores))
    lo, hi = neighbours(mode)(cases.tensor(scores), cases.count(pruned))
    assert (cases.array(lo), cases.array(hi)) == (ranked[pruned - 1], ranked[pruned])


def check_kept(scores, pruned, mode):
    mask = cases.array(kept(mode)(cases.tensor(scores), cases.count(pruned)))
    np.testing.assert_array_equal(mask, reference_kept(scores, pruned))


@pytest.mark.parametrize("mode", cases.MODES)
@pytest.mark.parametrize("name", BY_HAND)
def test_every_count_of_a_case_by_hand(name, mode):
    scores = np.float32(BY_HAND[name])
    for pruned in range(1, len(scores)):
        check_neighbours(scores, pruned, mode)
    for pruned in range(len(scores)):
        check_kept(scores, pruned, mode)


@pytest.mark.parametrize("mode", cases.MODES[-2:])
@pytest.mark.parametrize("n", SIZES)
def test_sizes_around_the_borders_of_a_tile(n, mode):
    rng = np.random.default_rng(n)
    scores = np.abs(rng.normal(size=n)).astype("float32")
    tied = np.round(scores, 1)
    for pruned in {1, n // 2, min(round(0.9 * n), n - 1), n - 1}:
        check_neighbours(scores, pruned, mode)
        check_kept(scores, pruned, mode)
        check_neighbours(tied, pruned, mode)
        check_kept(tied, pruned, mode)


def test_every_count_of_a_tile_and_a_bit():
    mode = cases.MODES[-1]
    scores = np.round(np.random.default_rng(0).gamma(1.0, size=131), 1)
    for pruned in range(1, 131):
        check_neighbours(scores.astype("float32"), pruned, mode)
        check_kept(scores.astype("float32"), pruned, mode)


def test_one_score_is_always_kept():
    for value in (0.0, 1.0, HUGE):
        check_kept(np.float32([value]), 0, cases.MODES[-1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_weights_tie_often_and_are_counted_exactly(dtype):
    w = ops.cast(cases.tensor(cases.weights(5000)), dtype)
    scores = cases.array(ops.abs(ops.cast(w, "float32")))
    assert len(np.unique(scores)) < 4500
    for pruned in (1, 1234, 2500, 4500, 4999):
        check_neighbours(scores, pruned, cases.MODES[-1])
        check_kept(scores, pruned, cases.MODES[-1])


# As many as are searched between bounds, and one more than fills whole tiles.
MANY = threshold.MANY + 1


def many():
    """Kinds of scores that a guess from a sample, or from even spreading, misses."""
    rng = np.random.default_rng(0)
    normal = np.abs(rng.normal(size=MANY)).astype("float32")
    wide = rng.integers(0, 2**31 - 2**23, MANY, dtype="int32").view("float32")
    unlike_the_sample = np.where(np.arange(MANY) % 61 == 0, 100 * normal, normal)
    two_scales = np.where(rng.random(MANY) < 0.5, 1e-30 * normal, normal)
    one = np.float32(1).view("int32")
    return {
        "normal": normal,
        "sorted": np.sort(normal),
        "falling": -np.sort(-normal),
        "unlike the sample": unlike_the_sample,
        "two scales": two_scales,
        "every exponent": wide,
        "ties": np.round(normal, 1),
        "half precision": normal.astype("float16").astype("float32"),
        "two values": np.where(rng.random(MANY) < 0.3, 1.0, 2.0).astype("float32"),
        "two neighbours": (one + rng.integers(0, 2, MANY, dtype="int32")).view(
            "float32"
        ),
        "every float in turn": (one + rng.permutation(MANY))
        .astype("int32")
        .view("float32"),
        "all zero": np.zeros(MANY, "float32"),
        "one that is not": np.eye(1, MANY, 7, dtype="float32")[0],
        "subnormals": (rng.integers(0, 50, MANY).astype("int32")).view("float32"),
        "huge": np.where(normal < 1, normal, HUGE),
    }


@pytest.mark.parametrize("kind", many())
def test_many_scores_are_searched_exactly_whatever_the_guesses(kind):
    scores, mode = many()[kind].astype("float32"), cases.MODES[-1]
    for pruned in (1, 2, 1000, MANY // 2, round(0.9 * MANY), MANY - 9, MANY - 1):
        check_neighbours(scores, pruned, mode)
        check_kept(scores, pruned, mode)


@pytest.mark.parametrize("more", [-1, 0, 127, 128])
def test_sizes_around_the_border_of_many(more):
    n = threshold.MANY + more
    scores = np.abs(np.random.default_rng(n).normal(size=n)).astype("float32")
    check_neighbours(scores, round(0.8 * n), cases.MODES[-1])
    check_kept(scores, round(0.8 * n), cases.MODES[-1])


@pytest.mark.parametrize("mode", cases.MODES)
@pytest.mark.parametrize("n", [2, 129, threshold.MANY, MANY])
def test_the_cut_is_by_magnitude(mode, n):
    weights = np.random.default_rng(n).normal(size=n).astype("float32")
    for pruned in (1, n // 2, n - 1):
        check_neighbours(weights, pruned, mode)
        check_neighbours(-np.abs(weights), pruned, mode)


def test_a_cut_that_is_between_many_equal_scores_on_either_side():
    scores = np.repeat(np.float32([1, 2, 3]), [MANY // 2, MANY // 4, MANY // 4])
    for pruned in (MANY // 2, MANY // 2 + MANY // 4):
        check_neighbours(scores, pruned, cases.MODES[-1])


def test_the_last_few_are_far_apart():
    """Between bounds that are half of all floats apart, from a large one on."""
    n = threshold.MANY
    scores = np.append(np.full(n - 20, 1e-3), np.geomspace(1.0, HUGE, 20))
    scores = np.random.default_rng(0).permutation(scores).astype("float32")
    for pruned in range(n - 20, n):
        check_neighbours(scores, pruned, cases.MODES[-1])


def test_of_many_scores_some_are_no_numbers():
    """A training that diverged: they count as large, as they do in a sort."""
    scores = many()["normal"]
    scores[:5] = np.nan
    check_neighbours(scores, MANY // 2, cases.MODES[-1])
    lo, hi = neighbours(cases.MODES[-1])(cases.tensor(scores), cases.count(MANY - 5))
    assert cases.array(lo) == np.nanmax(scores)
    assert np.isnan(cases.array(hi))


@pytest.mark.skipif("eager" not in cases.MODES, reason="passes can't be counted here")
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="does not count")
@pytest.mark.parametrize("name, most", [("normal", 3.5), ("two scales", 5)])
def test_many_scores_take_few_passes(monkeypatch, name, most):
    """Bit by bit takes 31. Counted where operations run one at a time."""
    scores = many()[name]
    sizes = []

    def counted(tiled, candidates):
        sizes.append(math.prod(tiled.shape))
        return counts(tiled, candidates)

    counts = bracket.counts
    monkeypatch.setattr(bracket, "counts", counted)
    passes = []
    for sparsity in (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99):
        sizes.clear()
        threshold.neighbours(cases.tensor(scores), cases.count(round(sparsity * MANY)))
        passes.append(sum(size >= MANY for size in sizes))
    assert min(passes) > 0
    assert np.mean(passes) <= most, passes


def drawn_scores(n):
    """Any finite float32 >= 0, subnormals too, or few values with many ties."""
    anything = st.floats(0.0, float(HUGE), width=32, allow_subnormal=True)
    few = st.sampled_from([0.0, -0.0, float(TINY), 0.1, 1.0])
    return arrays("float32", n, elements=anything) | arrays("float32", n, elements=few)


# Few sizes, so that each is compiled once.
@given(st.data(), st.sampled_from([2, 3, 17, 66]))
def test_neighbours_are_the_sorted_ones(data, n):
    scores = data.draw(drawn_scores(n))
    check_neighbours(scores, data.draw(st.integers(1, n - 1)), cases.MODES[-1])


@functools.cache
def between_bounds(mode):
    return cases.run(bracket.neighbours, mode)


@given(st.data(), st.sampled_from([17, 128, 131]))
def test_a_search_between_bounds_finds_any_scores(data, n):
    """Which is for many: here with all the floats there are, and a poor sample."""
    scores = np.abs(data.draw(drawn_scores(n)))
    pruned = data.draw(st.integers(1, n - 1))
    given = cases.tensor(scores), cases.count(pruned)
    found = between_bounds(cases.MODES[-1])(*given)
    found = [cases.array(key).view("float32") for key in found]
    assert found == list(np.sort(scores)[pruned - 1 : pruned + 1])


@given(st.data(), st.sampled_from([1, 2, 3, 17, 66]))
def test_kept_are_the_largest_and_the_first(data, n):
    scores = data.draw(drawn_scores(n))
    check_kept(np.abs(scores), data.draw(st.integers(0, n - 1)), cases.MODES[-1])


@pytest.mark.parametrize("function", [threshold.neighbours, threshold.kept])
@pytest.mark.parametrize("mode", [mode for mode in cases.MODES if mode != "eager"])
def test_a_new_count_is_no_new_trace(function, mode):
    traces = []

    def traced(scores, pruned):
        traces.append(mode)
        return function(scores, pruned)

    compiled = cases.run(traced, mode)
    for pruned in range(1, 99, 7):
        compiled(cases.tensor(np.arange(100.0)), cases.count(pruned))
    assert len(traces) == 1


@pytest.mark.skipif("xla" not in cases.MODES, reason="this backend has no compiler")
@pytest.mark.parametrize("function", [threshold.neighbours, threshold.kept])
def test_the_count_is_an_input_of_the_compiled_program(function):
    """So that a new count compiles nothing anew."""
    scores, pruned = cases.tensor(np.arange(100.0)), cases.count(3)
    compiled = cases.run(function, "xla")
    if hasattr(compiled, "experimental_get_compiler_ir"):
        program = compiled.experimental_get_compiler_ir(scores, pruned)(stage="hlo")
    else:
        program = compiled.lower(scores, pruned).compile().as_text()
    layout = program.split("entry_computation_layout={(")[1].split(")->")[0]
    assert "f32[100]" in layout
    assert "s32[]" in layout


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX tells its memory")
@pytest.mark.parametrize("n, most", [(threshold.MANY, 0.25), (MANY, 1.25)])
def test_many_keys_are_not_in_memory(n, most):
    """But for a sixteenth of them; scores that don't fill whole tiles, once."""
    scores, pruned = cases.tensor(np.ones(n)), cases.count(3)
    program = cases.run(threshold.neighbours, "xla").lower(scores, pruned).compile()
    assert program.memory_analysis().temp_size_in_bytes < most * scores.nbytes


def test_keys_order_like_the_scores():
    scores = np.float32(
        [0.0, -0.0, TINY, 1e-38, 1.0, np.nextafter(np.float32(1), np.float32(2)), HUGE]
    )
    keys = cases.array(selection.ordered_keys(cases.tensor(scores)))
    assert keys.dtype == np.int32
    assert keys[0] == keys[1] == 0
    assert (np.diff(keys[1:].astype("int64")) > 0).all()
