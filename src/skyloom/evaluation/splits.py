"""Splits by object, made once and written down before anything is trained."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

ROLES = ("train", "validation", "test")
NO_CLASS = -1
MANIFEST_COLUMNS = ("seed", "fold", "inner", "role", "id", "group", "class", "sha256")


def same_objects(
    ra: np.ndarray, dec: np.ndarray, radius: float, *names: Sequence[str] | np.ndarray
) -> np.ndarray:
    """Number the physical objects of a list that was made of several catalogues.

    Parameters
    ----------
    ra, dec : numpy.ndarray, shape (n,)
        deg; a position that is missing or impossible links an entry to no other.
    radius : float
        Entries that are closer, or linked by others that are, are the same object, arcsec.
    *names : array_like of str, shape (n,)
        Such as names of stars or hashes of files: entries that have one in common are the same
        object, too. An empty one links an entry to no other.

    Returns
    -------
    numpy.ndarray of int, shape (n,)
        Index of the first entry of the same object.

    Examples
    --------
    >>> # The first two are an arcsecond apart, the first and the last have the same name.
    >>> ra, dec = [10.0, 10.0, 50.0, 80.0], [0.0, 1 / 3600, 0.0, 0.0]
    >>> same_objects(ra, dec, 3.0, ["HD1", "", "", "HD1"])
    array([0, 0, 2, 0])
    """
    from astropy import units as u
    from astropy.coordinates import SkyCoord, search_around_sky
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    n = len(ra)
    if not n:
        return np.zeros(0, int)
    first, second = np.arange(n), np.arange(n)
    for values in names:
        _, earliest, code = np.unique(
            np.asarray(values, str), return_index=True, return_inverse=True
        )
        named = np.flatnonzero(np.asarray(values, str) != "")
        first, second = np.append(first, named), np.append(second, earliest[code[named]])
    known = np.flatnonzero((ra >= 0) & (ra <= 360) & (np.abs(dec) <= 90))
    if len(known) > 1:
        places = SkyCoord(ra[known], dec[known], unit=u.deg)
        one, other, *_ = search_around_sky(places, places, radius * u.arcsec)
        first, second = np.append(first, known[one]), np.append(second, known[other])
    links = coo_array((np.ones(len(first), bool), (first, second)), shape=(n, n))
    _, label = connected_components(links, directed=False)
    _, earliest = np.unique(label, return_index=True)
    return earliest[label]


def names_in_one_place(
    names: Sequence[str] | np.ndarray, ra: np.ndarray, dec: np.ndarray, radius: float
) -> np.ndarray:
    """Find the names whose entries can be one object.

    Parameters
    ----------
    names : array_like of str, shape (n,)
        Of objects.
    ra, dec : numpy.ndarray, shape (n,)
        deg; NaN where a position is not known.
    radius : float
        Entries of one name that are further from their middle are of different objects, arcsec.

    Returns
    -------
    numpy.ndarray of bool, shape (n,)
        Whether all known positions of the name of an entry agree.

    Examples
    --------
    >>> names_in_one_place(["HD1", "sky", "HD1", "sky"], [10, 20, 10, 80], [0, 0, 0, 5], 120)
    array([ True, False,  True, False])
    """
    alpha, delta = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    place = np.stack(
        [np.cos(delta) * np.cos(alpha), np.cos(delta) * np.sin(alpha), np.sin(delta)], axis=1
    )
    table = pd.DataFrame(place).groupby(np.asarray(names, str))
    middle = table.transform("mean").to_numpy()
    # Chords, which are as good as angles here; of unknown positions NaN, which is never the most.
    away = pd.Series(np.linalg.norm(place - middle, axis=1))
    furthest = away.groupby(np.asarray(names, str)).transform("max").to_numpy()
    return ~(furthest > np.radians(radius / 3600))


def largest_number_of_folds(objects: pd.DataFrame, n_folds: int) -> int:
    """Folds that can hold every class.

    Parameters
    ----------
    objects : pandas.DataFrame
        With the column ``group``, and ``class`` where there are any.
    n_folds : int
        Folds wanted.

    Returns
    -------
    int
        At most ``n_folds``, at most the number of groups of the rarest class; 0 where there are
        fewer than two classes, or a class has fewer than three groups: one to train on, one to
        stop the training and one to test. Without classes it is the groups that count.
    """
    if "class" not in objects:
        n_groups = objects["group"].nunique()
        return int(min(n_folds, n_groups)) if n_groups >= 3 else 0
    groups = objects.groupby("class")["group"].nunique()
    if len(groups) < 2 or groups.min() < 3:
        return 0
    return int(min(n_folds, groups.min()))


def split_manifest(
    objects: pd.DataFrame, *, n_folds: int, n_inner_folds: int, seeds: Sequence[int]
) -> pd.DataFrame:
    """Nested cross-validation folds, grouped by object, stratified where there are classes.

    Parameters
    ----------
    objects : pandas.DataFrame
        Columns ``id``, ``group`` (rows of one group stay together, such as the tiles of a plate),
        ``sha256``, and ``class`` where there are any.
    n_folds : int
        Outer folds of each seed, at least 2: each is the test part once.
    n_inner_folds : int
        Inner folds of the objects outside the test part, at least 2: each is the validation part
        once. Fewer where the largest class has fewer groups left.
    seeds : sequence of int
        One complete cross-validation for each.

    Returns
    -------
    pandas.DataFrame
        Columns ``seed``, ``fold``, ``inner``, ``role`` (train, validation or test), ``id``,
        ``group``, ``class`` (-1 without classes) and ``sha256``. In each seed and inner fold every
        object is tested exactly once.

    Raises
    ------
    ValueError
        If a class has too few groups for the folds, or a fold too few for a validation part.

    Examples
    --------
    >>> import pandas as pd
    >>> objects = pd.DataFrame({"id": [f"star{i}" for i in range(30)], "class": [0, 1, 2] * 10})
    >>> objects = objects.assign(group=objects["id"], sha256="")
    >>> manifest = split_manifest(objects, n_folds=5, n_inner_folds=3, seeds=[0])
    >>> first = manifest.query("fold == 0 and inner == 0")
    >>> first["role"].value_counts().sort_index().to_dict()
    {'test': 6, 'train': 16, 'validation': 8}
    """
    possible = largest_number_of_folds(objects, n_folds)
    if possible < n_folds:
        what = (
            f"each of two classes or more, got {possible} folds from classes "
            f"{objects['class'].value_counts().to_dict()}"
            if "class" in objects
            else f"objects, got {objects['group'].nunique()}"
        )
        msg = f"{n_folds} folds need {max(n_folds, 3)} groups of {what}"
        raise ValueError(msg)
    table = objects if "class" in objects else objects.assign(**{"class": NO_CLASS})
    parts = []
    for seed in seeds:
        for fold, (rest, test) in enumerate(_folds(table, n_folds, seed)):
            learnt = table.iloc[rest]
            most = learnt.groupby("class")["group"].nunique().max()
            if most < 2:
                msg = f"{n_folds} folds leave no objects to stop the training with: use more folds"
                raise ValueError(msg)
            for inner, (train, validation) in enumerate(
                _folds(learnt, min(n_inner_folds, most), seed)
            ):
                role = np.empty(len(table), dtype=object)
                role[test], role[rest[train]], role[rest[validation]] = ROLES[2], *ROLES[:2]
                part = table[["id", "group", "class", "sha256"]].assign(
                    seed=seed, fold=fold, inner=inner, role=role
                )
                parts.append(part)
    return pd.concat(parts, ignore_index=True)[list(MANIFEST_COLUMNS)]


def _folds(objects, n_folds, seed):
    """Rows to learn from and the others, for each fold."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold  # slow to import

    labels, groups = objects["class"].to_numpy(), objects["group"].to_numpy()
    kind = GroupKFold if (labels == NO_CLASS).all() else StratifiedGroupKFold
    folds = kind(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Where a class is rare, the validation objects may lack it.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return list(folds.split(objects, labels, groups))


def check_no_leak(manifest: pd.DataFrame, *, all_tested: bool = True) -> None:
    """Check that no group is on two sides of a split and no object is tested twice.

    Parameters
    ----------
    manifest : pandas.DataFrame
        From `split_manifest`, or read from disk.
    all_tested : bool
        Whether every object must be tested; not so where one test part is held out.

    Raises
    ------
    ValueError
        Naming a group or an object that breaks the rule.
    """
    sides = manifest.groupby(["seed", "fold", "inner", "group"])["role"].nunique()
    if (sides > 1).any():
        msg = f"group {sides.idxmax()[3]!r} has more than one role in a fold"
        raise ValueError(msg)
    tests = manifest[manifest["role"] == "test"]
    seen = tests.groupby(["seed", "fold", "id"]).size().reset_index(name="seen")
    inner = manifest.groupby(["seed", "fold"])["inner"].nunique().rename("inner").reset_index()
    fewer = seen.merge(inner, on=["seed", "fold"]).query("seen != inner")
    if len(fewer):
        msg = f"object {fewer['id'].iloc[0]!r} is tested in some inner folds and learnt in others"
        raise ValueError(msg)
    outer = tests.drop_duplicates(["seed", "fold", "id"])
    tested = outer.groupby(["seed", "id"]).size()
    expected = manifest["seed"].nunique() * manifest["id"].nunique()
    if (all_tested and len(tested) != expected) or (tested != 1).any():
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


def share_of_classes(classes: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Rows of a share of every class, of each at least one.

    Parameters
    ----------
    classes : numpy.ndarray of int, shape (n,)
        Classes.
    share : float
        Above 0, at most 1.
    rng : numpy.random.Generator
        Chooses them.

    Returns
    -------
    numpy.ndarray of int
        Ascending.
    """
    order = rng.permutation(len(classes))
    turn = pd.Series(order).groupby(classes[order]).cumcount().to_numpy()
    wanted = np.maximum(1, np.round(share * np.bincount(classes)))[classes[order]]
    return np.sort(order[turn < wanted])
