"""What holds for any kernel: of every dtype, size and share, with ties and extremes.

A hundred cases each as a rule, thousands by night; see tests/profiles.py.
"""

import functools
import json
import math

import keras
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from keras import ops

from keras_pdp import (
    Absolute,
    Block,
    Calibrated,
    Channel,
    NofM,
    Unstructured,
    erdos_renyi,
    global_magnitude,
    lamp,
    uniform,
)
from keras_pdp.sparsity import layout, mask
from keras_pdp.sparsity.allocation import Candidate
from keras_pdp.sparsity.schedule import Epochs, Linear, PerEpoch, Position, Steps
from tests.sparsity import cases

HUGE = float(np.finfo("float32").max)
TINY = float(np.float32(1e-45))  # the smallest subnormal

axes = st.integers(-5, 4)
of_patterns = st.integers(2, 9).flatmap(
    lambda m: st.builds(NofM, st.integers(1, m - 1), st.just(m), axes)
)
of_blocks = st.builds(
    Block,
    st.tuples(st.integers(1, 17), st.integers(1, 17)).filter(lambda b: b != (1, 1)),
)
granularities = st.one_of(
    st.just(Unstructured()),
    of_patterns,
    of_blocks,
    st.builds(Channel, axes, st.integers(1, 9)),
)
positive = st.floats(0.0, exclude_min=True, allow_nan=False, allow_infinity=False)
temperatures = st.builds(Calibrated, positive) | st.builds(
    Absolute, st.floats(1e-30, 1e30)
)
shapes = array_shapes(min_dims=1, max_dims=5, max_side=7)
# Few, so that each is traced once and then runs thousands of times.
KINDS = [Unstructured(), Block((2, 3)), Channel(), NofM(2, 4)]
KERNELS = [(1,), (10, 3)]
GRAPH = cases.MODES[min(1, len(cases.MODES) - 1)]


def fits(granularity, shape):
    """Whether the axis is there; a kernel of one axis has only that one."""
    axis = getattr(granularity, "axis", -1)
    return len(shape) == 1 or -len(shape) <= axis < len(shape)


@functools.cache
def hard(granularity, shape, dtype):
    return cases.run(lambda w, pruned: mask.hard_mask(w, pruned, granularity), GRAPH)


@functools.cache
def soft(granularity, shape):
    return cases.run(
        lambda w, pruned, tau: mask.soft_mask(w, pruned, tau, granularity), GRAPH
    )


@functools.cache
def threshold(granularity, shape):
    return cases.run(
        lambda w, pruned: mask.cut(mask.scores(w, granularity), pruned, granularity),
        GRAPH,
    )


@given(granularities, shapes)
def test_a_kernel_of_any_shape_is_cut_and_put_together(granularity, shape):
    assume(fits(granularity, shape))
    w = np.arange(1.0, 1.0 + math.prod(shape)).reshape(shape)
    units = granularity.split(w, np)
    np.testing.assert_array_equal(granularity.join(units, shape, np), w)
    assert np.count_nonzero(units) == w.size
    sizes = granularity.sizes(shape)
    np.testing.assert_array_equal(sizes, np.count_nonzero(units, axis=-1))
    assert units.shape == (*sizes.shape, granularity.elements(shape))
    assert granularity.unit_count(shape) == np.count_nonzero(sizes)
    most = granularity.prunable_count(shape)
    assert 0 <= most < granularity.unit_count(shape)
    for wanted in (0, most, most + 1, w.size):
        allowed = granularity.allowed(wanted, shape)
        assert 0 <= allowed <= most
    assert granularity.allowed(0, shape) == 0


def drawn_weights(shape, dtype, grouped):
    """Any weights of the dtype, or few values with many ties.

    Where squares are summed they must fit float32, which the weights themselves fill.
    """
    if dtype == "float16":
        largest, smallest = 65504.0, 2.0**-24
    elif grouped:
        largest, smallest = 2.0**60, 2.0**-60
    else:
        largest, smallest = HUGE, TINY
    size = st.floats(-largest, largest, width=32, allow_subnormal=not grouped)
    size = size.filter(lambda x: x == 0.0 or abs(x) >= smallest)
    few = st.sampled_from([0.0, -0.0, 0.1, -0.1, 0.3, largest, -smallest])
    return arrays("float32", shape, elements=size) | arrays(
        "float32", shape, elements=few
    )


@given(
    st.data(),
    st.sampled_from(KINDS),
    st.sampled_from(KERNELS),
    st.sampled_from(["float16", "bfloat16", "float32", "float64"]),
    st.floats(0.0, 1.0),
)
def test_any_kernel_of_any_dtype_is_masked(data, granularity, shape, dtype, share):
    grouped = granularity.elements(shape) > 1
    w = ops.cast(cases.tensor(data.draw(drawn_weights(shape, dtype, grouped))), dtype)
    assume(bool(np.isfinite(cases.array(ops.cast(w, "float32"))).all()))
    most = granularity.prunable_count(shape)
    # A pattern is in force or it is not.
    pattern = granularity.kept_per_pool is not None
    pruned = most * round(share) if pattern else round(share * most)

    run = hard(granularity, shape, dtype)
    keep = cases.array(run(w, cases.count(pruned)))
    number = cases.numbered(*cases.membership(granularity, shape))
    assert len(np.unique(number[~keep])) == pruned
    assert len(np.unique(number[keep])) == number.max() + 1 - pruned

    s = cases.array(mask.scores(w, granularity))
    assert (s >= 0.0).all() and np.isfinite(s).all()
    if not pattern and pruned:
        kept = granularity.split(keep, np)[..., 0]
        there = granularity.sizes(shape) > 0
        assert s[there & ~kept].max() <= s[there & kept].min()


@given(
    st.data(),
    st.sampled_from(KINDS),
    st.sampled_from(KERNELS),
    st.floats(0.0, 1.0),
    st.builds(Calibrated, st.floats(1e-3, 1e3)) | temperatures,
)
def test_the_soft_mask_is_a_share_of_any_kernel(
    data, granularity, shape, share, temperature
):
    most = granularity.prunable_count(shape)
    assume(most > 0)
    grouped = granularity.elements(shape) > 1
    w = cases.tensor(data.draw(drawn_weights(shape, "float32", grouped)))
    pruned = cases.count(max(1, round(share * most)))
    t = threshold(granularity, shape)(w, pruned)
    tau = temperature.at(float(np.max(cases.array(t))))
    m = cases.array(soft(granularity, shape)(w, pruned, cases.tensor(tau)))
    assert m.dtype == np.float32
    assert ((m >= 0.0) & (m <= 1.0)).all()


@given(temperatures, st.floats(0.0, HUGE, width=32))
def test_every_temperature_divides_and_is_divided(temperature, threshold):
    """As the float32 it is stored in."""
    tau = np.float32(temperature.at(threshold))
    assert np.isfinite(tau)
    assert tau >= np.finfo("float32").tiny


@given(granularities | temperatures)
def test_every_value_survives_its_configuration(value):
    serialised = keras.saving.serialize_keras_object(value)
    back = keras.saving.deserialize_keras_object(json.loads(json.dumps(serialised)))
    assert back == value
    assert type(back) is type(value)
    assert type(value).from_config(json.loads(json.dumps(value.get_config()))) == value


@given(
    st.permutations("abcd"),
    st.integers(1, 4),
    st.lists(st.integers(1, 5), min_size=4, max_size=4),
    st.data(),
)
def test_any_einsum_kernel_is_laid_out_and_put_back(letters, rank, sides, data):
    """Each letter of the kernel is in the input, in the output, or in both."""
    kernel = "".join(letters[:rank])
    where = data.draw(st.lists(st.sampled_from("iob"), min_size=rank, max_size=rank))
    pairs = list(zip(kernel, where, strict=True))
    given_ = "z" + "".join(x for x, place in pairs if place in "ib")
    made = "z" + "".join(x for x, place in pairs if place in "ob")
    way = layout.einsum(f"{given_},{kernel}->{made}")
    w = np.arange(float(math.prod(sides[:rank]))).reshape(sides[:rank])
    brought = way.bring(w, np)
    assert brought.shape == way.shape(w.shape)
    np.testing.assert_array_equal(way.restore(brought, w.shape, np), w)
    size = dict(zip(kernel, w.shape, strict=True))
    outputs = math.prod(size[x] for x, place in pairs if place == "o")
    summed = math.prod(size[x] for x, place in pairs if place == "i")
    assert brought.shape[-2:] == (summed, outputs)
    along = way.along_outputs(w.shape)
    assert math.prod(along) == outputs
    assert all(n in (1, side) for n, side in zip(along, w.shape, strict=True))


@given(st.sampled_from(["as_stored", "transposed", "depthwise"]), shapes)
def test_any_stored_kernel_is_laid_out_and_put_back(kind, shape):
    assume(len(shape) >= {"as_stored": 1, "transposed": 2, "depthwise": 3}[kind])
    way = getattr(layout, kind)(len(shape))
    w = np.arange(float(math.prod(shape))).reshape(shape)
    brought = way.bring(w, np)
    assert brought.shape == way.shape(shape)
    np.testing.assert_array_equal(way.restore(brought, shape, np), w)


units = st.lists(
    st.tuples(st.sampled_from([0.0, TINY, 0.1, HUGE]) | st.floats(0, HUGE, width=32)),
    min_size=1,
    max_size=20,
)


@given(
    st.sampled_from([uniform, global_magnitude, erdos_renyi, lamp]),
    st.lists(st.tuples(units, st.integers(1, 64)), min_size=1, max_size=6),
    st.floats(0.0, 1.0, exclude_max=True),
)
def test_any_budget_is_met_as_far_as_it_can_be(rule, kernels, sparsity):
    """Units of one size in each kernel; one of them always stays."""
    candidates = {
        f"k{i}": Candidate(
            np.float32(found).ravel(), np.full(len(found), size), (size, len(found))
        )
        for i, (found, size) in enumerate(kernels)
    }
    shares = rule(candidates, sparsity)
    assert list(shares) == list(candidates)
    removed, most, largest = 0, 0, 0
    for name, candidate in candidates.items():
        n, size = len(candidate.scores), int(candidate.sizes[0])
        count = round(shares[name] * n)
        assert 0 <= count < n
        assert shares[name] == count / n
        removed += count * size
        most += (n - 1) * size
        largest = max(largest, size)
    missing = round(sparsity * sum(c.weights for c in candidates.values())) - removed
    assert missing >= -largest / 2
    assert missing <= largest / 2 or removed == most


@given(st.integers(0, 50), st.floats(0.0, 0.999), st.integers(1, 40))
def test_one_ramp_in_any_unit_rises_alike(whole, part, length):
    """Fractions, epochs and steps of one run, and held within each epoch."""
    epochs, per_epoch, epoch = 100, 10, whole + part
    position = Position(epoch, epoch * per_epoch, epochs)
    ways = [
        Linear(0.1, 0.1 + length / 100),
        Linear(Epochs(10), Epochs(10 + length)),
        Linear(Steps(100), Steps(100 + 10 * length)),
    ]
    values = [way(position) for way in ways]
    np.testing.assert_allclose(values, values[0], atol=1e-9)
    start = Position(whole, whole * per_epoch, epochs)
    for way in ways:
        held = PerEpoch(way)(position)
        np.testing.assert_allclose(held, way(start), atol=1e-9)
        assert held <= way(position) + 1e-9
