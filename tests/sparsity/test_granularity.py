"""Split and join are inverse, and cut where the indices say."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_pdp import Block, Channel, NofM, Unstructured
from keras_pdp.sparsity.granularity import check, nearest_count
from tests.sparsity import cases

serialize = keras.saving.serialize_keras_object
deserialize = keras.saving.deserialize_keras_object


@pytest.mark.parametrize("granularity, shape", cases.ALL)
def test_join_undoes_split(granularity, shape):
    w = cases.weights(shape)
    units = granularity.split(w, np)
    assert units.ndim == 3
    np.testing.assert_array_equal(granularity.join(units, shape, np), w)


@pytest.mark.parametrize("granularity, shape", cases.ALL)
def test_split_pads_with_zeros_and_loses_nothing(granularity, shape):
    w = cases.weights(shape)
    units = granularity.split(w, np).ravel()
    np.testing.assert_array_equal(np.sort(units[units != 0]), np.sort(w.ravel()))


@pytest.mark.parametrize("granularity, shape", cases.ALL)
def test_weights_of_a_unit_are_those_the_indices_say(granularity, shape):
    number = cases.numbered(*cases.membership(granularity, shape)) + 1
    units = granularity.split(number, np)
    pools, count, elements = units.shape
    assert elements == granularity.elements(shape)
    for unit in units.reshape(pools * count, elements):
        assert len(set(unit) - {0}) <= 1
    assert len(set(units.ravel()) - {0}) == number.max()


@pytest.mark.parametrize("granularity, shape", cases.ALL)
def test_pools_are_those_the_indices_say(granularity, shape):
    pool, _ = cases.membership(granularity, shape)
    units = granularity.split(pool + 1, np)
    assert all(len(set(one.ravel()) - {0}) == 1 for one in units)
    assert len(units) == pool.max() + 1


@pytest.mark.parametrize("granularity, shape", cases.ALL)
def test_sizes_and_counts_leave_padding_out(granularity, shape):
    pool, unit = cases.membership(granularity, shape)
    number = cases.numbered(pool, unit)
    sizes = granularity.sizes(shape)
    assert sizes.shape == granularity.split(np.zeros(shape), np).shape[:2]
    assert sizes.sum() == np.prod(shape)
    assert sorted(sizes[sizes > 0]) == sorted(np.bincount(number.ravel()))
    assert granularity.unit_count(shape) == number.max() + 1
    if granularity.kept_per_pool is None:
        assert granularity.prunable_count(shape) == number.max()
    else:
        groups = np.bincount(pool.ravel())
        assert granularity.prunable_count(shape) == sum(
            max(0, group - granularity.n) for group in groups
        )


@pytest.mark.parametrize("granularity, shape", cases.ALL)
def test_tensors_are_cut_like_arrays(granularity, shape):
    w = cases.weights(shape)
    units = granularity.split(cases.tensor(w))
    np.testing.assert_array_equal(cases.array(units), granularity.split(w, np))
    np.testing.assert_array_equal(cases.array(granularity.join(units, shape)), w)


def test_views_by_hand():
    w = np.arange(1, 11).reshape(5, 2)
    assert NofM(1, 2).split(w, np)[..., 0].tolist() == [
        [1, 3],
        [5, 7],
        [9, 0],
        [2, 4],
        [6, 8],
        [10, 0],
    ]
    assert Block((2, 2)).split(w, np)[0].tolist() == [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
        [9, 10, 0, 0],
    ]
    assert Channel().split(w, np)[0].tolist() == [[1, 3, 5, 7, 9], [2, 4, 6, 8, 10]]
    assert Unstructured().split(w, np)[0, :, 0].tolist() == list(range(1, 11))


def test_a_kernel_of_one_axis_has_only_that_axis():
    w = np.arange(1.0, 5.0)
    for axis in (-2, -1, 0, 3):
        assert NofM(1, 2, axis).split(w, np)[..., 0].tolist() == [[1, 2], [3, 4]]
        assert Channel(axis).split(w, np).shape == (1, 4, 1)
    assert Block((2, 3)).split(w, np)[0].tolist() == [[1, 2], [3, 4]]


def test_a_block_larger_than_the_kernel_takes_no_more_than_the_kernel():
    large = Block((10**9, 10**9))
    assert large.split(np.ones((3, 2, 5, 4)), np).shape == (1, 6, 20)
    assert large.elements((3, 2, 5, 4)) == 20
    assert large.sizes((3, 2, 5, 4)).tolist() == [[20] * 6]
    assert Block((2, 10**9)).sizes((5, 4)).tolist() == [[8, 8, 4]]


@pytest.mark.parametrize("granularity", [NofM(1, 2, axis=2), Channel(-3)])
def test_an_axis_that_is_not_there_raises(granularity):
    with pytest.raises(ValueError, match=r"axis=.* does not exist .* \(4, 4\)"):
        granularity.split(np.zeros((4, 4)), np)
    with pytest.raises(ValueError, match="between -2 and 1"):
        granularity.join(np.zeros((8, 2, 1)), (4, 4), np)


@pytest.mark.parametrize("granularity", cases.GRANULARITIES)
def test_serialisation_returns_an_equal_value(granularity):
    through_json = json.loads(json.dumps(serialize(granularity)))
    for config in (serialize(granularity), through_json):
        back = deserialize(config)
        assert back == granularity
        assert type(back) is type(granularity)
        assert hash(back) == hash(granularity)
    config = json.loads(json.dumps(granularity.get_config()))
    assert type(granularity).from_config(config) == granularity


@pytest.mark.parametrize("granularity", cases.GRANULARITIES)
def test_the_name_in_a_file_is_the_packages(granularity):
    """Another name, and files that were saved before can't be read any more."""
    kind = type(granularity)
    assert keras.saving.get_registered_name(kind) == f"keras_pdp>{kind.__name__}"


@pytest.mark.parametrize("granularity", cases.GRANULARITIES)
def test_what_ignores_the_axes_cuts_a_kernel_like_a_vector(granularity):
    alike = [
        np.array_equal(
            granularity.split(np.arange(24.0).reshape(shape), np),
            granularity.split(np.arange(24.0), np),
        )
        for shape in [(2, 12), (8, 3), (2, 3, 4)]
    ]
    assert all(alike) == granularity.ignores_axes


@pytest.mark.parametrize(
    "kind, arguments",
    [
        (NofM, (np.int64(2), np.int32(4), np.int8(-1))),
        (Block, ((np.int64(2), np.int64(3)),)),
        (Channel, (np.int64(0), np.int32(2))),
    ],
)
def test_numpy_integers_become_a_plain_config(kind, arguments):
    granularity = kind(*arguments)
    config = json.loads(json.dumps(granularity.get_config()))
    assert kind.from_config(config) == granularity


def test_values_compare_by_what_they_are():
    assert len(set(cases.GRANULARITIES)) == len(cases.GRANULARITIES)
    assert NofM(2, 4) == NofM() != NofM(2, 4, axis=-1)
    assert Block((4, 1)) == Block([4, 1]) == Block()
    assert hash(Block([4, 1])) == hash(Block((4, 1)))
    assert Channel() == Channel(-1) != Unstructured()


@pytest.mark.parametrize("granularity", [NofM(), Block(), Channel()])
def test_values_are_frozen(granularity):
    with pytest.raises(AttributeError):
        granularity.axis = 0


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda: NofM(4, 4), ValueError, "less than m. Received: n=4, m=4"),
        (lambda: NofM(5, 4), ValueError, "keeps n of every m"),
        (lambda: NofM(0, 4), ValueError, "`n` should be .* at least 1. Received: 0"),
        (lambda: NofM(-1, 4), ValueError, "`n` should be .* at least 1. Received: -1"),
        (lambda: NofM(1, 1), ValueError, "`m` should be .* at least 2. Received: 1"),
        (lambda: NofM(2, 257), ValueError, "at most 256: .*Unstructured.* m=257"),
        (lambda: NofM(2.0, 4), TypeError, "`n` should be an integer. Received: 2.0"),
        (lambda: NofM(1, "4"), TypeError, "`m` should be an integer. Received: '4'"),
        (lambda: NofM(True, 4), TypeError, "`n` should be an integer. Received: True"),
        (lambda: NofM(2, 4, 0.5), TypeError, "`axis` should be an integer"),
        (lambda: Channel(None), TypeError, "`axis` should be .* Received: None"),
        (lambda: Channel((0, 1)), TypeError, "`axis` should be an integer"),
        (lambda: Block(4), TypeError, r"pair \(rows, columns\).* Received: 4"),
        (lambda: Block((4,)), TypeError, r"pair \(rows, columns\)"),
        (lambda: Block((1, 2, 3)), TypeError, r"Received: \(1, 2, 3\)"),
        (lambda: Block("41"), TypeError, "Received: '41'"),
        (lambda: Block((4, 1.0)), TypeError, "an integer. Received: 1.0"),
        (lambda: Block((0, 4)), ValueError, "at least 1. Received: 0"),
        (lambda: Block((1, 1)), ValueError, r"is `Unstructured\(\)`"),
        (lambda: check("channel"), TypeError, r"Received: 'channel'\.$"),
        (lambda: check(Channel), TypeError, r"Channel'>\. Instantiate it\.$"),
        (lambda: check(0.9), TypeError, "should be a value such as Unstructured"),
    ],
)
def test_what_is_not_valid_raises(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_a_pattern_is_at_most_of_256_weights():
    assert NofM(2, 256).m == 256


@pytest.mark.parametrize(
    "text", ["Channel(axis=-1)", "Channel(axis=0)", "Channel(axis=-1, round_to=2)"]
)
def test_a_channels_text_builds_an_equal_one(text):
    """Reports tell the granularity; `round_to` where there is something to tell."""
    assert repr(eval(text)) == text


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_channels_along_any_axis_by_hand(axis):
    w = cases.weights((2, 3, 4))
    units = Channel(axis).split(w, np)
    assert units.shape == (1, w.shape[axis], 24 // w.shape[axis])
    for channel, weights in enumerate(units[0]):
        np.testing.assert_array_equal(weights, w.take(channel, axis).ravel())
    np.testing.assert_array_equal(Channel(axis).join(units, w.shape, np), w)


@pytest.mark.parametrize(
    "pruned, multiples, nearest",
    [
        (7, [(1, 8)], 4),  # 16 stay
        (9, [(1, 8)], 12),  # 8 stay, nearer than 16
        (8, [(1, 8)], 4),  # of two as near the smaller
        (7, [(1, 8), (1, 3)], 0),  # no number of them suits both
        (13, [(1, 4), (1, 6)], 8),  # 12 stay
        (3, [(2, 8)], 4),  # 16 stay: twice as many elsewhere
        (5, [(2, 24)], 8),  # 12 stay: 24 elsewhere
        (19, [], 19),
        (20, [], 19),  # one stays
    ],
)
def test_the_nearest_count_by_hand(pruned, multiples, nearest):
    assert nearest_count(pruned, 20, multiples) == nearest


def test_check_returns_what_it_was_given():
    granularity = NofM(1, 4)
    assert check(granularity) is granularity


@pytest.mark.parametrize("granularity", cases.GRANULARITIES)
def test_split_works_inside_a_traced_function(granularity):
    shape = (3, 2, 7, 5)
    w = cases.weights(shape)
    doubled = cases.run(
        lambda w: granularity.join(2.0 * granularity.split(w), shape), cases.MODES[-1]
    )
    np.testing.assert_array_equal(ops.convert_to_numpy(doubled(w)), 2.0 * w)


@given(
    st.integers(1, 40), st.integers(1, 10), st.integers(0, 60), st.sampled_from([1, 3])
)
def test_what_stays_is_a_multiple_of_round_to(channels, multiple, wanted, window):
    granularity = Channel(round_to=multiple)
    shape = (window, 2, channels)
    pruned = granularity.allowed(wanted, shape)
    kept = channels - pruned
    assert kept > 0
    assert kept == channels or kept % multiple == 0
    # Nothing that is allowed is nearer to what was wanted.
    others = [channels, *range(multiple, channels + 1, multiple)]
    assert abs(pruned - wanted) == min(abs(channels - k - wanted) for k in others)
    assert pruned <= granularity.prunable_count(shape)


def test_other_granularities_may_prune_all_but_one():
    assert Unstructured().allowed(99, (3, 4)) == 11
    assert Channel().allowed(99, (3, 4)) == 3
    assert Channel(axis=-2).allowed(1, (3, 4)) == 1


@pytest.mark.parametrize("value, error", [(0, ValueError), (2.0, TypeError)])
def test_round_to_is_a_count(value, error):
    with pytest.raises(error, match="`round_to` should be an integer"):
        Channel(round_to=value)
