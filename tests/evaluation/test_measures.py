"""Measures: what is asked of objects, as tables, scores and words."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, mean_absolute_error, root_mean_squared_error

from skyloom.evaluation.measures import (
    balanced_accuracy,
    class_targets,
    classification,
    classification_of,
    n_classes_of,
    regression,
    score_beside,
)
from skyloom.evaluation.scores import score_predictions

ANGLES = regression(scale=90.0, unit="deg", limits=(0, 180))


def rng():
    return np.random.default_rng(1)


def classes_table(truth, predicted, seed=0):
    """Predictions of one configuration, as a comparison gives them."""
    table = classification(2).table(truth, np.eye(2)[predicted] * 0.8 + 0.1)
    n = len(truth)
    about = pd.DataFrame(
        {"seed": seed, "fold": np.arange(n) % 4, "id": [f"g{i}" for i in range(n)]}
    )
    return about.join(table)


def numbers_table(truth, predicted, seed=0):
    """The same of angles; of each object there may be several predictions."""
    table = ANGLES.table(truth, np.asarray(predicted) / 90)
    n = len(truth)
    about = pd.DataFrame({"seed": seed, "fold": 0, "id": [f"g{i}" for i in range(n)]})
    return about.join(table)


# --- classes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_the_table_of_classes_has_the_most_probable_one_and_all_probabilities(n_classes):
    probability = np.random.default_rng(0).dirichlet(np.ones(n_classes), 20)
    truth = np.arange(20) % n_classes
    table = classification(n_classes).table(truth, probability)
    names = [f"probability_{k}" for k in range(n_classes)]
    assert list(table) == ["class", "predicted", *names]
    assert table["class"].tolist() == truth.tolist()
    assert table["predicted"].tolist() == probability.argmax(axis=1).tolist()
    np.testing.assert_array_equal(table[names], probability)


@pytest.mark.parametrize("measure", [classification(3), regression()])
def test_columns_that_every_prediction_has_are_those_of_its_table(measure):
    table = measure.table(np.zeros(1, int), np.zeros((1, 1)))
    assert tuple(table)[: len(measure.table_columns)] == measure.table_columns


def test_folds_select_classes_by_the_balanced_accuracy_whatever_classes_were_tested():
    generator = np.random.default_rng(3)
    for n_classes in (2, 3):
        truth, predicted = generator.integers(0, n_classes, (2, 40))
        table = pd.DataFrame({"class": truth, "predicted": predicted})
        expected = balanced_accuracy_score(truth, predicted)
        assert balanced_accuracy(table) == pytest.approx(expected)
        assert classification(n_classes).score(table) == pytest.approx(expected)
    only = pd.DataFrame({"class": [1, 1, 1, 1], "predicted": [1, 1, 0, 0]})
    assert classification(3).score(only) == 0.5


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_guessing_gives_what_is_said_to_be_chance(n_classes):
    generator = np.random.default_rng(0)
    truth, predicted = generator.integers(0, n_classes, (2, 20000))
    measure = classification(n_classes)
    table = pd.DataFrame({"class": truth, "predicted": predicted})
    assert measure.score(table) == pytest.approx(measure.chance, abs=0.02)


def test_what_is_reported_of_classes_are_the_scores_of_the_predictions():
    table = classes_table(np.arange(30) % 2, (np.arange(30) + (np.arange(30) % 5 == 0)) % 2)
    scores = classification(2).scores(table, rng())
    assert scores == score_predictions(table, 2, rng())
    measure = classification(2)
    named = (measure.headline, *measure.columns)
    assert {column.name for column in named} <= set(scores)
    assert {*measure.interval, "chance_level"} <= set(scores)


def test_classes_are_trained_on_as_keras_takes_them():
    target = class_targets(np.array([2, 0, 1]))
    assert target.dtype == np.int32
    assert target.tolist() == [2, 0, 1]
    assert classification(3).target is class_targets


def test_the_measure_of_a_split_counts_its_classes():
    manifest = pd.DataFrame({"class": [0, 2, 1, 2]})
    assert n_classes_of(manifest) == 3
    assert classification_of(manifest).chance == pytest.approx(1 / 3)
    assert n_classes_of(manifest[:0]) == 0
    assert classification_of(manifest[:0]).chance == 1


# --- numbers --------------------------------------------------------------------------------------


def test_the_table_of_numbers_has_the_mean_of_the_predictions_and_their_scatter():
    truth = np.array([30.0, 170.0, np.nan])
    table = ANGLES.table(truth, np.array([[0.3, 0.5], [2.1, 2.3], [1.0, 1.0]]))
    assert list(table) == ["target", "predicted", "scatter"]
    # In units of the scale, and between the limits.
    np.testing.assert_allclose(table["predicted"], [36, 180, 90])
    np.testing.assert_allclose(table["scatter"], [9, 9, 0])
    pd.testing.assert_series_equal(table["target"], pd.Series(truth, name="target"))
    free = regression(scale=90.0).table(truth, np.array([[0.3], [2.2], [1.0]]))
    np.testing.assert_allclose(free["predicted"], [27, 198, 90])
    assert (free["scatter"] == 0).all()


def test_what_is_trained_on_is_in_units_of_the_scale():
    target = ANGLES.target(np.array([45.0, 90.0]))
    assert target.dtype == np.float32
    assert target.tolist() == [0.5, 1.0]


def test_a_smaller_error_is_a_better_score_and_unknown_numbers_do_not_count():
    truth = np.array([10.0, 50.0, np.nan])
    near, far = (numbers_table(truth, truth + off) for off in (2.0, 5.0))
    assert (ANGLES.score(near), ANGLES.score(far)) == pytest.approx((-2, -5))
    assert ANGLES.score(near) > ANGLES.score(far) > ANGLES.chance


def test_errors_are_those_of_scikit_learn_over_the_objects_that_are_known():
    generator = np.random.default_rng(0)
    truth = generator.uniform(20, 160, 50)
    tables = [numbers_table(truth, truth + generator.normal(0, 5, 50), seed) for seed in (0, 1)]
    unknown = numbers_table(np.array([np.nan]), [90.0]).assign(id="unknown")
    both = pd.concat([*tables, unknown], ignore_index=True)
    scores = ANGLES.scores(both, rng())
    known = both[both["id"] != "unknown"]
    expected = mean_absolute_error(known["target"], known["predicted"])
    assert scores["mae"] == pytest.approx(expected)
    assert scores["mae_low"] < scores["mae"] < scores["mae_high"]
    assert scores["rmse"] == pytest.approx(
        root_mean_squared_error(known["target"], known["predicted"])
    )
    assert (scores["n_objects"], scores["n_seeds"]) == (50, 2)


def test_chance_is_the_error_of_whoever_always_says_the_median():
    truth = np.array([10.0, 20.0, 30.0, 100.0])
    scores = ANGLES.scores(numbers_table(truth, truth), rng())
    assert scores["chance_level"] == pytest.approx(np.abs(truth - 25).mean())
    assert scores["mae"] == pytest.approx(0, abs=1e-12)


def test_the_interval_of_an_error_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(5)
    hits = 0
    for _ in range(100):
        truth = generator.uniform(60, 120, 60)
        table = numbers_table(truth, truth + generator.normal(0, 4, 60))
        scores = ANGLES.scores(table, generator)
        hits += scores["mae_low"] < 4 * np.sqrt(2 / np.pi) < scores["mae_high"]
    assert hits >= 88


def test_more_seeds_are_no_more_objects():
    generator = np.random.default_rng(2)
    truth = generator.uniform(60, 120, 40)
    one = numbers_table(truth, truth + generator.normal(0, 4, 40))
    once, often = (
        ANGLES.scores(pd.concat([one.assign(seed=s) for s in range(n)]), rng()) for n in (1, 9)
    )
    for name in ("mae", "mae_low", "mae_high", "n_objects"):
        assert once[name] == pytest.approx(often[name])


def test_a_network_that_says_nothing_of_some_objects_is_not_the_better_for_it():
    truth = np.array([60.0, 90.0, np.nan])
    said = np.array([[60.0], [np.nan], [120.0]]) / 90
    assert np.isnan(ANGLES.score(ANGLES.table(truth, said)))
    said[1] = 91 / 90
    assert ANGLES.score(ANGLES.table(truth, said)) == pytest.approx(-0.5)  # of the known two


def test_of_no_objects_there_is_an_empty_table_and_no_score():
    table = ANGLES.table(np.empty(0), np.empty((0, 8)))
    assert table.columns.tolist() == list(ANGLES.table_columns)
    assert table.empty
    assert np.isnan(ANGLES.score(table))


def test_errors_are_compared_object_by_object():
    generator = np.random.default_rng(4)
    truth = generator.uniform(60, 120, 80)
    hard = generator.normal(0, 10, 80)
    ours, theirs = (numbers_table(truth, truth + hard + np.sign(hard) * off) for off in (0, 1))
    difference, low, high = ANGLES.difference(ours, theirs, rng())
    assert difference == pytest.approx(-1)
    assert low == pytest.approx(-1) == high  # each is better by just that
    assert not ANGLES.larger_is_better


# --- both -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measure", "scores", "words"),
    [
        (classification(2), {"success_rate": 0.8423, "success_low": 0.786, "success_high": 0.887},
         "0.842 (0.786-0.887)"),
        (ANGLES, {"mae": 7.125, "mae_low": 6.5, "mae_high": 7.75}, "7.12 (6.50-7.75)"),
    ],
)  # fmt: skip
def test_the_headline_in_words(measure, scores, words):
    assert measure.in_words(scores) == measure.in_words(pd.Series(scores)) == words


def test_what_folds_select_by_and_learning_curves_are_named():
    assert classification(2).words == "balanced accuracy"
    assert classification(2).curves == ("loss", "accuracy", "val_loss", "val_accuracy")
    assert ANGLES.words == "minus mean absolute error"
    assert ANGLES.curves == ("loss", "mae", "val_loss", "val_mae")
    assert (ANGLES.has_classes, classification(2).has_classes) == (False, True)
    assert "(deg)" in ANGLES.headline.title


def test_scores_beside_a_baseline_are_the_scores_and_the_paired_difference():
    generator = np.random.default_rng(9)
    truth = generator.integers(0, 2, 60)
    ours, theirs = (
        classes_table(truth, np.where(generator.random(60) < p, truth, 1)) for p in (0.8, 0.5)
    )
    scores = score_beside(classification(2), ours, theirs, rng())
    assert scores.items() >= score_predictions(ours, 2, rng()).items()
    expected = scores["success_rate"] - (theirs["class"] == theirs["predicted"]).mean()
    assert scores["minus_baseline"] == pytest.approx(expected)
    assert scores["minus_baseline_low"] < expected < scores["minus_baseline_high"]


@pytest.mark.parametrize("numbers", [False, True])
def test_a_search_that_did_not_reach_every_object_is_compared_on_those_that_it_did(numbers):
    truth = np.tile([0, 1], 30)
    rest = np.arange(60) >= 40
    wrong = np.where(rest, 1 - truth, truth)  # where nobody looks
    if numbers:
        measure, table_of = ANGLES, numbers_table
        truth, wrong = 90.0 * truth, 90.0 * wrong
    else:
        measure, table_of = classification(2), classes_table
    one_part = table_of(truth, truth)[~rest]
    scores = score_beside(measure, one_part, table_of(truth, wrong), rng())
    assert scores["n_objects"] == 40
    assert [scores[f"minus_baseline{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]
