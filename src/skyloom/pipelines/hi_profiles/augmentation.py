"""Node functions of the augmentation: classes, split, and copies of the training profiles."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from skyloom.evaluation.splits import check_no_leak, largest_number_of_folds, split_manifest
from skyloom.pipelines.hi_profiles.features import images_of, lazy_images, line_geometry
from skyloom.pipelines.hi_profiles.parameters import AugmentationParameters, FeatureParameters

logger = logging.getLogger(__name__)

MANIFEST_COLUMNS = ("seed", "fold", "role", "id", "group", "class", "sha256")
COPY_COLUMNS = (
    "seed", "fold", "id", "class", "profile", "copy", "exchanged", "snr_factor", "fold_shift",
)  # fmt: skip


def a_flux_classes(
    ln_flux_ratio: np.ndarray, error: np.ndarray, edges: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Most probable class of a measured A_flux.

    Parameters
    ----------
    ln_flux_ratio, error : numpy.ndarray, shape (n,)
        Signed logarithm of the flux ratio and its Gaussian error.
    edges : tuple of float
        Limits of A_flux between the classes.

    Returns
    -------
    classes : numpy.ndarray of int, shape (n,)
    probability : numpy.ndarray, shape (n,)
        That the truth lies in the class, given the error.
    """
    limits = np.concatenate([[0.0], np.log(edges), [np.inf]])
    scaled = np.maximum(error, 1e-9)[:, None]
    x = ln_flux_ratio[:, None]
    below = ndtr((limits - x) / scaled) - ndtr((-limits - x) / scaled)
    probability = np.diff(below, axis=1)
    return probability.argmax(axis=1), probability.max(axis=1)


def choose_classes(
    profiles: pd.DataFrame,
    fits: pd.DataFrame,
    asymmetry: pd.DataFrame,
    parameters: AugmentationParameters,
) -> pd.DataFrame:
    """Decide for every accepted galaxy its class, and whether it takes part in the training.

    Parameters
    ----------
    profiles, fits, asymmetry : pandas.DataFrame
        Tables of the accepted galaxies, row by row the same.
    parameters : AugmentationParameters
        ``hi_profiles.augmentation``.

    Returns
    -------
    pandas.DataFrame
        ``id``, ``group`` (galaxies with identical files share one), ``sha256``, ``class``
        (index among the classes in use), ``class_value`` (as in the label table),
        ``label_source`` (``label table`` or ``measured A_flux``), ``used`` and ``reason`` (why
        not used; empty where used).
    """
    table = profiles[["id", "sha256", "class", "class_value"]].copy()
    table.insert(1, "group", profiles.groupby("sha256")["id"].transform("first"))
    reason = pd.Series("", index=table.index)
    if (profiles["label_source"] == "no label table").all():
        table["label_source"] = "measured A_flux"
        value, error = asymmetry["ln_flux_ratio"], asymmetry["ln_flux_ratio_error"]
        measured = (value.notna() & error.notna()).to_numpy()
        classes, probability = a_flux_classes(
            value.fillna(0).to_numpy(), error.fillna(1).to_numpy(), parameters.a_flux_edges
        )
        table["class"] = pd.array(np.where(measured, classes, -1), dtype="Int64")
        table.loc[~measured, "class"] = pd.NA
        table["class_value"] = table["class"]
        reason[~measured] = "A_flux not measured"
        unsure = measured & (probability < parameters.min_class_probability)
        reason[unsure] = [
            f"A_flux class uncertain: probability {p:.2f}" for p in probability[unsure]
        ]
    else:
        table["label_source"] = "label table"
        missing = table["class"].isna()
        reason[missing] = profiles.loc[missing, "label_source"]
    bad_fit = ~fits["usable"].to_numpy() & (reason == "")
    reason[bad_fit] = "fit: " + fits.loc[bad_fit, "status"]

    used = reason == ""
    sizes = table[used].groupby("class")["group"].nunique()
    rare = used & table["class"].isin(sizes[sizes < 3].index)
    reason[rare] = "fewer than 3 galaxies in the class"
    table["used"] = reason == ""
    # The network counts the classes that are left from 0; what they mean stays in class_value.
    left = sorted(table.loc[table["used"], "class"].unique())
    table["class"] = table["class"].map({old: new for new, old in enumerate(left)}).astype("Int64")
    table["reason"] = reason
    return table


def make_split(classes: pd.DataFrame, parameters: AugmentationParameters) -> pd.DataFrame:
    """Split the galaxies once, before anything is augmented or trained.

    Parameters
    ----------
    classes : pandas.DataFrame
        From `choose_classes`.
    parameters : AugmentationParameters
        ``hi_profiles.augmentation``.

    Returns
    -------
    pandas.DataFrame
        The manifest, see `skyloom.evaluation.splits.split_manifest`; empty, with a warning, where
        the galaxies are too few for a cross-validation.
    """
    objects = classes[classes["used"]].astype({"class": int})
    folds = largest_number_of_folds(objects, parameters.n_folds)
    counts = objects["class"].value_counts().sort_index().to_dict()
    if folds == 0:
        logger.warning(
            "No network is trained: two classes of 3 galaxies are needed, got %s", counts
        )
        return pd.DataFrame(columns=list(MANIFEST_COLUMNS))
    if folds < parameters.n_folds:
        logger.warning("%d folds instead of %d: classes %s", folds, parameters.n_folds, counts)
    manifest = split_manifest(
        objects,
        n_folds=folds,
        seeds=parameters.seeds,
        validation_share=parameters.validation_share,
    )
    check_no_leak(manifest)
    return manifest


def plan_copies(
    profiles: pd.DataFrame,
    fits: pd.DataFrame,
    manifest: pd.DataFrame,
    parameters: AugmentationParameters,
) -> pd.DataFrame:
    """Choose the copies of each fold's training profiles; of no others.

    Parameters
    ----------
    profiles, fits : pandas.DataFrame
        Tables of the accepted galaxies.
    manifest : pandas.DataFrame
        The split.
    parameters : AugmentationParameters
        ``hi_profiles.augmentation``.

    Returns
    -------
    pandas.DataFrame
        One row a training image: ``seed``, ``fold``, ``id``, ``class``, ``profile`` (row in the
        profile table), ``copy`` (0 is the observed profile itself), ``exchanged``, ``snr_factor``
        (1 adds no noise) and ``fold_shift`` (km/s).
    """
    row_of = pd.Series(np.arange(len(profiles)), index=profiles["id"])
    errors = line_errors(fits)
    parts = []
    training = manifest[manifest["role"] == "train"]
    for (seed, fold), part in training.groupby(["seed", "fold"]):
        rng = np.random.default_rng([int(seed), int(fold)])
        largest = part["class"].value_counts().max()
        for label, members in part.groupby("class"):
            size = largest if parameters.balance_classes else len(members)
            count = np.arange(size * (1 + parameters.n_copies))
            # Every member gets the same number of copies, give or take one.
            member = rng.permutation(len(members))[count % len(members)]
            copy = count // len(members)
            ids = members["id"].to_numpy()[member]
            profile = row_of.loc[ids].to_numpy()
            n, changed = len(ids), copy > 0
            exchanged = changed & parameters.exchange_sides & (rng.random(n) < 0.5)
            factor = np.where(changed, rng.uniform(parameters.min_snr_factor, 1, n), 1.0)
            shift = parameters.fold_jitter * errors[profile] * rng.standard_normal(n)
            table = {"seed": seed, "fold": fold, "id": ids, "class": label, "profile": profile}
            table |= {"copy": copy, "exchanged": exchanged, "snr_factor": factor}
            parts.append(pd.DataFrame(table | {"fold_shift": np.where(changed, shift, 0.0)}))
    if not parts:
        return pd.DataFrame(columns=list(COPY_COLUMNS))
    return pd.concat(parts, ignore_index=True)[list(COPY_COLUMNS)]


def line_errors(fits: pd.DataFrame) -> np.ndarray:
    """Errors of the fold velocities, km/s, shape (n,); 0 where unknown."""
    squared = fits[["low_edge_error", "high_edge_error"]].pow(2).sum(axis=1).to_numpy()
    return np.nan_to_num(np.sqrt(squared) / 2, posinf=0.0)


def draw_augmented_images(
    profiles: pd.DataFrame,
    flux: np.ndarray,
    fits: pd.DataFrame,
    copies: pd.DataFrame,
    features: FeatureParameters,
) -> Any:
    """Images of the training copies, drawn from the changed profiles as they are saved.

    Parameters
    ----------
    profiles, flux, fits
        The accepted galaxies.
    copies : pandas.DataFrame
        From `plan_copies`.
    features : FeatureParameters
        ``hi_profiles.features``.

    Returns
    -------
    dask.array.Array, shape (n_copies, 3, size, size, channels)
    """
    return lazy_images(
        len(copies), features, partial(_copy_images, profiles, flux, fits, copies, features)
    )


def _copy_images(profiles, flux, fits, copies, features, rows):
    chosen = copies.iloc[rows]
    profile = chosen["profile"].to_numpy(dtype=int)
    line = line_geometry(profiles.iloc[profile], np.asarray(flux[profile]), fits.iloc[profile])
    return images_of(change_profiles(line, chosen), features)


def change_profiles(line: dict[str, np.ndarray], copies: pd.DataFrame) -> dict[str, np.ndarray]:
    """Add noise, exchange the sides and move the fold velocity of some profiles.

    Parameters
    ----------
    line : dict
        From `skyloom.pipelines.hi_profiles.features.line_geometry`.
    copies : pandas.DataFrame
        The matching rows of the plan; its index seeds the noise.

    Returns
    -------
    dict
        The same with changed ``flux`` and ``centre``.
    """
    flux, centre = line["flux"].copy(), line["centre"].copy()
    factor = copies["snr_factor"].to_numpy(float)
    added = line["noise"] * np.sqrt(1 / factor**2 - 1)
    for i in np.flatnonzero(added > 0):
        rng = np.random.default_rng([int(copies["seed"].iloc[i]), 2, int(copies.index[i])])
        flux[i] += added[i] * rng.standard_normal(flux.shape[1])
    for i in np.flatnonzero(copies["exchanged"].to_numpy(bool)):
        n = line["n_channels"][i]
        flux[i, :n] = flux[i, :n][::-1]
        first = line["velocity_start"][i]
        centre[i] = 2 * first + (n - 1) * line["channel_width"][i] - centre[i]
    return line | {"flux": flux, "centre": centre + copies["fold_shift"].to_numpy(float)}
