"""Node functions of the training: one network after another on the same splits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom.evaluation.baselines import predictions_table
from skyloom.pipelines.hi_profiles.parameters import (
    ConfigurationParameters,
    FeatureParameters,
    TrainingParameters,
)

PREDICTION_COLUMNS = ("configuration", "seed", "fold", "id", "class", "predicted")
CURVE_COLUMNS = (
    "configuration", "seed", "fold", "epoch", "loss", "accuracy", "val_loss", "val_accuracy",
    "best_epoch",
)  # fmt: skip


def network_input(
    images: np.ndarray, rows: np.ndarray, image_models: tuple[int, ...], scale: float
) -> np.ndarray:
    """Images of some rows as the network takes them.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, 3, size, size, channels)
        May be memory-mapped.
    rows : numpy.ndarray of int, shape (k,)
        Which.
    image_models : tuple of int
        Models to stack as channels.
    scale : float
        Factor on images that are not eight-bit colours.

    Returns
    -------
    numpy.ndarray of float32, shape (k, size, size, channels * len(image_models))
        Eight-bit colours are divided by 255.
    """
    picked = np.concatenate([images[rows, model - 1] for model in image_models], axis=-1)
    if picked.dtype == np.uint8:
        return picked.astype(np.float32) / 255
    return picked.astype(np.float32, copy=False) * np.float32(scale)


def fit_configuration(
    configuration: ConfigurationParameters,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    n_classes: int,
    parameters: TrainingParameters,
    seed: int,
) -> Any:
    """Fit one configuration on one split.

    Parameters
    ----------
    configuration : ConfigurationParameters
        The network.
    train, validation : tuple of (images, classes)
        Inputs from `network_input`.
    n_classes : int
        Number of classes.
    parameters : TrainingParameters
        ``hi_profiles.training``.
    seed : int
        Of weights, dropout and batches.

    Returns
    -------
    skyloom.learning.fitting.Fit
    """
    from skyloom.learning.fitting import fit_classifier
    from skyloom.nets.ring_cnn import ring_cnn

    return fit_classifier(
        lambda: ring_cnn(
            train[0].shape[1:],
            n_classes,
            widths=configuration.widths,
            padding=parameters.padding,
            seed=seed,
        ),
        train,
        validation,
        epochs=parameters.epochs,
        batch_size=parameters.batch_size,
        learning_rate=parameters.learning_rate,
        weight_decay=parameters.weight_decay,
        patience=parameters.patience,
        min_epochs=parameters.min_epochs,
        seed=seed,
    )


def train_configurations(
    profiles: pd.DataFrame,
    images: np.ndarray,
    manifest: pd.DataFrame,
    copies: pd.DataFrame,
    augmented_images: np.ndarray,
    features: FeatureParameters,
    parameters: TrainingParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Callable[[], Any]], Any]:
    """Cross-validate every configuration on the folds of the manifest.

    Parameters
    ----------
    profiles : pandas.DataFrame
        The accepted galaxies; their order is that of the images.
    images : numpy.ndarray, shape (n, 3, size, size, channels)
        Images as observed.
    manifest : pandas.DataFrame
        The split; validation and test use images as observed.
    copies, augmented_images
        The training images of each fold.
    features, parameters
        ``hi_profiles.features`` and ``hi_profiles.training``.

    Returns
    -------
    predictions : pandas.DataFrame
        Of test objects only: ``configuration``, ``seed``, ``fold``, ``id``, ``class``,
        ``predicted``, ``probability_0`` ...
    curves : pandas.DataFrame
        Loss and accuracy of each epoch, and the epoch whose weights were kept.
    models : dict of str to callable
        Function that returns the network of each configuration from its first fold.
    example : keras.Model
        The one among them with the lowest mean validation loss, to look at; it is not chosen by
        the test objects. Where nothing could be trained, a network with random weights.
    """
    if manifest.empty:
        return (
            pd.DataFrame(columns=list(PREDICTION_COLUMNS)),
            pd.DataFrame(columns=list(CURVE_COLUMNS)),
            {},
            _untrained(features, parameters),
        )
    from joblib import Parallel, delayed

    row_of = pd.Series(np.arange(len(profiles)), index=profiles["id"])
    n_classes = int(manifest["class"].max()) + 1
    splits = list(manifest.groupby(["seed", "fold"]))
    first_split = splits[0][0]
    jobs = (
        delayed(_fit_split)(
            configuration,
            _split_data(images, augmented_images, row_of, part, copies, configuration, parameters),
            n_classes,
            parameters,
            seed=(int(seed) * 1000 + int(fold)) % 2**32,  # the largest that NumPy takes
            keep_model=(seed, fold) == first_split,
        )
        for configuration in parameters.configurations
        for (seed, fold), part in splits
    )
    n_jobs = len(splits) * len(parameters.configurations)
    workers = min(parameters.n_workers, n_jobs)
    results = Parallel(n_jobs=workers, return_as="generator", pre_dispatch=workers + 1)(jobs)
    keys = [
        (configuration.name, seed, fold, part)
        for configuration in parameters.configurations
        for (seed, fold), part in splits
    ]
    predictions, curves, models = [], [], {}
    progress = tqdm(results, total=n_jobs, desc="training", unit="fit")
    for (name, seed, fold, part), (probability, history, model) in zip(keys, progress, strict=True):
        table = predictions_table(seed, fold, part[part["role"] == "test"], probability)
        table.insert(0, "configuration", name)
        predictions.append(table)
        curves.append(history.assign(configuration=name, seed=seed, fold=fold))
        if model is not None:
            # A model is callable itself and would be called as it is saved.
            models[name] = partial(_identity, model)
    history = pd.concat(curves, ignore_index=True)[list(CURVE_COLUMNS)]
    kept = history[history["epoch"] == history["best_epoch"]]
    lowest = kept.groupby("configuration")["val_loss"].mean().fillna(np.inf).idxmin()
    return pd.concat(predictions, ignore_index=True), history, models, models[lowest]()


def _split_data(images, augmented_images, row_of, part, copies, configuration, parameters):
    """Images and classes of one split by role: copies for training, else as observed."""
    seed, fold = part["seed"].iloc[0], part["fold"].iloc[0]
    chosen = copies.index[(copies["seed"] == seed) & (copies["fold"] == fold)].to_numpy()
    models, scale = configuration.image_models, parameters.input_scale
    data = {
        "train": (
            network_input(augmented_images, chosen, models, scale),
            copies.loc[chosen, "class"].to_numpy(dtype=np.int32),
        )
    }
    for role in ("validation", "test"):
        members = part[part["role"] == role]
        rows = row_of.loc[members["id"]].to_numpy()
        classes = members["class"].to_numpy(dtype=np.int32)
        data[role] = (network_input(images, rows, models, scale), classes)
    return data


def _fit_split(configuration, data, n_classes, parameters, *, seed, keep_model):
    """Test probabilities, learning curve and perhaps the network of one fit, in any process."""
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    from skyloom.learning.fitting import use_one_thread

    tf.get_logger().setLevel("ERROR")  # each fit builds a network anew, which it warns of

    if parameters.n_workers > 1:
        use_one_thread()
    fit = fit_configuration(
        configuration, data["train"], data["validation"], n_classes, parameters, seed
    )
    probability = fit.model.predict(data["test"][0], batch_size=256, verbose=0)
    if not keep_model:
        keras.backend.clear_session()
    history = fit.history.assign(best_epoch=fit.best_epoch)
    return probability, history, fit.model if keep_model else None


def _identity(model):
    return model


def _untrained(features: FeatureParameters, parameters: TrainingParameters) -> Any:
    """The first configuration with the random weights it begins with."""
    from skyloom.nets.ring_cnn import ring_cnn

    first = parameters.configurations[0]
    channels = (3 if features.rendering == "published" else 1) * len(first.image_models)
    shape = (features.size, features.size, channels)
    return ring_cnn(shape, 2, widths=first.widths, padding=parameters.padding, seed=0)
