"""One fit of the study, on any machine: everything its result depends on comes as arguments.

A change of this file, or of what it imports, makes finished fits stale, see
`skyloom.learning.tasks.code_digest`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from skyloom.evaluation.detection import detection
from skyloom.evaluation.measures import Measure
from skyloom.images.stars import find_peaks, pixels_of
from skyloom.learning import fitting as learning
from skyloom.learning.fitting import (
    fit_equal_steps,
    predict,
    prepare_process,
    split_result,
)
from skyloom.nets.unet import published_unet, small_unet
from skyloom.pipelines.star_fields.parameters import (
    Configuration,
    IngestionParameters,
    NetworkParameters,
    TrainingParameters,
)

INPUTS = (
    "inputs", "targets", "filtered", "made_up_inputs", "made_up_targets", "injected_inputs",
    "injected_targets",
)  # fmt: skip
LEAST = 0.05
"""Probability of a peak that is looked at."""
SEPARATION = 2.5
"""Of two peaks at least, pixels."""
_EPSILON = 1e-6


def measure_of(ingestion: IngestionParameters) -> Measure:
    """What is asked of the tiles."""
    return detection(
        ingestion.radius, ingestion.tile**2, read_out, limit=ingestion.limit,
        doubtful=ingestion.doubtful, pixel_map=_probability,
    )  # fmt: skip


def _probability(prediction):
    return prediction[..., 0]


def read_out(prediction: np.ndarray) -> pd.DataFrame:
    """Detections of a tile, ranked by the probability of the network.

    Parameters
    ----------
    prediction : numpy.ndarray, shape (height, width, 2)
        Probability of a star, and S/N of the matched filter.

    Returns
    -------
    pandas.DataFrame
        ``x``, ``y``, ``score`` (probability) and ``filtered`` (S/N), the best first.
    """
    probability, snr = prediction[..., 0].astype(np.float32), prediction[..., 1]
    peaks = find_peaks(probability, LEAST, SEPARATION)
    peaks["filtered"] = snr[pixels_of(peaks, snr.shape)].astype(float)
    return peaks.rename(columns={"value": "score"})


def build_network(network: NetworkParameters, n_channels: int, seed: int) -> Any:
    """Untrained Keras network that gives the probability of a star at each pixel."""
    if network.architecture == "published":
        return published_unet(n_channels=n_channels, seed=seed)
    return small_unet(network.widths, n_channels=n_channels, dropout=network.dropout, seed=seed)


def fit_settings(family: Sequence[Configuration], _fold: int, seed: int) -> dict[str, Any]:
    """Everything but the data that one fit depends on, for configurations of one family."""
    first = family[0]
    variant, arm = first.input_variant, first.augmentation.arm
    made_up, injected = "simulated" in arm, first.augmentation.injected
    return {
        "network": first.network.model_dump(mode="json"),
        "training": first.training.model_dump(mode="json") | {"epochs": 1},
        "epochs": [configuration.training.epochs for configuration in family],
        "n_channels": first.features.n_channels,
        "size": first.features.size,
        "arm": arm,
        "fine_tuning": first.augmentation.fine_tuning,
        "inputs": f"inputs {variant}",
        "targets": f"targets {variant}",
        "filtered": "filtered",
        "made_up_inputs": f"inputs_{variant}" if made_up else None,
        "made_up_targets": f"targets_{variant}" if made_up else None,
        **{
            f"injected_{kind}": f"injected_{kind}_{variant}" if injected else None
            for kind in ("inputs", "targets")
        },
        "seed": seed,
    }


def training_data(
    settings: dict[str, Any], shared: dict[str, Any], rows: np.ndarray, _targets: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Images and targets to train on: observed ones, made-up ones, or both."""
    observed = _observed(settings, shared, rows)
    if settings["arm"] == "observed":
        return observed
    made_up = tuple(
        np.asarray(shared[settings[f"made_up_{name}"]]) for name in ("inputs", "targets")
    )
    if settings["arm"] == "observed + simulated":
        return tuple(np.concatenate(pair) for pair in zip(observed, made_up, strict=True))
    return made_up


def _observed(settings, shared, rows):
    """Observed tiles, and where it is asked for those of the same rows with further stars."""
    names = [("inputs", "targets")]
    if settings["injected_inputs"]:
        names.append(("injected_inputs", "injected_targets"))
    return tuple(
        np.concatenate([np.asarray(shared[settings[name]][rows]) for name in pair])
        for pair in zip(*names, strict=True)
    )


def fit_network(
    settings: dict[str, Any],
    shared: dict[str, Any],
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray] | None,
    rows: np.ndarray | None = None,
) -> tuple[Any, list[Any], pd.DataFrame]:
    """Fit one network; where it is asked for, first to made-up and then to observed tiles."""
    network = NetworkParameters.model_validate(settings["network"])
    training = TrainingParameters.model_validate(settings["training"])
    crop = settings["size"] if network.architecture == "published" else training.crop
    common = learning.TrainingParameters.model_validate(
        training.model_dump(include=set(learning.TrainingParameters.model_fields))
    )

    def fit(train, common, epochs, start=None):
        return fit_equal_steps(
            _builder(start),
            (network, settings["n_channels"]),
            common,
            train,
            validation,
            epochs=epochs,
            seed=settings["seed"],
            augment_both=functools.partial(_crop_and_turn, settings["seed"], crop),
            loss=losses(training.loss, training.positive_weight),
            halve_after=training.halve_after,
        )

    epochs = settings["epochs"]
    if settings["arm"] != "simulated, then observed" or rows is None:
        return fit(train, common, epochs)
    first = [max(1, round(n * (1 - settings["fine_tuning"]))) for n in epochs]
    model, snapshots, before = fit(train, common, [max(first)])
    weights = snapshots[0].weights
    observed = _observed(settings, shared, rows)
    gentle = common.model_copy(update={"learning_rate": 0.2 * common.learning_rate})
    rest = [max(1, whole - part) for whole, part in zip(epochs, first, strict=True)]
    model, snapshots, after = fit(observed, gentle, rest, weights)
    after["epoch"] += max(first)
    snapshots = [each._replace(best_epoch=each.best_epoch + max(first)) for each in snapshots]
    return model, snapshots, pd.concat([before, after], ignore_index=True)


class _Start:
    """Builds a network with given weights; each is a key of its own."""

    def __init__(self, weights):
        self.weights = weights

    def __call__(self, *architecture):
        model = build_network(*architecture)
        model.set_weights(self.weights)
        return model


def _builder(weights):
    return build_network if weights is None else _Start(weights)


def fit_task(
    settings: dict[str, Any], arrays: dict[str, np.ndarray], shared: dict[str, Any], *, threads: int
) -> dict[str, np.ndarray]:
    """Fit on one split and predict its validation and test tiles."""
    prepare_process(threads)
    train = training_data(settings, shared, arrays["train"])
    validation = tuple(
        np.asarray(shared[settings[name]][arrays["validation"]]) for name in ("inputs", "targets")
    )
    model, snapshots, history = fit_network(settings, shared, train, validation, arrays["train"])
    inputs = {
        role: {
            name: np.asarray(shared[settings[name]][arrays[role]])
            for name in ("inputs", "filtered")
        }
        for role in ("validation", "test")
    }
    return split_result(
        model, snapshots, history, settings["epochs"], inputs,
        curves=("loss", "accuracy", "val_loss", "val_accuracy"), predict=with_filtered,
    )  # fmt: skip


def with_filtered(model: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """What `read_out` takes of each tile.

    Parameters
    ----------
    model : keras.Model
        Gives the probability of a star at each pixel.
    inputs : dict of str to numpy.ndarray
        ``inputs``, shape (n, height, width, n_channels), and ``filtered``, shape (n, height,
        width).

    Returns
    -------
    numpy.ndarray of float16, shape (n, height, width, 2)
        Probability, and S/N of the matched filter.
    """
    probability = predict(model, inputs["inputs"], chunk=8)[..., 0]
    return np.stack([probability.astype(np.float16), inputs["filtered"]], axis=-1)


def _crop_and_turn(seed, crop, number, images, targets):
    """Random squares of a batch, turned and mirrored; the same of images and targets."""
    import tensorflow as tf

    both = tf.concat([images, targets], axis=-1)
    shape = tf.shape(both)
    key = tf.stack([tf.cast(seed, tf.int32), tf.cast(number, tf.int32)])
    both = tf.image.stateless_random_crop(
        both, tf.stack([shape[0], crop, crop, shape[3]]), seed=key
    )
    both = tf.image.stateless_random_flip_left_right(both, seed=key + 1)
    turns = tf.random.stateless_uniform([], key + 2, 0, 4, tf.int32)
    both = tf.image.rot90(both, turns)
    n = images.shape[-1]
    return both[..., :n], both[..., n:]


@functools.cache
def losses(kind: str, positive_weight: float) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Loss of a map of probabilities, and the published measure.

    Parameters
    ----------
    kind : {"bce + dice", "bce", "focal"}
        Binary cross-entropy, with three parts of it beside one of Dice's, or focal.
    positive_weight : float
        Of pixels with stars.

    Returns
    -------
    loss : callable
        Of targets (n, height, width, 2) and probabilities (n, height, width, 1).
    accuracy : callable
        Share of the pixels that are named rightly, as published.

    References
    ----------
    Milletari, Navab & Ahmadi (2016), 3DV, 565 (Dice); Lin et al. (2017), ICCV, 2980 (focal).
    """
    from keras import ops

    def loss(targets, outputs):
        target, weight = targets[..., :1], targets[..., 1:]
        p = ops.clip(outputs, _EPSILON, 1 - _EPSILON)
        stars, sky = -target * ops.log(p), -(1 - target) * ops.log(1 - p)
        if kind == "focal":
            stars, sky = stars * (1 - p) ** 2, sky * p**2
        entropy = ops.sum(weight * (positive_weight * stars + sky)) / (ops.sum(weight) + _EPSILON)
        if kind != "bce + dice":
            return entropy
        common = 2 * ops.sum(weight * target * p) + 1
        dice = 1 - common / (ops.sum(weight * (target**2 + p**2)) + 1)
        return 3 * entropy + dice

    def accuracy(targets, outputs):
        named = ops.cast(outputs > 0.5, "float32")
        stars = ops.cast(targets[..., :1] > 0.5, "float32")
        return ops.mean(ops.cast(named == stars, "float32"))

    return loss, accuracy
