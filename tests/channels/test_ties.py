"""Union-find against the definition: the smallest equivalence that holds the ties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_pdp.channels.ties import Ties

PAIRS = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)


def classes(pairs, count=20):
    """Labels by relaxation, the slow and plain way."""
    label = list(range(count))
    for _ in range(count):
        for a, b in pairs:
            label[a] = label[b] = min(label[a], label[b])
    return label


@given(PAIRS)
def test_tied_means_connected(pairs):
    ties = Ties()
    ids = ties.fresh(20)
    for a, b in pairs:
        ties.tie(ids[a : a + 1], ids[b : b + 1])
    roots, label = ties.roots(ids), classes(pairs)
    for i in range(20):
        for j in range(20):
            assert (roots[i] == roots[j]) == (label[i] == label[j])
    np.testing.assert_array_equal(ties.all_roots(), roots)


@given(PAIRS, st.integers(0, 19), st.integers(0, 30))
def test_a_pin_holds_all_that_are_tied_whenever_it_comes(pairs, pinned, when):
    ties = Ties()
    ids = ties.fresh(20)
    for turn, (a, b) in enumerate([*pairs, (0, 0)]):
        if turn == min(when, len(pairs)):
            ties.pin(ids[pinned : pinned + 1], "reason")
        ties.tie(ids[a : a + 1], ids[b : b + 1])
    label = classes(pairs)
    for each in range(20):
        reason = ties.reason(int(ties.roots(ids[each : each + 1])[0]))
        assert reason == ("reason" if label[each] == label[pinned] else None)


def test_the_first_reason_is_told():
    ties = Ties()
    ids = ties.fresh(1)
    ties.pin(ids, "first")
    ties.pin(ids, "second")
    assert ties.reason(0) == "first"


def test_lengths_have_to_agree():
    ties = Ties()
    with pytest.raises(ValueError):
        ties.tie(ties.fresh(2), ties.fresh(3))
