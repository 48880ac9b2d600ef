"""Node functions of the augmentation: the split, then spectra of the rare class."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from skyloom.compute import ClusterParameters
from skyloom.learning.fitting import prepare_process
from skyloom.learning.generative import (
    Training,
    choose_checkpoints,
    maker_with,
    train_in_pieces,
)
from skyloom.learning.splitting import (
    FEWEST_OF_A_CLASS,
    split_by_origin,
    split_once,
    training_ids,
)
from skyloom.learning.tasks import ResultStore
from skyloom.pipelines.stellar_spectra.features import prepare_spectra, wavelengths
from skyloom.pipelines.stellar_spectra.fitting import pool_name, train_generator_task
from skyloom.pipelines.stellar_spectra.parameters import (
    MADE_ARMS,
    AugmentationParameters,
    FeatureParameters,
    GeneratorParameters,
    Sweep,
    SyntheticParameters,
)
from skyloom.simulate.stellar_spectra import draw_truth, observed_spectra
from skyloom.spectra.optical.jitter import changed_copies
from skyloom.spectra.optical.preparation import LAMOST_STEP
from skyloom.spectra.optical.spectral_types import CLASSES

logger = logging.getLogger(__name__)

HISTORY_COLUMNS = (
    "kind", "fold", "class", "epoch", "loss_1", "loss_2", "spectrum_error", "diversity",
    "verdict", "chosen",
)  # fmt: skip
SYNTHETIC_COLUMNS = ("pool", "arm", "fold", "n_trained_on", "n_spectra")
# A checkpoint beyond these is of no use, see `skyloom.evaluation.synthetic`; diversity in units of
# that of the training spectra.
LEAST_DIVERSE, MOST_UNLIKE = 0.2, 1.2
_N_SHOWN = 6  # spectra in a figure or a film


def make_split(
    sample: pd.DataFrame, sweep: Sweep, augmentation: AugmentationParameters
) -> pd.DataFrame:
    """Split the stars once, before anything is augmented, synthesised or trained.

    Returns
    -------
    pandas.DataFrame
        As of `skyloom.learning.splitting.split_once`; all spectra of one star are on one side.
        Where it is by survey, a star of both sides is left out of the training, and stars of
        classes that cannot be trained on out of the test.

    Raises
    ------
    ValueError
        If a survey that is to be tested is not there, or none is left to train on.
    """
    surveys = sweep.parameters
    tested = surveys.test_surveys
    used = sample[sample["keep"] & (sample["class"] != "")]
    role = pd.Series("", index=used.index)
    if tested:
        used, role = split_by_origin(used, "survey", tested, surveys.train_surveys)
    learnt = used[role != "test"]
    counts = learnt.groupby("class")["group"].nunique()
    counts = counts.reindex(sorted(set(used["class"])), fill_value=0)
    few = counts[counts < FEWEST_OF_A_CLASS]
    for name, count in few.items():
        logger.warning(
            "class %s has %d stars to train on, %d are needed: it is left out, %d spectra of it",
            name, count, FEWEST_OF_A_CLASS, (used["class"] == name).sum(),
        )  # fmt: skip
    used = used[~used["class"].isin(few.index)]
    present = [name for name in CLASSES if name in set(used["class"])]
    objects = used[["id", "group", "sha256"]].assign(
        role=role.loc[used.index], **{"class": used["class"].map(present.index).astype(int)}
    )
    if tested:
        # There is no other split of it: that given by the surveys.
        augmentation = augmentation.model_copy(update={"split": "given"})
    return split_once(objects, augmentation)


def class_names(sample: pd.DataFrame, manifest: pd.DataFrame) -> list[str]:
    """Names of the classes of a split, in the order of their numbers."""
    first = manifest.drop_duplicates("class").sort_values("class")["id"]
    return sample.set_index("id")["class"].loc[first].tolist()


def simulate_class(
    name: str, synthetic: SyntheticParameters, features: FeatureParameters, seed: int
) -> np.ndarray:
    """Simulated spectra of one class, prepared as observed ones are, shape (n, n_pixels)."""
    rng = np.random.default_rng([synthetic.seed, seed])
    stars = synthetic.stars.model_dump() | {
        "class_shares": tuple(float(each == name) for each in CLASSES)
    }
    truth = draw_truth(synthetic.n_spectra, rng, **stars)
    return prepare_spectra(observed_spectra(truth, rng), features)[0]


def rare_training_rows(
    sample: pd.DataFrame, manifest: pd.DataFrame, name: str
) -> dict[int, np.ndarray]:
    """Rows of the training spectra of one class by outer fold; none where the split has no such."""
    if manifest.empty:
        return {}
    row_of = pd.Series(np.arange(len(sample)), index=sample["id"])
    class_of = sample.set_index("id")["class"]
    rows = {}
    for fold in sorted(manifest["fold"].unique()):
        ids = training_ids(manifest, fold)["id"]
        rows[int(fold)] = row_of.loc[ids[class_of.loc[ids].to_numpy() == name]].to_numpy()
    return rows


def train_generators(
    sample: pd.DataFrame,
    prepared_spectra: dict[str, Callable[[], np.ndarray]],
    split_manifest: pd.DataFrame,
    sweep: Sweep,
    finished_fits: ResultStore,
    generators: GeneratorParameters,
    cluster: ClusterParameters,
) -> tuple[dict[str, Callable[[], Any]], pd.DataFrame, dict[str, list[np.ndarray]], dict[str, Any]]:
    """Train networks that make spectra of the rare class, on the training part of each fold only.

    Returns
    -------
    generators : dict of str to callable
        Function that returns the network, by ``fold_<fold>``.
    history : pandas.DataFrame
        `HISTORY_COLUMNS`, one row an epoch; what is measured of a checkpoint stands in its last.
    films : dict of str to list of numpy.ndarray
        The same latent numbers as spectra after every checkpoint.
    sheets : dict of str to matplotlib.figure.Figure
        Made spectra beside training spectra.
    """
    from skyloom.plots.stellar_spectra import film_frame, made_figure

    features, rare = sweep.base.features, sweep.base.augmentation.rare_class
    members = rare_training_rows(sample, split_manifest, rare) if "gan" in sweep.arms else {}
    for fold in [fold for fold, rows in members.items() if len(rows) < FEWEST_OF_A_CLASS]:
        logger.warning("fold %d has no %s stars to train a generator on", fold, rare)
        del members[fold]
    if not members:
        return {}, pd.DataFrame(columns=list(HISTORY_COLUMNS)), {}, {}
    flux = prepared_spectra[features.prepared]()
    # As the classifier sees them.
    ends = (0, 2) if features.preparation == "corrected" else (0, 1)
    shown = {
        f"{rare}, fold {fold}": np.clip(flux[rows], *ends)[..., None]
        for fold, rows in members.items()
    }
    whole = {"epochs", "checkpoint_every"}
    trainings = {
        f"fold_{fold}": Training(
            {
                "images": f"{rare}, fold {fold}", "n_classes": 1, "size": features.n_pixels,
                "rotate": False, "kl_weight": 1.0, **generators.model_dump(exclude=whole),
            },
            {"classes": np.zeros(len(rows), np.int32)},
            generators.epochs,
        )
        for fold, rows in members.items()
    }  # fmt: skip
    checkpoints, history, frames = choose_checkpoints(
        train_in_pieces(
            trainings, train_generator_task, shown, finished_fits, cluster,
            every=generators.checkpoint_every, size=features.size,
        ),
        measured=("spectrum_error", "diversity"),
        verdict=_verdict,
    )  # fmt: skip
    # What a diverged generator makes is no number: the arm is better off without any.
    history["chosen"] &= history["verdict"] != "diverged"
    wavelength, makers, sheets = wavelengths(features), {}, {}
    for name, checkpoint in checkpoints.items():
        if checkpoint.verdict != "diverged":
            settings = trainings[name].settings
            makers[name] = partial(maker_with, settings, checkpoint.state)
            real = shown[settings["images"]][:_N_SHOWN, :, 0]
            sheets[name] = made_figure(wavelength, checkpoint.frame, real, rare)
    films = {
        name: [film_frame(wavelength, one, f"{name}, epoch {last}") for last, one in frames[name]]
        for name in trainings
    }
    folds = history["name"].map({f"fold_{fold}": fold for fold in members})
    history = history.assign(kind=generators.kind, fold=folds, **{"class": rare})
    # Trainings run side by side, and their pieces come in any order.
    history = history.sort_values(["fold", "epoch"], ignore_index=True)
    return makers, history[list(HISTORY_COLUMNS)], films, sheets


def _verdict(result) -> str:
    """What is wrong with a checkpoint, or nothing."""
    if not np.isfinite(result["history"]).all():
        return "diverged"
    if not float(result["diversity"]) > LEAST_DIVERSE:
        return "collapsed: its spectra are all alike"
    if float(result["spectrum_error"]) > MOST_UNLIKE:
        return "its spectra are unlike those of the training"
    return ""


def draw_synthetic_spectra(
    sample: pd.DataFrame,
    prepared_spectra: dict[str, Callable[[], np.ndarray]],
    split_manifest: pd.DataFrame,
    generators: dict[str, Callable[[], Any]],
    sweep: Sweep,
    synthetic: SyntheticParameters,
) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """Spectra of the rare class, of every kind that is trained on.

    Returns
    -------
    spectra : dict of str to numpy.ndarray, shape (n, n_pixels)
        By pool, ``<arm>_fold_<fold>_<preparation>``.
    synthetic : pandas.DataFrame
        `SYNTHETIC_COLUMNS`, one row a pool.
    """
    from skyloom.learning.generative import make_images

    if generators:
        prepare_process(0)
    rare = sweep.base.augmentation.rare_class
    spectra, rows = {}, []
    for fold, members in rare_training_rows(sample, split_manifest, rare).items():
        for name, features in sweep.preparations.items():
            made = {}
            rng = np.random.default_rng([synthetic.seed, fold])
            flux = prepared_spectra[name]()[members]
            if "repeats" in sweep.arms and len(members):
                made["repeats"] = flux
            if "jitter" in sweep.arms and len(members):
                step = features.step if features.preparation == "corrected" else LAMOST_STEP
                changes = synthetic.jitter.model_dump()
                made["jitter"] = changed_copies(
                    flux, synthetic.n_spectra, rng, step=step, **changes
                )
            if "simulated" in sweep.arms and len(members):
                made["simulated"] = simulate_class(rare, synthetic, features, fold)
            if f"fold_{fold}" in generators:
                maker = generators[f"fold_{fold}"]()
                made["gan"] = make_images(maker, np.zeros(synthetic.n_spectra, int), rng)[..., 0]
            for arm in sorted(MADE_ARMS & set(sweep.arms)):
                if arm not in made:
                    logger.warning(
                        "fold %d: nothing for the arm %s, which is like none there", fold, arm
                    )
                    continue
                pool = pool_name(arm, fold, name)
                spectra[pool] = made[arm]
                trained_on = 0 if arm == "simulated" else len(members)
                rows.append((pool, arm, fold, trained_on, len(made[arm])))
    return spectra, pd.DataFrame(rows, columns=list(SYNTHETIC_COLUMNS))
