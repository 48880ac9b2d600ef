"""Splits by object, made once and written down before anything is trained."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

ROLES = ("train", "validation", "test")


def largest_number_of_folds(objects: pd.DataFrame, n_folds: int) -> int:
    """Folds that can hold every class.

    Parameters
    ----------
    objects : pandas.DataFrame
        With the columns ``group`` and ``class``.
    n_folds : int
        Folds wanted.

    Returns
    -------
    int
        At most ``n_folds``, at most the number of groups of the rarest class; 0 where there are
        fewer than two classes, or a class has fewer than three groups: one to train on, one to
        stop the training and one to test.
    """
    groups = objects.groupby("class")["group"].nunique()
    if len(groups) < 2 or groups.min() < 3:
        return 0
    return int(min(n_folds, groups.min()))


def split_manifest(
    objects: pd.DataFrame, *, n_folds: int, seeds: Sequence[int], validation_share: float
) -> pd.DataFrame:
    """Stratified cross-validation folds, grouped by object.

    Parameters
    ----------
    objects : pandas.DataFrame
        Columns ``id``, ``group`` (rows of one group stay together), ``class``, ``sha256``.
    n_folds : int
        Folds of each seed, at least 2.
    seeds : sequence of int
        One complete cross-validation for each.
    validation_share : float
        Share of each fold's remaining objects used to stop training.

    Returns
    -------
    pandas.DataFrame
        Columns ``seed``, ``fold``, ``role`` (train, validation or test), ``id``, ``group``,
        ``class`` and ``sha256``. In each seed every object is tested exactly once.

    Raises
    ------
    ValueError
        If a class has too few groups for the folds, or a fold too few for a validation part.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import

    possible = largest_number_of_folds(objects, n_folds)
    if possible < n_folds:
        counts = objects["class"].value_counts().to_dict()
        msg = (
            f"{n_folds} folds need {max(n_folds, 3)} groups of each of two classes or more, "
            f"got {possible} folds from classes {counts}"
        )
        raise ValueError(msg)
    parts = []
    labels, groups = objects["class"].to_numpy(), objects["group"].to_numpy()
    for seed in seeds:
        outer = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        for fold, (rest, test) in enumerate(outer.split(objects, labels, groups)):
            most = objects.iloc[rest].groupby("class")["group"].nunique().max()
            if most < 2:
                msg = f"{n_folds} folds leave no objects to stop the training with: use more folds"
                raise ValueError(msg)
            inner_folds = min(max(2, round(1 / validation_share)), most)
            inner = StratifiedGroupKFold(inner_folds, shuffle=True, random_state=seed)
            with warnings.catch_warnings():
                # Where a class is rare, the validation objects may lack it.
                warnings.filterwarnings("ignore", "The least populated class", UserWarning)
                choices = list(inner.split(rest, labels[rest], groups[rest]))
            # The first whose training part has as many classes as any.
            train, validation = max(choices, key=lambda c: len(np.unique(labels[rest[c[0]]])))
            role = np.empty(len(objects), dtype=object)
            role[test], role[rest[train]], role[rest[validation]] = "test", "train", "validation"
            part = objects[["id", "group", "class", "sha256"]].assign(
                seed=seed, fold=fold, role=role
            )
            parts.append(part)
    columns = ["seed", "fold", "role", "id", "group", "class", "sha256"]
    return pd.concat(parts, ignore_index=True)[columns]


def check_no_leak(manifest: pd.DataFrame) -> None:
    """Check that no group is on two sides of a split and every object is tested once a seed.

    Parameters
    ----------
    manifest : pandas.DataFrame
        From `split_manifest`, or read from disk.

    Raises
    ------
    ValueError
        Naming a group or an object that breaks the rule.
    """
    sides = manifest.groupby(["seed", "fold", "group"])["role"].nunique()
    if (sides > 1).any():
        msg = f"group {sides.idxmax()[2]!r} has more than one role in a fold"
        raise ValueError(msg)
    tested = manifest[manifest["role"] == "test"].groupby(["seed", "id"]).size()
    expected = manifest["seed"].nunique() * manifest["id"].nunique()
    if len(tested) != expected or (tested != 1).any():
        msg = f"{expected} tests of objects expected, {len(tested)} found, some more than once"
        raise ValueError(msg)
    groups = manifest.groupby("id")["group"].nunique()
    if (groups > 1).any():
        msg = f"object {groups.idxmax()!r} is in more than one group"
        raise ValueError(msg)
    copies = manifest.groupby("sha256")["group"].nunique()
    if (copies > 1).any():
        msg = f"identical files in different groups: sha256 {copies.idxmax()}"
        raise ValueError(msg)
