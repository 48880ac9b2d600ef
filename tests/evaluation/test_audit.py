"""The published protocol: every relabeling tried, and what it gives where there is nothing."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyloom.evaluation.audit import (
    TestedFit,
    best_of,
    published_rates,
    relabeled_rates,
    relabelings,
    shuffled_rates,
)

SAMPLE = 318  # galaxies, of which a share is tested


def blind_fit(rng, n, n_test, n_classes):
    """Guesses for some objects."""
    rows = np.sort(rng.choice(n, n_test, replace=False))
    return TestedFit(rows, rng.integers(0, n_classes, n_test))


def classes_of(n, n_classes, shares=None):
    edges = np.cumsum(shares or [1 / n_classes] * n_classes)[:-1]
    return np.searchsorted(edges, (np.arange(n) + 0.5) / n)


# --- relabelings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_classes", "count"), [(2, 2), (3, 6), (4, 24)])
def test_relabelings_are_all_orders_and_the_first_changes_nothing(n_classes, count):
    order = relabelings(n_classes)
    assert order.shape == (count, n_classes)
    assert order[0].tolist() == list(range(n_classes))
    assert len(np.unique(order, axis=0)) == count
    assert (np.sort(order, axis=1) == np.arange(n_classes)).all()


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), n_classes=st.integers(2, 4), n=st.integers(1, 40))
def test_rates_are_those_of_renaming_the_predictions_one_by_one(seed, n_classes, n):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, n_classes, (2, n))
    expected = [
        np.mean([new[p] == t for p, t in zip(predicted, truth, strict=True)])
        for new in itertools.permutations(range(n_classes))
    ]
    np.testing.assert_allclose(relabeled_rates(truth, predicted, n_classes), expected)


def test_many_versions_of_the_classes_are_rated_at_once():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 3, (4, 5, 30)), rng.integers(0, 3, 30)
    rates = relabeled_rates(truth, predicted, 3)
    assert rates.shape == (4, 5, 6)
    np.testing.assert_allclose(rates[2, 3], relabeled_rates(truth[2, 3], predicted, 3))


def test_without_relabeling_the_rate_is_the_share_that_is_right():
    truth, predicted = np.random.default_rng(1).integers(0, 3, (2, 50))
    assert relabeled_rates(truth, predicted, 3)[0] == np.mean(truth == predicted)


# --- the protocol ---------------------------------------------------------------------------------


def test_swapped_classes_are_right_after_relabeling_and_wrong_before():
    truth = classes_of(20, 2)
    fit = TestedFit(np.arange(20), 1 - truth)
    assert published_rates(truth, [fit], 2) == [1.0]
    assert published_rates(truth, [fit], 2, relabel=False) == [0.0]


def test_a_fit_is_rated_on_its_own_test_objects():
    truth = classes_of(20, 2)
    fit = TestedFit(np.array([3, 4, 15]), np.array([0, 1, 1]))
    assert published_rates(truth, [fit], 2, relabel=False) == [pytest.approx(2 / 3)]


@pytest.mark.parametrize("relabel", [True, False])
def test_predictions_of_one_class_are_skipped_as_published(relabel):
    truth = classes_of(12, 3)
    rows = np.arange(12)
    one_class = TestedFit(rows, np.full(12, 2))
    all_but_one = TestedFit(rows, np.append(np.full(11, 2), 0))
    rates = published_rates(truth, [one_class, all_but_one], 3, relabel=relabel)
    assert np.isnan(rates[0])
    assert np.isfinite(rates[1])
    many = np.tile(truth, (4, 1))
    shape = published_rates(many, [one_class, all_but_one], 3, relabel=relabel)
    np.testing.assert_array_equal(shape, np.tile(rates, (4, 1)))


def test_the_best_of_a_sweep_does_not_see_what_was_skipped():
    rates = np.array([[0.4, np.nan, 0.6], [np.nan, np.nan, np.nan]])
    assert best_of(rates)[0] == 0.6
    assert np.isnan(best_of(rates)[1])


# --- what it gives from nothing -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_classes", "n_test", "published"),
    [(2, 96, 0.541), (2, 159, 0.532), (2, 223, 0.526)]
    + [(3, 96, 0.399), (3, 159, 0.385), (3, 223, 0.376)],
)
def test_blind_guessing_has_the_expected_best_relabeling(n_classes, n_test, published):
    rng = np.random.default_rng(n_test)
    truth = classes_of(SAMPLE, n_classes)
    fits = [blind_fit(rng, SAMPLE, n_test, n_classes) for _ in range(1500)]
    assert published_rates(truth, fits, n_classes).mean() == pytest.approx(published, abs=0.01)
    unchanged = published_rates(truth, fits, n_classes, relabel=False)
    assert unchanged.mean() == pytest.approx(1 / n_classes, abs=0.01)


@pytest.mark.parametrize(("n_classes", "expected"), [(2, 0.612), (3, 0.460)])
def test_the_best_of_54_blind_fits_is_far_above_chance(n_classes, expected):
    rng = np.random.default_rng(2)
    truth = rng.permutation(classes_of(SAMPLE, n_classes))
    best = []
    for _ in range(150):
        # Splits are shared by the nine networks of the same size and seed, as published.
        splits = [
            blind_fit(rng, SAMPLE, n, n_classes).rows for n in (223, 159, 96) for _ in range(2)
        ]
        fits = [
            TestedFit(rows, rng.integers(0, n_classes, len(rows)))
            for rows in splits
            for _ in range(9)
        ]
        best.append(best_of(published_rates(truth, fits, n_classes)))
    assert np.mean(best) == pytest.approx(expected, abs=0.012)


def test_a_sweep_on_shuffled_classes_gives_what_blind_guessing_does():
    rng = np.random.default_rng(3)
    truth = classes_of(SAMPLE, 3)
    perfect = [TestedFit(np.arange(0, SAMPLE, 3), truth[::3]) for _ in range(4)]
    assert best_of(published_rates(truth, perfect, 3)) == 1
    null = shuffled_rates(truth, perfect, 3, rng, n_shuffles=400)
    assert null.shape == (400, 4)
    assert null.mean() == pytest.approx(0.396, abs=0.012)  # 106 objects
    unchanged = shuffled_rates(truth, perfect, 3, rng, n_shuffles=400, relabel=False)
    assert unchanged.mean() == pytest.approx(1 / 3, abs=0.012)


@pytest.mark.parametrize("n_shuffles", [1, 99, 100, 101, 250])
def test_there_are_as_many_shuffles_as_asked_for_and_none_twice(n_shuffles):
    rng = np.random.default_rng(4)
    fit = blind_fit(rng, 60, 40, 3)
    null = shuffled_rates(classes_of(60, 3), [fit], 3, rng, n_shuffles=n_shuffles)
    assert null.shape == (n_shuffles, 1)
    assert np.isfinite(null).all()


def test_shuffles_keep_the_shares_of_the_classes():
    truth = classes_of(100, 2, [0.9, 0.1])
    everything = TestedFit(np.arange(100), np.arange(100) % 2)
    all_named = TestedFit(np.arange(100), np.append(np.zeros(99, int), 1))
    null = shuffled_rates(
        truth, [everything, all_named], 2, np.random.default_rng(5), n_shuffles=300, relabel=False
    )
    assert null[:, 0].mean() == pytest.approx(0.5, abs=0.02)
    assert set(np.round(null[:, 1], 6)) == {0.89, 0.91}


def test_the_shuffles_of_a_sweep_are_shared_by_its_fits():
    # Fits on the same split must rise and fall together, or their best would be too high.
    rng = np.random.default_rng(6)
    one = blind_fit(rng, 90, 60, 3)
    null = shuffled_rates(classes_of(90, 3), [one, one], 3, rng, n_shuffles=120)
    np.testing.assert_array_equal(null[:, 0], null[:, 1])


def test_shuffles_follow_from_the_seed():
    fit = blind_fit(np.random.default_rng(0), 60, 30, 3)
    one, two, other = (
        shuffled_rates(classes_of(60, 3), [fit], 3, np.random.default_rng(s), n_shuffles=30)
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
