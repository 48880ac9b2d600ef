"""Scores against known values, scikit-learn and simulation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from sklearn.metrics import (
    adjusted_rand_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
)

from skyloom.evaluation.scores import (
    class_scores,
    confusion_table,
    macro_f1_interval,
    paired_difference,
    permutation_p_value,
    score_predictions,
    success_interval,
)


def table_of(truth, predicted, *, seed=0, n_folds=4, ids=None):
    n = len(truth)
    return pd.DataFrame(
        {
            "seed": seed,
            "fold": np.arange(n) % n_folds,
            "id": [f"g{i}" for i in range(n)] if ids is None else ids,
            "class": truth,
            "predicted": predicted,
        }
    )


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # Wilson (1927) without continuity correction; R's prop.test(correct = FALSE)
        (81, 263, 0.25527, 0.36621),  # Newcombe (1998), table I
        (15, 148, 0.06239, 0.16049),
        (0, 20, 0.0, 0.16113),
        (1, 29, 0.00611, 0.17176),
    ],
)
def test_wilson_interval_has_the_published_values(successes, n, low, high):
    assert success_interval(successes / n, n) == pytest.approx((low, high), abs=2e-5)


def test_interval_without_objects_is_unknown_and_not_an_error():
    assert np.isnan(success_interval(0.0, 0)).all()


def test_a_higher_level_gives_a_wider_interval():
    narrow, wide = success_interval(0.7, 50, level=0.68), success_interval(0.7, 50, level=0.99)
    assert wide[0] < narrow[0] < 0.7 < narrow[1] < wide[1]


@pytest.mark.parametrize("rate", [0.5, 0.7, 0.9])
def test_interval_covers_the_true_rate_as_often_as_it_says(rate):
    n = 60
    successes = np.random.default_rng(1).binomial(n, rate, 4000)
    bounds = {k: success_interval(k / n, n) for k in np.unique(successes)}
    covered = np.mean([bounds[k][0] <= rate <= bounds[k][1] for k in successes])
    assert 0.93 < covered < 0.97


def p_values_of_guesses(n_runs, rng):
    truth = rng.choice(3, 90, p=[0.5, 0.3, 0.2])
    for _ in range(n_runs):
        predicted = rng.choice(3, len(truth), p=[0.4, 0.3, 0.3])
        folds = rng.permutation(np.arange(len(truth)) % 5)
        yield permutation_p_value(truth, predicted, folds, rng, n_permutations=199)


def test_p_values_of_guesses_are_uniform():
    p = np.array(list(p_values_of_guesses(250, np.random.default_rng(2))))
    # Ties make p-values a little large; the jitter of one step does not matter beside it.
    assert kstest(p, "uniform").pvalue > 0.01
    assert 0.01 <= (p <= 0.05).mean() <= 0.1


def test_p_value_of_good_predictions_is_the_smallest_possible():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 2, 80)
    predicted = np.where(rng.random(80) < 0.9, truth, 1 - truth)
    p = permutation_p_value(truth, predicted, np.arange(80) % 5, rng, n_permutations=500)
    assert p == pytest.approx(1 / 501)


def test_several_seeds_give_one_p_value_of_their_mean():
    rng = np.random.default_rng(4)
    truth = rng.choice(2, 60)
    p = [
        permutation_p_value(truth, rng.choice(2, (60, 5)), np.zeros(60), rng, n_permutations=199)
        for _ in range(250)
    ]
    assert kstest(p, "uniform").pvalue > 0.01
    once = rng.choice(2, 60)
    same = np.repeat(once[:, None], 5, axis=1)
    assert permutation_p_value(
        truth, same, np.zeros(60), np.random.default_rng(1)
    ) == permutation_p_value(truth, once, np.zeros(60), np.random.default_rng(1))


def test_p_value_of_always_the_same_class_is_one():
    truth = np.repeat([0, 1], [30, 10])
    p = permutation_p_value(
        truth, np.zeros(40, int), np.arange(40) % 5, np.random.default_rng(0), n_permutations=99
    )
    assert p == 1.0


def test_classes_are_permuted_within_folds_only():
    # The prediction is the fold's own largest class: nothing is left to chance within a fold.
    folds = np.repeat([0, 1], 20)
    truth = np.repeat([0, 1], 20)
    rng = np.random.default_rng(0)
    assert permutation_p_value(truth, truth, folds, rng, n_permutations=99) == 1.0
    mixed = np.zeros(40)
    assert permutation_p_value(truth, truth, mixed, rng, n_permutations=99) == 0.01


def test_p_value_does_not_depend_on_the_order_of_the_rows():
    rng = np.random.default_rng(5)
    truth, predicted = rng.integers(0, 3, (2, 60))
    folds = np.arange(60) % 3
    order = rng.permutation(60)
    values = [
        permutation_p_value(t, p, f, np.random.default_rng(6), n_permutations=4000)
        for t, p, f in ((truth, predicted, folds), (truth[order], predicted[order], folds[order]))
    ]
    assert values[0] == pytest.approx(values[1], abs=0.04)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), n_classes=st.integers(2, 4), n=st.integers(5, 60))
def test_scores_agree_with_scikit_learn(seed, n_classes, n):
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n)])
    predicted = rng.integers(0, n_classes, len(truth))
    table = table_of(truth, predicted)
    scores = score_predictions(table, n_classes, rng)
    assert scores["success_rate"] == pytest.approx((truth == predicted).mean())
    assert scores["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    macro = f1_score(truth, predicted, average="macro", zero_division=0)
    assert scores["macro_f1"] == pytest.approx(macro)
    assert scores["adjusted_rand"] == pytest.approx(adjusted_rand_score(truth, predicted))
    matrix = confusion_matrix(truth, predicted, normalize="true")
    assert [scores[f"recall_{k}"] for k in range(n_classes)] == pytest.approx(np.diag(matrix))
    np.testing.assert_allclose(confusion_table(table, n_classes).to_numpy(), matrix)
    assert scores["chance_level"] == pytest.approx(np.bincount(truth).max() / len(truth))
    assert scores["success_low"] <= scores["success_rate"] <= scores["success_high"]


def test_scores_are_means_over_seeds_but_the_interval_counts_objects_once():
    truth = np.tile([0, 1], 20)
    good, bad = table_of(truth, truth, seed=0), table_of(truth, 1 - truth, seed=1)
    scores = score_predictions(pd.concat([good, bad]), 2, np.random.default_rng(0))
    assert scores["success_rate"] == scores["balanced_accuracy"] == 0.5
    assert (scores["n_objects"], scores["n_seeds"]) == (40, 2)
    assert (scores["success_low"], scores["success_high"]) == success_interval(0.5, 40)


def test_a_class_nobody_has_counts_in_neither_balanced_accuracy_nor_confusion():
    truth = np.array([0, 0, 1, 1])
    table = table_of(truth, np.array([0, 2, 1, 1]))
    scores = score_predictions(table, 3, np.random.default_rng(0))
    assert scores["balanced_accuracy"] == 0.75
    assert np.isnan(scores["recall_2"])
    matrix = confusion_table(table, 3)
    assert matrix.loc[2].tolist() == [0, 0, 0]
    assert matrix.loc[0].tolist() == [0.5, 0, 0.5]


def test_rows_of_the_confusion_are_true_classes():
    matrix = confusion_table(table_of([0, 0, 0, 1], [1, 1, 0, 1]), 2)
    assert (matrix.index.name, matrix.columns.name) == ("true class", "predicted class")
    np.testing.assert_allclose(matrix.to_numpy(), [[1 / 3, 2 / 3], [0, 1]])


def test_paired_difference_is_matched_by_object_and_not_by_row():
    truth = np.array([0, 1] * 30)
    first = table_of(truth, truth)
    second = table_of(truth, np.where(np.arange(60) < 15, 1 - truth, truth))
    shuffled = second.sample(frac=1, random_state=np.random.default_rng(1))
    difference, low, high = paired_difference(first, shuffled, np.random.default_rng(0))
    assert difference == pytest.approx(0.25)
    assert 0 < low < 0.25 < high < 0.5
    back = paired_difference(second, first, np.random.default_rng(0))
    assert back[0] == pytest.approx(-0.25)


def test_equal_predictions_differ_by_exactly_nothing():
    rng = np.random.default_rng(0)
    table = table_of(rng.integers(0, 2, 50), rng.integers(0, 2, 50))
    assert paired_difference(table, table.copy(), rng) == (0.0, 0.0, 0.0)


def test_pairing_is_sharper_than_two_intervals():
    # Both fail on the same objects: the difference is known far better than either rate.
    truth = np.zeros(200, int)
    hard = np.arange(200) < 80
    first = table_of(truth, np.where(hard, 1, 0))
    second = table_of(truth, np.where(hard | (np.arange(200) > 195), 1, 0))
    difference, low, high = paired_difference(first, second, np.random.default_rng(0))
    assert difference == pytest.approx(0.02)
    alone = success_interval(0.6, 200)
    assert high - low < 0.5 * (alone[1] - alone[0])


def test_paired_interval_covers_the_true_difference():
    rng = np.random.default_rng(7)
    covered = []
    for _ in range(200):
        right = rng.random((2, 80)) < [[0.8], [0.65]]
        tables = [table_of(np.zeros(80, int), np.where(r, 0, 1)) for r in right]
        _, low, high = paired_difference(*tables, rng, n_bootstrap=300)
        covered.append(low <= 0.15 <= high)
    assert 0.88 <= np.mean(covered) <= 0.99


def test_agreement_without_names_is_one_for_renamed_classes():
    rng = np.random.default_rng(8)
    truth = rng.integers(0, 3, 600)
    renamed = score_predictions(table_of(truth, (truth + 1) % 3), 3, rng)
    assert renamed["success_rate"] == 0
    assert renamed["adjusted_rand"] == pytest.approx(1)
    assert renamed["mutual_information"] == pytest.approx(1)


@pytest.mark.parametrize("score", ["adjusted_rand", "mutual_information"])
def test_agreement_without_names_is_zero_by_chance_also_in_a_small_sample(score):
    rng = np.random.default_rng(8)
    guesses = [table_of(rng.integers(0, 3, 30), rng.integers(0, 3, 30)) for _ in range(60)]
    values = [score_predictions(table, 3, rng)[score] for table in guesses]
    assert np.mean(values) == pytest.approx(0, abs=3 * np.std(values) / np.sqrt(60))


def test_agreement_is_the_mean_over_seeds_too():
    truth = np.tile([0, 1], 20)
    same, one_class = table_of(truth, truth, seed=0), table_of(truth, 0 * truth, seed=1)
    scores = score_predictions(pd.concat([same, one_class]), 2, np.random.default_rng(0))
    assert scores["adjusted_rand"] == pytest.approx(0.5)
    assert scores["mutual_information"] == pytest.approx(0.5)


def test_the_interval_of_the_macro_f1_holds_it_and_narrows_with_objects():
    rng = np.random.default_rng(0)
    widths = []
    for n in (60, 600):
        truth = np.arange(n) % 3
        parts = []
        for seed in range(2):
            predicted = np.where(rng.random(n) < 0.7, truth, rng.integers(0, 3, n))
            parts.append(
                pd.DataFrame({"seed": seed, "fold": 0, "id": np.arange(n), "class": truth,
                              "predicted": predicted})
            )  # fmt: skip
        table = pd.concat(parts)
        low, high = macro_f1_interval(table, 3, np.random.default_rng(1))
        expected = score_predictions(table, 3, np.random.default_rng(0))["macro_f1"]
        assert low < expected < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / np.sqrt(10), rel=0.3)


def test_the_macro_f1_of_perfect_predictions_has_no_interval():
    table = pd.DataFrame({"seed": 0, "id": range(8), "class": [0, 1] * 4, "predicted": [0, 1] * 4})
    assert macro_f1_interval(table, 2, np.random.default_rng(0)) == (1.0, 1.0)


def test_probabilities_are_judged_where_there_are_some():
    table = pd.DataFrame({"seed": 0, "fold": 0, "id": range(40), "class": [0, 1] * 20})
    table["predicted"] = np.where(np.arange(40) < 30, table["class"], 1 - table["class"])
    without = score_predictions(table, 2, np.random.default_rng(0))
    assert "calibration_error" not in without
    sure = table.assign(**{f"probability_{k}": 1.0 * (table["predicted"] == k) for k in (0, 1)})
    found = score_predictions(sure, 2, np.random.default_rng(0))
    assert found["calibration_error"] == pytest.approx(0.25)  # sure, and right three times in four
    assert {k: v for k, v in found.items() if k != "calibration_error"} == without


def test_a_confusion_matrix_by_prediction_holds_precisions():
    table = table_of([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 0])
    matrix = confusion_table(table, 3, by="predicted").to_numpy()
    np.testing.assert_allclose(matrix[:, 0], [0.5, 0.25, 0.25])
    np.testing.assert_allclose(matrix[:, 1], [0.5, 0.5, 0])
    np.testing.assert_allclose(matrix[:, 2], 0)  # nothing is named so


def test_recall_precision_and_purity_of_each_class():
    """Ten of a rare class of which eight are found, and one in fifty of the others named so."""
    truth = np.repeat([0, 1], [10, 100])
    named = np.concatenate([np.zeros(8), np.ones(2), np.zeros(2), np.ones(98)]).astype(int)
    both = pd.concat([table_of(truth, named, seed=seed) for seed in (0, 1)])
    table = class_scores(both, [1e-4, 1 - 1e-4])
    rare = table.iloc[0]
    assert rare[["n_objects", "recall", "precision"]].tolist() == pytest.approx([10, 0.8, 0.8])
    assert (rare["recall_low"], rare["recall_high"]) == pytest.approx(success_interval(0.8, 10))
    assert (rare["precision_low"], rare["precision_high"]) == pytest.approx(
        success_interval(0.8, 10)
    )
    # Of those named so nearly all are false alarms, where one in ten thousand is of the class.
    assert rare["purity"] == pytest.approx(8e-5 / (8e-5 + 0.02 * (1 - 1e-4)))
    assert rare["purity_low"] < rare["purity"] < rare["purity_high"]
    alarm_low, alarm_high = success_interval(0.02, 100)
    low, high = success_interval(0.8, 10)
    assert rare["purity_low"] == pytest.approx(low * 1e-4 / (low * 1e-4 + alarm_high * 0.9999))
    assert rare["purity_high"] == pytest.approx(high * 1e-4 / (high * 1e-4 + alarm_low * 0.9999))


def test_no_false_alarm_is_no_proof_of_purity():
    truth = np.repeat([0, 1], [10, 50])
    rare = class_scores(table_of(truth, truth), [1e-5, 1 - 1e-5]).iloc[0]
    assert rare["purity"] == 1
    assert rare["purity_low"] < 1e-3


def test_a_class_that_was_not_tested_leaves_purity_open():
    table = class_scores(table_of([0, 0, 1], [0, 0, 1]), [0.1, 0.5, 0.4])
    assert table["purity"].isna().all()
    assert table["recall"].isna().tolist() == [False, False, True]
    # Unless there is none of it anyway.
    assert class_scores(table_of([0, 0, 1], [0, 0, 1]), [0.5, 0.5, 0.0])["purity"][0] == 1


def test_a_class_that_was_not_tested_is_no_failure():
    """A perfect classifier of the classes that there are."""
    table = table_of([0, 0, 2, 2], [0, 0, 2, 2])
    scores = score_predictions(table, 4, np.random.default_rng(0))
    assert scores["macro_f1"] == scores["balanced_accuracy"] == 1
    assert [np.isnan(scores[f"recall_{k}"]) for k in range(4)] == [False, True, False, True]
    assert macro_f1_interval(table, 4, np.random.default_rng(0)) == (1, 1)


def test_of_what_nobody_is_named_purity_is_not_known():
    table = class_scores(table_of([0, 1, 1], [1, 1, 1]), [0.5, 0.5])
    assert table.loc[0, ["purity", "purity_low", "purity_high", "precision"]].isna().all()
