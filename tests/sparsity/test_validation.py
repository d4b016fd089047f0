"""What becomes of the numbers that a user passes, and what is said of wrong ones."""

from fractions import Fraction

import numpy as np
import pytest

from keras_pdp.sparsity import validation

NAN, INF = float("nan"), float("inf")
TAKEN = [
    (validation.real, (-2, 0, 0.5, np.float32(0.5), np.int64(3), Fraction(1, 4))),
    (validation.positive, (1e-300, 0.5, np.float32(0.5), 3)),
    (validation.not_negative, (0, 0.0, 1e-300, np.int64(3))),
    (validation.sparsity, (0, 0.0, 0.5, np.float32(0.25), 1 - 1e-12)),
]
REFUSED = [
    (validation.real, (NAN, INF, -INF, np.float32("nan"))),
    (validation.positive, (0, 0.0, -1e-300, -1, NAN)),
    (validation.not_negative, (-1e-300, -1, NAN)),
    (validation.sparsity, (1, 1.0, 1.5, -1e-12, -0.5, NAN)),
]
NO_NUMBERS = ("0.5", None, True, False, [0.5], 1j, np.array(0.5))


def listed(table):
    return [(check, value) for check, values in table for value in values]


@pytest.mark.parametrize(("check", "value"), listed(TAKEN))
def test_a_number_becomes_a_plain_float(check, value):
    found = check("here", value)
    assert type(found) is float
    assert found == value


@pytest.mark.parametrize(("check", "value"), listed(REFUSED))
def test_a_number_out_of_range_is_named(check, value):
    with pytest.raises(ValueError, match="`here`") as raised:
        check("here", value)
    assert repr(value) in str(raised.value)


@pytest.mark.parametrize("check", [check for check, _ in TAKEN])
@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_number_is_named_with_its_type(check, value):
    with pytest.raises(TypeError, match="`here`") as raised:
        check("here", value)
    assert type(value).__name__ in str(raised.value)


@pytest.mark.parametrize("value", [-3, 0, 2, np.int64(7), np.uint8(7)])
def test_a_whole_number_becomes_a_plain_int(value):
    found = validation.integer("here", value)
    assert type(found) is int
    assert found == value


def test_a_whole_number_has_its_minimum():
    assert validation.integer("here", 2, minimum=2) == 2
    assert validation.integer("here", 0, minimum=0) == 0
    for value, minimum in ((1, 2), (-1, 0), (np.int64(1), 2)):
        with pytest.raises(ValueError, match=f"`here`.* at least {minimum}"):
            validation.integer("here", value, minimum=minimum)


@pytest.mark.parametrize("value", [2.0, np.float32(2), *NO_NUMBERS], ids=repr)
def test_what_is_no_whole_number_is_named_with_its_type(value):
    with pytest.raises(TypeError, match="`here`") as raised:
        validation.integer("here", value)
    assert type(value).__name__ in str(raised.value)
