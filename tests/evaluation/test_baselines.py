"""Baselines learn from the training rows of their fold and from nothing else."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from skyloom.evaluation.baselines import (
    cross_predict,
    logistic_regression,
    majority,
    predictions_table,
)
from skyloom.evaluation.splits import split_manifest


def sample(counts=(40, 30), seeds=(0,), n_folds=5):
    truth = np.repeat(np.arange(len(counts)), counts)
    ids = [f"g{i}" for i in range(len(truth))]
    objects = pd.DataFrame({"id": ids, "group": ids, "class": truth, "sha256": ids})
    manifest = split_manifest(objects, n_folds=n_folds, n_inner_folds=2, seeds=seeds)
    return pd.Series(truth, index=pd.Index(ids, name="id")), manifest


class Recorder(ClassifierMixin, BaseEstimator):
    """Remembers every row it was fitted on."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        seen.append(sorted(x[:, 0]))
        return self

    def predict_proba(self, x):
        asked.append(sorted(x[:, 0]))
        return np.full((len(x), len(self.classes_)), 1 / len(self.classes_))


seen, asked = [], []


def test_each_fold_is_fitted_on_training_and_validation_rows_and_asked_for_test_rows():
    truth, manifest = sample((12, 9), seeds=(0, 1), n_folds=3)
    features = pd.DataFrame({"row": np.arange(len(truth))}, index=truth.index)
    seen.clear()
    asked.clear()
    cross_predict(Recorder(), features, manifest, 2)
    assert manifest["inner"].nunique() == 2
    parts = [part for _, part in manifest[manifest["inner"] == 1].groupby(["seed", "fold"])]
    rows = features["row"]
    for part, learnt, tested in zip(parts, seen, asked, strict=True):
        test = part["role"] == "test"
        assert learnt == sorted(rows[part.loc[~test, "id"]])
        assert tested == sorted(rows[part.loc[test, "id"]])


def test_every_object_is_predicted_once_a_seed_with_probabilities_that_sum_to_one():
    truth, manifest = sample(seeds=(0, 3))
    features = pd.DataFrame({"x": truth + np.random.default_rng(0).normal(0, 1, len(truth))})
    table = cross_predict(logistic_regression(), features, manifest, 2)
    assert (table.groupby(["seed", "id"]).size() == 1).all()
    assert len(table) == 2 * len(truth)
    np.testing.assert_allclose(table[["probability_0", "probability_1"]].sum(axis=1), 1)
    assert (table["class"].to_numpy() == truth[table["id"]].to_numpy()).all()
    tested = manifest[(manifest["role"] == "test") & (manifest["inner"] == 0)]
    tested = tested.set_index(["seed", "id"])["fold"]
    assert (
        tested.loc[pd.MultiIndex.from_frame(table[["seed", "id"]])] == table["fold"].array
    ).all()


def test_a_feature_that_tells_the_class_is_used():
    truth, manifest = sample()
    noise = np.random.default_rng(0).normal(0, 0.3, len(truth))
    table = cross_predict(logistic_regression(), pd.DataFrame({"x": truth + noise}), manifest, 2)
    assert (table["predicted"] == table["class"]).mean() > 0.85


def test_balanced_classes_weigh_the_same_whatever_their_number():
    truth, manifest = sample((100, 20))
    x = pd.DataFrame({"x": truth + np.random.default_rng(0).normal(0, 0.8, len(truth))})
    recall = {}
    for balanced in (False, True):
        table = cross_predict(logistic_regression(balanced=balanced), x, manifest, 2)
        right = table["class"] == table["predicted"]
        recall[balanced] = right.groupby(table["class"]).mean()
    assert recall[False][1] < 0.5 < recall[False][0]
    assert recall[True][1] > recall[False][1] + 0.2
    assert recall[True][1] == pytest.approx(recall[True][0], abs=0.15)


def test_a_feature_that_tells_the_class_in_test_rows_only_does_not_help():
    truth, manifest = sample((60, 60))
    rng = np.random.default_rng(1)
    hits = []
    for (seed, fold), part in manifest.groupby(["seed", "fold"]):
        test_ids = part.loc[part["role"] == "test", "id"]
        x = pd.Series(rng.normal(size=len(truth)), index=truth.index)
        x[test_ids] = 10.0 * truth[test_ids]
        one_fold = manifest[(manifest["seed"] == seed) & (manifest["fold"] == fold)]
        table = cross_predict(logistic_regression(), x.to_frame(), one_fold, 2)
        hits.append((table["predicted"] == table["class"]).mean())
    # A model fitted on test rows too would be right nearly always in every fold.
    assert min(hits) < 0.6


def test_scaling_and_imputation_do_not_see_the_test_rows():
    truth, manifest = sample((30, 30))
    rng = np.random.default_rng(2)
    x = pd.DataFrame({"x": truth + rng.normal(0, 0.5, len(truth)), "y": rng.normal(size=60)})
    x.loc[truth.index[::7], "x"] = np.nan
    fold = manifest[manifest["fold"] == 0]
    test_ids = fold.loc[fold["role"] == "test", "id"].drop_duplicates()
    kept, wild = test_ids.iloc[:3], test_ids.iloc[3:]
    before = cross_predict(logistic_regression(), x, fold, 2).set_index("id")
    disturbed = x.copy()
    disturbed.loc[wild] = 1e6  # would move any mean, median or scatter it entered
    after = cross_predict(logistic_regression(), disturbed, fold, 2).set_index("id")
    columns = ["probability_0", "probability_1"]
    pd.testing.assert_frame_equal(before.loc[kept, columns], after.loc[kept, columns])
    assert (before.loc[wild, columns] != after.loc[wild, columns]).any(axis=None)


def test_missing_values_also_whole_columns_of_them_are_no_obstacle():
    truth, manifest = sample()
    x = pd.DataFrame({"x": truth.astype(float), "nothing": np.nan}, index=truth.index)
    x.loc[truth.index[::5], "x"] = np.nan
    table = cross_predict(logistic_regression(), x, manifest, 2)
    assert np.isfinite(table[["probability_0", "probability_1"]]).all(axis=None)
    assert (table["predicted"] == table["class"]).mean() > 0.7


def test_majority_names_the_largest_class_of_the_training_part():
    truth, manifest = sample((12, 30, 9), n_folds=3)
    table = cross_predict(majority(), pd.DataFrame({"x": 0.0 * truth}), manifest, 3)
    assert set(table["predicted"]) == {1}
    assert (table["probability_1"] == 1).all()


def test_a_class_that_no_training_row_has_gets_no_probability():
    truth, manifest = sample((20, 20, 4), n_folds=4)
    fold = manifest[manifest["fold"] == 0]
    fold = fold[(fold["class"] != 1) | (fold["role"] == "test")]
    x = pd.DataFrame({"x": truth + 0.01 * np.arange(len(truth))})
    table = cross_predict(logistic_regression(), x, fold, 3)
    assert (table["probability_1"] == 0).all()
    assert 1 in set(table["class"])
    assert set(table["predicted"]) <= {0, 2}
    np.testing.assert_allclose(table[["probability_0", "probability_2"]].sum(axis=1), 1)


def test_predicted_is_the_most_probable_class():
    test = pd.DataFrame({"id": ["a", "b"], "class": [2, 0]}, index=[7, 3])
    table = predictions_table(4, 1, test, np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]))
    assert table["predicted"].tolist() == [1, 0]
    assert table["id"].tolist() == ["a", "b"]
    assert table["class"].tolist() == [2, 0]
    assert table.iloc[0][["seed", "fold"]].tolist() == [4, 1]
    assert table["probability_2"].tolist() == pytest.approx([0.3, 0.3])
