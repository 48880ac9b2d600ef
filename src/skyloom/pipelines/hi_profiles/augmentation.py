"""Node functions of the augmentation: classes, split, and copies of the training profiles."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from skyloom.evaluation.splits import (
    MANIFEST_COLUMNS,
    check_no_leak,
    largest_number_of_folds,
    same_objects,
    split_manifest,
)
from skyloom.pipelines.hi_profiles.features import images_of, lazy_images
from skyloom.pipelines.hi_profiles.parameters import (
    AugmentationParameters,
    PretrainingParameters,
    SimulationParameters,
    Sweep,
)
from skyloom.raw_files.names import names_an_object, object_name
from skyloom.simulate.hi_profiles import draw_truth, observe_lines
from skyloom.spectra.hi.asymmetry import a_flux_classes
from skyloom.spectra.hi.busy_function import PARAMETER_NAMES, busy_function
from skyloom.spectra.hi.lines import change_profiles, fit_profiles, line_geometry

logger = logging.getLogger(__name__)

_PRETRAINING_CHANNELS = 256
_SAME_VELOCITY = 300.0  # km/s: far more than errors, less than galaxies of one field are apart
COPY_COLUMNS = ("variant", "id", "profile", "copy", "exchanged", "snr_factor", "fold_shift")


def choose_classes(
    profiles: pd.DataFrame,
    fits: pd.DataFrame,
    asymmetry: pd.DataFrame,
    augmentation: AugmentationParameters,
) -> pd.DataFrame:
    """Decide for every accepted galaxy its class, and whether it takes part in the training.

    Returns
    -------
    pandas.DataFrame
        ``id``, ``group`` (identical files share one, and files whose headers name the same galaxy,
        unless their lines are at other velocities), ``sha256``, ``class``
        (index among the classes in use), ``class_value`` (as in the label table),
        ``label_source`` (``label table`` or ``measured A_flux``), ``used`` and ``reason`` (why
        not used; empty where used).
    """
    table = profiles[["id", "sha256", "class", "class_value"]].copy()
    table.insert(1, "group", profiles["id"].to_numpy()[_same_galaxies(profiles)])
    reason = pd.Series("", index=table.index)
    if (profiles["label_source"] == "no label table").all():
        table["label_source"] = "measured A_flux"
        value, error = asymmetry["ln_flux_ratio"], asymmetry["ln_flux_ratio_error"]
        measured = (value.notna() & error.notna()).to_numpy()
        classes, probability = a_flux_classes(
            value.fillna(0).to_numpy(), error.fillna(1).to_numpy(), augmentation.a_flux_edges
        )
        table["class"] = pd.array(np.where(measured, classes, -1), dtype="Int64")
        table.loc[~measured, "class"] = pd.NA
        table["class_value"] = table["class"]
        reason[~measured] = "A_flux not measured"
        unsure = measured & (probability < augmentation.min_class_probability)
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


def _same_galaxies(profiles):
    """Index of the first profile of each one's galaxy."""
    written = profiles["object"].fillna("").astype(str)
    names = written.map(object_name).where(written.map(names_an_object), "")
    velocities = profiles["line_centre"].groupby(names)
    apart = velocities.transform("max") - velocities.transform("min")
    # Without positions it is their velocities that show a name to be that of several.
    names = names.where(apart < _SAME_VELOCITY, "")
    nowhere = np.full(len(profiles), np.nan)
    return same_objects(nowhere, nowhere, 0.0, names, profiles["sha256"])


def class_values(classes: pd.DataFrame) -> list[int]:
    """What the classes are called in the label table, in the order of the network's outputs.

    Parameters
    ----------
    classes : pandas.DataFrame
        From `choose_classes`.

    Returns
    -------
    list of int
    """
    used = classes[classes["used"]]
    return used.drop_duplicates("class").sort_values("class")["class_value"].astype(int).tolist()


def class_names(classes: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Names of the classes in use; of a two-class sample, those of its values in the label table.

    Parameters
    ----------
    classes : pandas.DataFrame
        From `choose_classes`.
    names : sequence of str
        By value in the label table.

    Returns
    -------
    list of str
        Numbers where there is no name.
    """
    return [
        names[value] if value < len(names) else f"class {value}" for value in class_values(classes)
    ]


def make_split(classes: pd.DataFrame, augmentation: AugmentationParameters) -> pd.DataFrame:
    """Split the galaxies once, before anything is augmented or trained.

    Returns
    -------
    pandas.DataFrame
        The manifest, see `skyloom.evaluation.splits.split_manifest`; empty, with a warning, where
        the galaxies are too few for a cross-validation.
    """
    objects = classes[classes["used"]].astype({"class": int})
    folds = largest_number_of_folds(objects, augmentation.n_folds)
    counts = objects["class"].value_counts().sort_index().to_dict()
    if folds == 0:
        logger.warning(
            "No network is trained: two classes of 3 galaxies are needed, got %s", counts
        )
        return pd.DataFrame(columns=list(MANIFEST_COLUMNS))
    if folds < augmentation.n_folds:
        logger.warning("%d folds instead of %d: classes %s", folds, augmentation.n_folds, counts)
    manifest = split_manifest(
        objects,
        n_folds=folds,
        n_inner_folds=augmentation.n_inner_folds,
        seeds=augmentation.seeds,
    )
    check_no_leak(manifest)
    return manifest


def plan_copies(
    profiles: pd.DataFrame, asymmetry: pd.DataFrame, classes: pd.DataFrame, sweep: Sweep
) -> pd.DataFrame:
    """Choose the changed copies of the galaxies that may be trained on.

    A copy is made from one galaxy alone. It is trained on only where that galaxy is, so no copy
    carries anything across a split.

    Returns
    -------
    pandas.DataFrame
        One row a copy: ``variant``, ``id``, ``profile`` (row in the profile table), ``copy`` (from
        1), ``exchanged``, ``snr_factor`` (1 adds no noise) and ``fold_shift`` (km/s).
    """
    rows = np.flatnonzero(classes["used"])
    errors = np.nan_to_num(asymmetry["mid_velocity_error"].to_numpy(), posinf=0.0)
    parts = []
    for variant, configuration in sweep.variants.items():
        options = configuration.augmentation
        rng = np.random.default_rng([options.seed, 0])
        profile = np.repeat(rows, options.n_copies)
        n = len(profile)
        exchanged = (rng.random(n) < 0.5) & options.exchange_sides
        table = {"variant": variant, "id": profiles["id"].to_numpy()[profile], "profile": profile}
        table |= {"copy": np.tile(np.arange(1, options.n_copies + 1), len(rows))}
        table |= {"exchanged": exchanged, "snr_factor": rng.uniform(options.min_snr_factor, 1, n)}
        shift = options.fold_jitter * errors[profile] * rng.standard_normal(n)
        parts.append(pd.DataFrame(table | {"fold_shift": shift}))
    return pd.concat(parts, ignore_index=True)[list(COPY_COLUMNS)]


def draw_augmented_images(
    profiles: pd.DataFrame,
    profile_flux: np.ndarray,
    fits: pd.DataFrame,
    augmentation_manifest: pd.DataFrame,
    sweep: Sweep,
) -> dict[str, Any]:
    """Images of the copies, drawn from the changed profiles as they are saved.

    Returns
    -------
    dict of str to dask.array.Array, shape (n_copies, 3, size, size, channels)
        By variant; none for variants without copies.
    """
    images, variants = {}, sweep.variants
    for variant, part in augmentation_manifest.groupby("variant", sort=False):
        features = variants[variant].features
        chosen = part.reset_index(drop=True)
        draw = partial(_copy_images, profiles, profile_flux, fits, chosen, features)
        images[variant] = lazy_images(len(chosen), features, draw)
    return images


def _copy_images(profiles, flux, fits, copies, features, rows):
    chosen = copies.iloc[rows]
    profile = chosen["profile"].to_numpy(dtype=int)
    line = line_geometry(profiles, flux, fits, profile)
    return images_of(change_profiles(line, chosen), features)


def simulate_pretraining_sample(
    pretraining: PretrainingParameters, simulation: SimulationParameters, sweep: Sweep
) -> tuple[dict[str, Any], np.ndarray]:
    """Simulated profiles to teach a network the shapes of lines before it sees any label.

    They are drawn like the simulated sample, with other random numbers, and measured like
    observed ones: the fold is about the fitted edges, with their errors.

    Returns
    -------
    images : dict of str to numpy.ndarray, shape (n, 3, size, size, channels)
        By image variant; none where no configuration starts from a pre-trained network.
    targets : numpy.ndarray of float32, shape (n, k)
        What the network learns, scaled to mean 0 and variance 1: logarithms of the noiseless
        channel asymmetry and A_flux, and the absolute noiseless difference of the sides at 16
        distances from the mid-velocity, in units of the peak.
    """
    if not sweep.pretrained:
        return {}, np.zeros((0, 0), dtype=np.float32)
    options = simulation.model_dump(
        exclude={"seed", "n_profiles", "class_by", "class_shares", "class_edges"}
    )
    # The simulated sample itself uses [seed, 0] and [seed, 1].
    rng = np.random.default_rng([pretraining.seed, 2])
    truth = draw_truth(pretraining.n_profiles, rng, **options)
    velocity_start, flux = observe_lines(truth, _PRETRAINING_CHANNELS, rng)
    profiles = truth[["id", "channel_width", "noise"]].assign(velocity_start=velocity_start)
    fits = pd.concat([table for table, _ in fit_profiles(profiles, flux)], ignore_index=True)
    line, usable = line_geometry(profiles, flux, fits), fits["usable"].to_numpy()
    distance, edge = np.arange(16) / 16 + 1 / 32, 1.3 * truth["w20"].to_numpy() / 2
    sides = [
        busy_function(
            truth[["mid_velocity"]].to_numpy() + sign * edge[:, None] * distance,
            truth[list(PARAMETER_NAMES)].to_numpy(),
        )
        for sign in (1, -1)
    ]
    difference = np.abs(sides[0] - sides[1]) / truth[["peak_flux"]].to_numpy()
    indices = np.log(truth[["channel_asymmetry", "a_flux"]].to_numpy() + [0.02, 0.0])
    targets = np.column_stack([indices, difference])[usable]
    targets = (targets - targets.mean(0)) / np.maximum(targets.std(0), 1e-6)
    images = {
        variant: images_of({key: value[usable] for key, value in line.items()}, member.features)
        for variant, member in sweep.input_variants.items()
    }
    return images, targets.astype(np.float32)
