"""The split that all repetitions of a training share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from skyloom.evaluation.splits import (
    MANIFEST_COLUMNS,
    NO_CLASS,
    check_no_leak,
    largest_number_of_folds,
    split_manifest,
)
from skyloom.learning.parameters import Parameters, Seed, Seeds

logger = logging.getLogger(__name__)

FEWEST_OF_A_CLASS = 3  # to train on, to choose the epoch, and to test


class SplitParameters(Parameters):
    """One split, the same for several repetitions of each training."""

    split: Literal["given", "auto", "holdout", "folds"] = Field(
        "holdout",
        description="that of the survey's authors; that where every object has a role, else a "
        "holdout; one test part; or every object tested once",
    )
    test_share: Annotated[float, Field(gt=0, le=0.5)] = Field(
        1 / 3, description="of a holdout; one over a whole number, the nearest is taken"
    )
    n_folds: int = Field(5, ge=2, description="where split is folds")
    validation_share: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.2,
        description="of what is not tested: it chooses the epoch and the configuration; one over "
        "a whole number, the nearest is taken",
    )
    split_seed: Seed = 0
    seeds: Seeds = Field(
        (0, 1, 2, 3, 4), description="repetitions of each training on the same split"
    )

    @property
    def n_parts(self) -> tuple[int, int]:
        """Of how many objects one is tested, and of how many of the rest one is validated."""
        shares = (self.test_share, self.validation_share)
        n_test, n_validation = (max(2, round(1 / share)) for share in shares)
        return self.n_folds if self.split == "folds" else n_test, n_validation


def split_once(objects: pd.DataFrame, parameters: SplitParameters) -> pd.DataFrame:
    """Split some objects, the same for every seed.

    Parameters
    ----------
    objects : pandas.DataFrame
        ``id``, ``group``, ``sha256``, ``role`` (train, validation, test, or empty where nobody has
        given one), and ``class`` (number) where there are any.
    parameters : SplitParameters
        How.

    Returns
    -------
    pandas.DataFrame
        As of `skyloom.evaluation.splits.split_manifest`, one inner fold of each outer one. Empty
        where there are fewer than two classes, a class has too few objects, or without classes
        there are too few groups.

    Raises
    ------
    ValueError
        If the split is to be the given one and objects have no role, or a role has no objects.
    """
    nothing = pd.DataFrame(columns=list(MANIFEST_COLUMNS))
    n_folds, n_inner = parameters.n_parts
    n_folds = largest_number_of_folds(objects, n_folds)
    if not n_folds:
        return nothing
    if parameters.split == "given" or (
        parameters.split == "auto" and (objects["role"] != "").all()
    ):
        once = _given_split(objects, parameters)
    else:
        once = split_manifest(
            objects, n_folds=n_folds, n_inner_folds=n_inner, seeds=[parameters.split_seed]
        )
        once = once[once["inner"] == 0]
        if parameters.split != "folds":
            once = once[once["fold"] == 0]
    if once.empty:
        return nothing
    manifest = pd.concat([once.assign(seed=seed) for seed in parameters.seeds], ignore_index=True)
    check_no_leak(manifest, all_tested=parameters.split == "folds")
    return manifest


def _given_split(objects, parameters):
    """The split of the survey's authors; validation objects are taken from the training part."""
    without = objects.loc[objects["role"] == "", "id"]
    if len(without):
        msg = (
            f"augmentation.split is given, but {len(without)} objects have no role, such as "
            f"{without.iloc[0]!r}"
        )
        raise ValueError(msg)
    roles = objects["role"].to_numpy().copy()
    if not (roles == "validation").any():
        rest = objects[objects["role"] == "train"]
        n_parts = largest_number_of_folds(rest, parameters.n_parts[1])
        if not n_parts:
            logger.warning(
                "the given training part has fewer than %d objects of a class: no validation part "
                "can be taken from it, nothing is trained", FEWEST_OF_A_CLASS,
            )  # fmt: skip
            return pd.DataFrame(columns=list(MANIFEST_COLUMNS))
        part = split_manifest(rest, n_folds=n_parts, n_inner_folds=2, seeds=[parameters.split_seed])
        chosen = part[(part["fold"] == 0) & (part["role"] == "test")]["id"]
        roles[objects["id"].isin(chosen)] = "validation"
    missing = {"train", "validation", "test"} - set(roles)
    if missing:
        msg = f"augmentation.split is given, but no object has the role {sorted(missing)}"
        raise ValueError(msg)
    manifest = objects.assign(seed=0, fold=0, inner=0, role=roles)
    if "class" not in manifest:
        manifest["class"] = NO_CLASS
    return manifest[list(MANIFEST_COLUMNS)].reset_index(drop=True)


def split_by_origin(
    objects: pd.DataFrame, column: str, tested: Sequence[str], learnt: Sequence[str] = ()
) -> tuple[pd.DataFrame, pd.Series]:
    """Test on objects of some origins, such as surveys, that nothing was trained on.

    Parameters
    ----------
    objects : pandas.DataFrame
        ``group`` and the column.
    column : str
        Where the origin stands; empty where it is not known, and such objects are left out.
    tested, learnt : sequence of str
        Origins that are tested and trained on; all others are trained on where the second is empty.

    Returns
    -------
    objects : pandas.DataFrame
        Those of either side; an object of both sides is left out of the training.
    role : pandas.Series of str
        test or train.

    Raises
    ------
    ValueError
        If an origin is not there, is on both sides, or none is left to train on.
    """
    origins = set(objects[column]) - {""}
    learnt = tuple(learnt) or tuple(origins - set(tested))
    if {*tested, *learnt} - origins or set(tested) & set(learnt) or not learnt:
        msg = (
            f"test_{column}s and train_{column}s must be some of {sorted(origins)}, none of them "
            f"both, and leave one to train on; got {list(tested)} and {list(learnt)}"
        )
        raise ValueError(msg)
    used = objects[objects[column].isin([*tested, *learnt])]
    test = used[column].isin(tested)
    both = ~test & used["group"].isin(used.loc[test, "group"])
    if both.any():
        logger.warning("%d entries are of objects that are tested: not trained on", both.sum())
    role = pd.Series(np.where(test, "test", "train"), index=used.index)
    return used[~both], role[~both]


def split_in_words(
    parameters: SplitParameters, tested: Sequence[str], learnt: Sequence[str], others: str
) -> str:
    """How the objects were split, for people.

    Parameters
    ----------
    parameters : SplitParameters
        The split where no origins are tested.
    tested, learnt : sequence of str
        As in `split_by_origin`; may be empty.
    others : str
        What is trained on where ``learnt`` is empty.

    Returns
    -------
    str
    """
    if not tested:
        return parameters.split
    return f"tested on {', '.join(tested)}, trained on {', '.join(learnt) or others}"


def training_ids(manifest: pd.DataFrame, fold: int) -> pd.DataFrame:
    """Training part of a fold.

    Parameters
    ----------
    manifest : pandas.DataFrame
        From `split_once`; the split is the same for every seed.
    fold : int
        Outer fold.

    Returns
    -------
    pandas.DataFrame
        ``id`` and ``class`` (number).
    """
    first = manifest[manifest["seed"] == manifest["seed"].iloc[0]]
    return first[(first["fold"] == fold) & (first["role"] == "train")][["id", "class"]]
