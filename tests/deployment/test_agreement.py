"""The numbers by which a file is judged, on values to check by hand."""

import numpy as np
import pytest

from keras_pdp.deployment.agreement import compare

REFERENCE = np.array([[1.0, 3.0], [3.0, 1.0]])


def test_equal_outputs():
    agreement = compare("y", REFERENCE, REFERENCE)
    assert agreement.max_abs_difference == agreement.relative_difference == 0
    assert agreement.top1_agreement == 1


def test_difference_relative_to_the_spread_over_samples():
    # the spread is 1, the size is sqrt(5)
    agreement = compare("y", REFERENCE, REFERENCE + [[0.5, 0], [0, 0]])
    assert agreement.relative_difference == pytest.approx(0.25)
    assert agreement.max_abs_difference == 0.5


def test_an_output_that_ignores_its_input_is_off_by_its_spread():
    agreement = compare("y", REFERENCE, np.full((2, 2), 2.0))
    assert agreement.relative_difference == pytest.approx(1)


def test_a_constant_output_is_measured_by_a_tenth_of_its_size():
    agreement = compare("y", np.full((2, 1), 2.0), np.full((2, 1), 2.1))
    assert agreement.relative_difference == pytest.approx(0.5)
    assert agreement.top1_agreement is None


def test_zero_against_zero_and_against_something():
    zeros = np.zeros((2, 2))
    assert compare("y", zeros, zeros).relative_difference == 0
    assert compare("y", zeros, zeros + 1e-9).relative_difference == np.inf


def test_nan_counts_only_where_the_reference_has_none():
    reference = np.array([[np.nan, 1.0], [2.0, 3.0]])
    received = np.array([[0.0, np.inf], [np.nan, 3.0]])
    agreement = compare("y", reference, received)
    assert (agreement.broken, agreement.undefined) == (2, 1)


def test_top1_by_position():
    reference = np.array([[[1, 2], [2, 1]], [[1, 2], [2, 1]]])
    received = np.array([[[1, 2], [1, 2]], [[1, 2], [2, 1]]])
    assert compare("y", reference, received).top1_agreement == 0.75


@pytest.mark.parametrize(
    "reference, received, message",
    [
        (np.ones((2, 3)), np.ones((2, 4)), r"expected shape \(2, 3\)"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), "of the Keras model itself"),
    ],
)
def test_what_cannot_be_compared(reference, received, message):
    with pytest.raises(ValueError, match=message):
        compare("y", reference, received)


def test_entries_that_are_lost_beside_large_ones_are_counted():
    rng = np.random.default_rng(0)
    boxes, scores = rng.uniform(0, 416, (32, 4)), rng.uniform(0, 1, (32, 80))
    reference = np.concatenate([boxes, scores], axis=-1)
    received = np.concatenate([boxes, 0 * scores], axis=-1)
    agreement = compare("y", reference, received)
    assert agreement.relative_difference < 0.05  # nothing by itself
    assert agreement.lost == 80
    assert compare("y", reference, reference).lost == 0
    # What hardly varies, and the small shares of a softmax, are no loss.
    still = np.concatenate([boxes, 0 * scores + 0.5], axis=-1)
    assert compare("y", still, received).lost == 0
    shares = np.full((8, 3), 0.001)
    shares[:4, 0] = shares[4:, 1] = 0.998
    shares[:, 2] += np.linspace(-0.001, 0.001, 8)
    # Nor is a label that never was there.
    labels = np.concatenate([scores, 1e-5 * scores[:, :2]], axis=-1)
    assert compare("y", labels, np.round(labels, 2)).lost == 0
    rounded = np.round(shares)
    assert compare("y", shares / shares.sum(1, keepdims=True), rounded).lost == 0
