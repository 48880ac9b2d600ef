"""Calibration: the temperature is found, the classes stay, the error is what it says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from skyloom.evaluation.calibration import (
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
)


def calibrated_sample(n=6000, n_classes=3, seed=0):
    """Logits whose probabilities are exactly the frequencies of the classes."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, n_classes))
    cumulative = softmax(logits, axis=1).cumsum(axis=1)
    classes = np.minimum((rng.random((n, 1)) > cumulative).sum(axis=1), n_classes - 1)
    return logits, classes


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_factor_by_which_logits_were_made_too_large_is_found(factor, n_classes):
    logits, classes = calibrated_sample(n_classes=n_classes)
    temperature = fit_temperature(softmax(factor * logits, axis=1), classes)
    assert temperature == pytest.approx(factor, rel=0.06)
    again = apply_temperature(softmax(factor * logits, axis=1), factor)
    np.testing.assert_allclose(again, softmax(logits, axis=1), atol=1e-6)


def test_the_calibration_error_falls_to_that_of_the_calibrated_probabilities():
    logits, classes = calibrated_sample()
    bold = softmax(4 * logits, axis=1)
    after = apply_temperature(bold, fit_temperature(bold, classes))
    ideal = expected_calibration_error(softmax(logits, axis=1), classes)
    assert expected_calibration_error(bold, classes) > 0.1
    assert expected_calibration_error(after, classes) == pytest.approx(ideal, abs=0.01)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    n_classes=st.integers(2, 5),
    temperature=st.floats(0.1, 10),
    spread=st.floats(0.1, 5),
)
def test_no_temperature_changes_the_most_probable_class(seed, n_classes, temperature, spread):
    logits = np.random.default_rng(seed).normal(0, spread, (20, n_classes))
    probability = softmax(logits, axis=1)
    scaled = apply_temperature(probability, temperature)
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    np.testing.assert_array_equal(scaled.argmax(axis=1), probability.argmax(axis=1))
    confidence = scaled.max(axis=1), probability.max(axis=1)
    if temperature > 1:
        assert (confidence[0] <= confidence[1] + 1e-9).all()
    else:
        assert (confidence[0] >= confidence[1] - 1e-9).all()


def test_a_temperature_of_one_changes_nothing():
    probability = softmax(np.random.default_rng(0).normal(size=(10, 3)), axis=1)
    np.testing.assert_allclose(apply_temperature(probability, 1.0), probability)


def test_probabilities_of_zero_are_no_obstacle():
    probability = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], np.float32)
    classes = np.array([0, 1, 0, 1])
    assert fit_temperature(probability, classes) == pytest.approx(10, rel=0.05)
    assert np.isfinite(apply_temperature(probability, 10.0)).all()


@pytest.mark.parametrize(("classes", "limit"), [([0, 0, 0], 0.1), ([1, 1, 1], 10.0)])
def test_the_temperature_stays_within_its_limits(classes, limit):
    # Always right wants to be more certain without end, always wrong less.
    probability = np.array([[0.8, 0.2]] * 3)
    assert fit_temperature(probability, np.array(classes)) == pytest.approx(limit, rel=0.01)


def test_bins_that_are_right_as_often_as_they_say_have_no_error():
    confidence = np.repeat([0.6, 0.8, 1.0], 20)
    right = np.concatenate([np.arange(20) < 20 * share for share in (0.6, 0.8, 1.0)])
    probability = np.column_stack([confidence, 1 - confidence])
    assert expected_calibration_error(probability, np.where(right, 0, 1), 3) == pytest.approx(0)


def test_the_error_is_the_distance_of_confidence_and_success():
    probability = np.tile([0.9, 0.1], (50, 1))
    classes = np.repeat([0, 1], [30, 20])
    assert expected_calibration_error(probability, classes, 1) == pytest.approx(0.3)


def test_bins_weigh_as_their_objects():
    # Three objects in two bins: two that are half right at 0.6, one that is right at 1.
    probability = np.array([[0.6, 0.4], [0.6, 0.4], [1.0, 0.0]])
    error = expected_calibration_error(probability, np.array([0, 1, 0]), 2)
    assert error == pytest.approx((0.1 * 2 + 0.0) / 3)


def test_fewer_objects_than_bins_is_no_error():
    assert expected_calibration_error(np.array([[0.7, 0.3]]), np.array([0])) == pytest.approx(0.3)
