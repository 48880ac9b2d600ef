"""Classical classifiers on the same folds as the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from skyloom.evaluation.measures import class_table, n_classes_of


def majority():
    """Classifier that always names the largest class of its training part."""
    from sklearn.dummy import DummyClassifier  # slow to import

    return DummyClassifier(strategy="most_frequent")


def logistic_regression(*, balanced: bool = False):
    """Logistic regression on standardised features, medians in place of missing values.

    Parameters
    ----------
    balanced : bool
        Every class weighs the same, as in the training of a network with balanced classes.
    """
    from sklearn.impute import SimpleImputer  # slow to import, as is all of scikit-learn
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        StandardScaler(),
        LogisticRegression(max_iter=2000, class_weight="balanced" if balanced else None),
    )


def random_forest(*, balanced: bool = False, seed: int = 0):
    """Random forest, medians in place of missing values.

    Parameters
    ----------
    balanced : bool
        Every class weighs the same, as in the training of a network with balanced classes.
    seed : int
        Of the trees.
    """
    from sklearn.ensemble import RandomForestClassifier  # slow to import, as is all of scikit-learn
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    return make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        RandomForestClassifier(
            300,
            min_samples_leaf=2,
            class_weight="balanced" if balanced else None,
            random_state=seed,
        ),
    )


def cross_predict(
    classifier, features: pd.DataFrame, manifest: pd.DataFrame, n_classes: int
) -> pd.DataFrame:
    """Out-of-fold predictions of a scikit-learn classifier.

    Everything, scaling and imputation included, is fitted on the training and validation objects
    of a fold; it needs no stopping, so it may learn from both.

    Parameters
    ----------
    classifier : scikit-learn estimator
        Fitted anew for each fold.
    features : pandas.DataFrame
        One row an object, indexed by ``id``.
    manifest : pandas.DataFrame
        From `skyloom.evaluation.splits.split_manifest`.
    n_classes : int
        Number of classes.

    Returns
    -------
    pandas.DataFrame
        ``seed``, ``fold``, ``id``, ``class``, ``predicted``, ``probability_0`` ...
    """
    parts = []
    outer = manifest[manifest["inner"] == 0]  # the test objects are the same in every inner fold
    for (seed, fold), part in outer.groupby(["seed", "fold"]):
        learn, test = part[part["role"] != "test"], part[part["role"] == "test"]
        classifier.fit(features.loc[learn["id"]].to_numpy(), learn["class"].to_numpy())
        probability = np.zeros((len(test), n_classes))
        probability[:, classifier.classes_] = classifier.predict_proba(
            features.loc[test["id"]].to_numpy()
        )
        parts.append(predictions_table(seed, fold, test, probability))
    return pd.concat(parts, ignore_index=True)


def compare_baselines(
    methods: dict[str, tuple[Any, pd.DataFrame]], manifest: pd.DataFrame
) -> pd.DataFrame:
    """Out-of-fold predictions of several classical classifiers.

    Parameters
    ----------
    methods : dict of str to (scikit-learn estimator, pandas.DataFrame)
        By name, each with the features that it sees, indexed by ``id``.
    manifest : pandas.DataFrame
        The split; may be empty.

    Returns
    -------
    pandas.DataFrame
        ``seed``, ``fold``, ``id``, ``class``, ``predicted``, ``probability_0`` ...,
        ``configuration``.
    """
    if manifest.empty:
        return pd.DataFrame(columns=["configuration", "seed", "fold", "id", "class", "predicted"])
    n_classes = n_classes_of(manifest)
    tables = [
        cross_predict(classifier, features, manifest, n_classes).assign(configuration=name)
        for name, (classifier, features) in methods.items()
    ]
    return pd.concat(tables, ignore_index=True)


def predictions_table(
    seed: int, fold: int, test: pd.DataFrame, probability: np.ndarray
) -> pd.DataFrame:
    """Table of the predictions for one fold's test objects.

    Parameters
    ----------
    seed, fold : int
        Which split.
    test : pandas.DataFrame
        Columns ``id`` and ``class``.
    probability : numpy.ndarray, shape (n, n_classes)
        Class probabilities.

    Returns
    -------
    pandas.DataFrame
        ``seed``, ``fold``, ``id``, ``class``, ``predicted``, ``probability_0`` ...
    """
    table = pd.DataFrame({"seed": seed, "fold": fold, "id": test["id"].to_numpy()})
    return table.join(class_table(test["class"].to_numpy(), probability))
