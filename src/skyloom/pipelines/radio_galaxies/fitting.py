"""One fit of the study, on any machine: everything its result depends on comes as arguments.

A change of this file, or of what it imports, makes finished fits stale, see
`skyloom.learning.tasks.code_digest`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from skyloom.evaluation.measures import regression
from skyloom.evaluation.splits import share_of_classes
from skyloom.evaluation.synthetic import diversity, histogram_error
from skyloom.images.cutouts import stretch
from skyloom.images.orientations import orientations, random_rotations, rotate_and_flip
from skyloom.learning.fitting import (
    TrainingParameters,
    fit_equal_steps,
    fit_on_split,
    pack,
    predict,
    prepare_process,
    unpack,
)
from skyloom.learning.generative import continue_training, make_images
from skyloom.nets.alhassan import alhassan
from skyloom.pipelines.radio_galaxies.parameters import Configuration, NetworkParameters

INPUTS = ("images", "synthetic")  # settings of a fit that name shared inputs
ANGLE_SCALE = 90.0  # deg; what a regressor of the bending angle calls 1
ANGLES = regression(ANGLE_SCALE, "deg", (0.0, 180.0))
_N_COMPARED = 256  # made images from which a checkpoint is judged
_N_FRAME = 32  # images in a frame of the film of a training


def build_network(
    network: NetworkParameters, size: int, n_outputs: int, regression: bool, seed: int
) -> Any:
    """Untrained Keras network of a size (pixels) that tells classes, or predicts numbers."""
    activation = None if regression else "softmax"
    return alhassan(
        (size, size, 1), n_outputs, **network.model_dump(), activation=activation, seed=seed
    )


def fit_settings(
    family: Sequence[Configuration], fold: int, seed: int, *, n_outputs: int
) -> dict[str, Any]:
    """Everything but the data that one fit depends on, for configurations of one family.

    A fit may see the synthetic images of its outer fold. ``n_outputs`` is the number of classes, or
    1 for the bending angle.
    """
    first = family[0]
    variant, kind = first.input_variant, first.synthetic
    return {
        "network": first.network.model_dump(mode="json"),
        "training": first.training.model_dump(mode="json") | {"epochs": 1},
        "epochs": [configuration.training.epochs for configuration in family],
        "size": first.features.size,
        "images": f"images {variant}",
        "synthetic": None if kind is None else f"{kind}_fold_{fold}_{variant}",
        "uses_real": first.uses_real,
        **first.augmentation.model_dump(
            include={
                "synthetic_ratio",
                "real_share",
                "n_copies",
                "balance_classes",
                "average_orientations",
            }
        ),
        "n_outputs": n_outputs,
        "seed": seed,
    }


def inputs_of(settings: dict[str, Any], shared: dict[str, Any], rows: np.ndarray) -> np.ndarray:
    """Observed images of some rows, shape (n, size, size, 1)."""
    return np.asarray(shared[settings["images"]][rows])


def training_data(
    settings: dict[str, Any], shared: dict[str, Any], rows: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Images and targets to train on: observed ones, synthetic ones, and copies of both.

    Parameters
    ----------
    settings : dict
        From `fit_settings`.
    shared : dict
        Images, and synthetic ones with their targets.
    rows, targets : numpy.ndarray, shape (n,)
        Observed training images, and their classes (int) or angles (float, in units of
        `ANGLE_SCALE`).

    Returns
    -------
    images : numpy.ndarray of float32, shape (k, size, size, 1)
    targets : numpy.ndarray, shape (k,)
    """
    rng = np.random.default_rng([settings["seed"], 1])
    n_whole = len(rows)
    classes = targets if targets.dtype.kind == "i" else np.zeros(len(targets), int)
    if settings["real_share"] < 1:
        chosen = share_of_classes(classes, settings["real_share"], rng)
        rows, targets = rows[chosen], targets[chosen]
    pictures, labels = [], []
    if settings["uses_real"]:
        pictures.append(inputs_of(settings, shared, rows))
        labels.append(targets)
    if settings["synthetic"]:
        pool = shared[settings["synthetic"]]
        known = pool["class"] if targets.dtype.kind == "i" else pool["angle"]
        usable = np.flatnonzero(known >= 0)  # of a class that is to be told, of a known angle
        if settings["uses_real"]:
            n = round(settings["synthetic_ratio"] * n_whole)
            usable = np.resize(rng.permutation(usable), n)
        pictures.append(np.asarray(pool["images"][usable]))
        labels.append(known[usable].astype(targets.dtype))
    images, known = np.concatenate(pictures), np.concatenate(labels)
    turned = [images]
    for _ in range(settings["n_copies"] or 0):
        angles, flip = rng.uniform(0, 360, len(images)), rng.random(len(images)) < 0.5
        turned.append(np.asarray(rotate_and_flip(images, angles, flip)))
    return np.concatenate(turned), np.tile(known, len(turned))


def fit_network(
    settings: dict[str, Any],
    _shared: dict[str, Any],
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray] | None,
    *,
    regression: bool = False,
) -> tuple[Any, list[Any], pd.DataFrame]:
    """Fit one network; every one makes the same number of gradient steps.

    Parameters
    ----------
    settings : dict
        From `fit_settings`.
    train, validation : tuple of (images, targets)
        The second may be None.
    regression : bool
        Whether it predicts a number.

    Returns
    -------
    model, snapshots, history
        From `skyloom.learning.fitting.fit_equal_steps`.
    """
    network = NetworkParameters.model_validate(settings["network"])
    seed = settings["seed"]
    return fit_equal_steps(
        build_network,
        (network, settings["size"], settings["n_outputs"], regression),
        TrainingParameters.model_validate(settings["training"]),
        train,
        validation,
        epochs=settings["epochs"],
        seed=seed,
        balance=settings["balance_classes"],
        augment=random_rotations(seed) if settings["n_copies"] is None else None,
        regression=regression,
    )


def fit_task(
    settings: dict[str, Any], arrays: dict[str, np.ndarray], shared: dict[str, Any], *, threads: int
) -> dict[str, np.ndarray]:
    """Classifier of one split, see `skyloom.learning.fitting.fit_on_split`."""

    def predict_mean(model, images):
        return predict_views(model, images, settings["average_orientations"]).mean(axis=0)

    return fit_on_split(
        settings, arrays, shared, threads=threads,
        inputs_of=inputs_of, training_data=training_data, fit_network=fit_network,
        predict=predict_mean,
    )  # fmt: skip


def fit_angle_task(
    settings: dict[str, Any], arrays: dict[str, np.ndarray], shared: dict[str, Any], *, threads: int
) -> dict[str, np.ndarray]:
    """Regressor of the bending angle of one split.

    See `skyloom.learning.fitting.fit_on_split`. Predictions (lengths, n, 8) are those of
    `predict_orientations`, errors of the history in deg^2 and deg.
    """
    return fit_on_split(
        settings, arrays, shared, threads=threads,
        inputs_of=inputs_of, training_data=training_data, fit_network=fit_angle_network,
        curves=ANGLES.curves, predict=predict_orientations,
    )  # fmt: skip


def fit_angle_network(
    settings: dict[str, Any],
    shared: dict[str, Any],
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[Any, list[Any], pd.DataFrame]:
    """`fit_network` for the bending angle; errors of the history in deg^2 and deg."""
    if validation is not None and not len(validation[1]):
        # No observed source with a known angle is there to stop the training: a tenth of what is
        # trained on stands in.
        held = np.random.default_rng([settings["seed"], 2]).permutation(len(train[1]))
        held, rest = np.split(held, [max(1, len(held) // 10)])
        validation, train = tuple(x[held] for x in train), tuple(x[rest] for x in train)
    model, snapshots, history = fit_network(settings, shared, train, validation, regression=True)
    units = {"loss": ANGLE_SCALE**2, "mae": ANGLE_SCALE}
    known = [name for name in ANGLES.curves if name in history]
    history[known] *= [units[name.removeprefix("val_")] for name in known]
    return model, snapshots, history


def predict_views(model: Any, images: np.ndarray, average_orientations: bool) -> np.ndarray:
    """Class probabilities (views, n, classes) of images as they are, or in eight orientations."""
    views = orientations(images) if average_orientations else [images]
    return np.stack([predict(model, each) for each in views])


def predict_orientations(model: Any, images: np.ndarray) -> np.ndarray:
    """Predictions (n, 8) for every image in eight orientations, which cannot change the truth.

    In units of `ANGLE_SCALE`.
    """
    return np.stack([predict(model, each)[:, 0] for each in orientations(images)], axis=1)


def train_generator_task(
    settings: dict[str, Any], arrays: dict[str, np.ndarray], shared: dict[str, Any], *, threads: int
) -> dict[str, np.ndarray]:
    """Train networks that make images for some epochs, from the state that was left before.

    Settings are those of `skyloom.learning.generative.continue_training`, and the name of the
    ``images`` that are shared; arrays are ``classes``, and ``state_0`` ... of the piece before.

    Returns
    -------
    dict of numpy.ndarray
        ``state_0`` ..., ``history`` (epochs, 3), ``frame`` (n, size, size), and what is measured of
        the checkpoint: ``histogram_error``, ``diversity`` (in units of that of the training images,
        the least of the classes) and ``brightness`` (median of the brightest pixels).
    """
    prepare_process(threads)
    images, classes = np.asarray(shared[settings["images"]]), arrays["classes"]
    pair, history = continue_training(settings, images, classes, unpack(arrays, "state"))
    rng = np.random.default_rng([settings["seed"], 3])
    labels = np.sort(rng.choice(classes, _N_COMPARED))
    drawn = make_images(pair.maker, labels, rng)
    made = stretch(drawn[..., 0])[..., None]  # as they will be trained on
    frame = make_images(pair.maker, np.arange(_N_FRAME) * settings["n_classes"] // _N_FRAME, rng)
    spread = [
        diversity(made[labels == label]) / diversity(images[classes == label][:_N_COMPARED])
        for label in np.unique(labels)
    ]
    return {
        **pack([np.asarray(variable) for variable in pair.variables], "state"),
        "history": history.to_numpy(float),
        "frame": frame[..., 0],
        "histogram_error": np.array(histogram_error(images, made)["mean"]),
        "diversity": np.array(np.nanmin(spread)),
        "brightness": np.array(np.median(drawn.max(axis=(1, 2, 3)))),
    }
