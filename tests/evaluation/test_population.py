"""Probabilities in another population than that of the training."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyloom.evaluation.population import (
    describe_population,
    estimate_population,
    population_in_words,
    reweight,
    shares_in_population,
)

EQUAL = np.full(3, 1 / 3)
RARE = np.array([0.05, 0.25, 0.7])
DESCRIPTION = {"class_names": ["bent", "FRI", "FRII"], "trained_shares": EQUAL.tolist()}


def objects(shares, n=20_000, seed=0):
    """True classes, and what Bayes' theorem says with equal shares: one number is measured."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, n, p=shares)
    seen = truth * 1.5 + rng.normal(size=n)
    likelihood = np.exp(-0.5 * (seen[:, None] - 1.5 * np.arange(3)) ** 2)
    return truth, likelihood / likelihood.sum(axis=1, keepdims=True)


def test_in_its_population_a_probability_is_the_share_that_is_right():
    truth, said = objects(RARE)
    for name, low, high in ((0, 0.2, 0.4), (1, 0.3, 0.5), (2, 0.8, 0.95)):
        for probability, holds in ((said, False), (reweight(said, EQUAL, RARE), True)):
            chosen = (probability[:, name] > low) & (probability[:, name] < high)
            mean, share = probability[chosen, name].mean(), (truth[chosen] == name).mean()
            assert (abs(mean - share) < 0.03) == holds
    before, after = (
        (p.argmax(axis=1) == truth).mean() for p in (said, reweight(said, EQUAL, RARE))
    )
    assert after > before + 0.05


def test_shares_are_estimated_from_the_objects_themselves():
    _, said = objects(RARE)
    shares = estimate_population(said, EQUAL)
    np.testing.assert_allclose(shares, RARE, atol=0.02)
    np.testing.assert_allclose(reweight(said, EQUAL, shares).mean(axis=0), shares, atol=1e-5)


@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda p: sum(p) > 0.01),
    st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
    st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda p: sum(p) > 0.01),
)
@settings(max_examples=200)
def test_they_add_up_whatever_the_shares_and_the_same_population_changes_nothing(p, old, new):
    p, old, new = (np.array(values) / sum(values) for values in (p, old, new))
    changed = reweight(p, old, new)
    assert np.isfinite(changed).all()
    assert changed.sum() == pytest.approx(1)
    assert (changed[new == 0] == 0).all()
    np.testing.assert_allclose(reweight(p, old, old), p, atol=1e-9)


def test_what_was_not_classified_stays_so_and_is_not_counted():
    _, said = objects(RARE, 2000)
    gaps = np.concatenate([said, np.full((500, 3), np.nan)])
    _, with_gaps = shares_in_population("estimated", gaps, DESCRIPTION)
    _, without = shares_in_population("estimated", said, DESCRIPTION)
    np.testing.assert_allclose(with_gaps, without)
    assert np.isnan(reweight(gaps, EQUAL, RARE)[-500:]).all()
    trained, nothing = shares_in_population("estimated", gaps[-5:], DESCRIPTION)
    np.testing.assert_array_equal(trained, nothing)


def test_the_shares_asked_for_are_those_of_the_classes_by_name():
    given_shares = {"FRII": 0.7, "bent": 0.05, "FRI": 0.25}
    trained, shares = shares_in_population(given_shares, np.empty((0, 3)), DESCRIPTION)
    np.testing.assert_array_equal(trained, EQUAL)
    np.testing.assert_array_equal(shares, RARE)
    described = describe_population(given_shares, shares, DESCRIPTION["class_names"])
    assert json.loads(json.dumps(described)) == described
    assert population_in_words(described) == (
        "Probabilities are for the population that was given (bent 0.05, FRI 0.25, FRII 0.7)."
    )


@pytest.mark.parametrize(
    ("population", "words"),
    [
        (None, "as frequent as in the training (a 0.9, b 0.1)"),
        ("estimated", "from these objects ("),
    ],
)
def test_whose_population_it_is_is_said(population, words):
    described = describe_population(population, np.array([0.9, 0.1]), ["a", "b"])
    assert words in population_in_words(described)


@pytest.mark.parametrize("population", [{"FRI": 1.0}, {"bent": 0.5, "FRI": 0.3, "X": 0.2}])
def test_a_population_of_other_classes_is_refused(population):
    with pytest.raises(ValueError, match=r"a share for each class .*'bent', 'FRI', 'FRII'\]; got"):
        shares_in_population(population, np.empty((0, 3)), DESCRIPTION)


def test_a_classifier_that_does_not_say_how_it_was_trained_is_used_as_it_is():
    old = {"class_names": ["bent", "FRI", "FRII"]}
    trained, shares = shares_in_population(None, np.empty((0, 3)), old)
    np.testing.assert_array_equal(trained, shares)
    with pytest.raises(ValueError, match="train it again"):
        shares_in_population("estimated", np.empty((0, 3)), old)
