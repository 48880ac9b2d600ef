"""One fit of the study, on any machine: everything its result depends on comes as arguments.

A change of this file, or of what it imports, makes finished fits stale.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from skyloom.learning.fitting import (
    balanced_rows,
    fit_classifier,
    fit_on_split,
    pack,
    prepare_process,
    restart,
)
from skyloom.pipelines.hi_profiles.parameters import (
    Configuration,
    NetworkParameters,
    TrainingParameters,
)

_LEARNING_RATES = {
    "scratch": "learning_rate",
    "frozen": "frozen_learning_rate",
    "fine_tuned": "fine_tuned_learning_rate",
}


def network_input(
    images: np.ndarray, rows: np.ndarray, network: NetworkParameters, *, quadrant: bool = True
) -> np.ndarray:
    """Images of some rows as a network takes them.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, 3, size, size, channels)
        May be memory-mapped.
    rows : numpy.ndarray of int, shape (k,)
        Which.
    network : NetworkParameters
        Image models to stack as channels, and whether it sees the images or their radius alone.
    quadrant : bool
        Whether the images are quadrants.

    Returns
    -------
    numpy.ndarray of float32, shape (k, size, size, channels) or (k, radii, channels)
        Eight-bit colours are divided by 255, other images multiplied by the input scale.
    """
    if network.architecture == "folded_cnn":
        # The first row of a quadrant, or the middle one of a whole image, is the profile along
        # the radius, but for half a pixel.
        size = images.shape[2]
        images = images[:, :, 0] if quadrant else images[:, :, size // 2, size // 2 :]
    picked = np.concatenate([images[rows, model - 1] for model in network.image_models], axis=-1)
    if picked.dtype == np.uint8:
        return picked.astype(np.float32) / 255
    return picked.astype(np.float32, copy=False) * np.float32(network.input_scale)


def inputs_of(settings: dict[str, Any], shared: dict[str, Any], rows: np.ndarray) -> np.ndarray:
    """Observed galaxies as the network takes them, see `skyloom.learning.fitting.fit_on_split`."""
    return _input(settings, shared[settings["images"]], rows)


def _input(settings, images, rows):
    network = NetworkParameters.model_validate(settings["network"])
    return network_input(images, rows, network, quadrant=settings["quadrant"])


def build_network(
    network: NetworkParameters,
    input_shape: Sequence[int],
    n_outputs: int,
    seed: int,
    *,
    activation: str | None = "softmax",
) -> Any:
    """Untrained Keras network.

    Without an activation it predicts numbers, as the targets of the pre-training are.
    """
    from skyloom.nets.folded_cnn import folded_cnn
    from skyloom.nets.ring_cnn import ring_cnn

    build = folded_cnn if network.architecture == "folded_cnn" else ring_cnn
    return build(
        tuple(input_shape),
        n_outputs,
        widths=network.widths,
        padding=network.padding,
        activation=activation,
        seed=seed,
    )


def _classifier(network, start, input_shape, n_classes, seed, weights):
    """Untrained classifier, on pre-trained weights where it starts from them."""
    if start == "scratch":
        return build_network(network, input_shape, n_classes, seed)
    from skyloom.nets.pretrained import classifier_on

    # The last weight is the bias of the last layer: as many numbers as targets.
    backbone = build_network(network, input_shape, len(weights[-1]), seed, activation=None)
    backbone.set_weights(weights)
    return classifier_on(backbone, n_classes, frozen=start == "frozen", seed=seed)


@functools.lru_cache(maxsize=8)
def _compiled(network_json, start, weight_decay, input_shape, n_classes, n_targets):
    """Compiled network, to be reused by all fits of this process: tracing it takes seconds."""
    import keras

    network = NetworkParameters.model_validate_json(network_json)
    weights = None
    if n_targets:
        backbone = build_network(network, input_shape, n_targets, 0, activation=None)
        weights = backbone.get_weights()
    model = _classifier(network, start, input_shape, n_classes, 0, weights)
    model.compile(
        optimizer=keras.optimizers.AdamW(1.0, weight_decay=weight_decay),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.optimizer.build(model.trainable_variables)
    return model


def fit_network(
    settings: dict[str, Any],
    shared: dict[str, Any],
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[Any, list[Any], pd.DataFrame]:
    """Fit one network, for as many numbers of epochs as configurations share it.

    Returns
    -------
    model : keras.Model
        Its weights are to be set from a snapshot; it belongs to the next fit, too.
    snapshots, history
        From `skyloom.learning.fitting.fit_classifier`.
    """
    network = NetworkParameters.model_validate(settings["network"])
    training = TrainingParameters.model_validate(settings["training"])
    seed, shape = settings["seed"], train[0].shape[1:]
    weights = shared[settings["pretrained"]] if settings["pretrained"] else None
    n_targets = 0 if weights is None else len(weights[-1])
    model = _compiled(
        network.model_dump_json(),
        training.start,
        training.weight_decay,
        shape,
        settings["n_classes"],
        n_targets,
    )
    fresh = _classifier(network, training.start, shape, settings["n_classes"], seed, weights)
    restart(model, fresh, getattr(training, _LEARNING_RATES[training.start]))
    if settings["balance"]:
        rows = balanced_rows(train[1], np.random.default_rng(seed))
        train = train[0][rows], train[1][rows]
    snapshots, history = fit_classifier(
        model,
        train,
        validation,
        epochs=settings["epochs"],
        batch_size=training.batch_size,
        patience=training.patience,
        # Only averages that are learnt need epochs to settle.
        min_epochs=training.min_epochs if training.start == "scratch" else 1,
        seed=seed,
    )
    return model, snapshots, history


def training_data(
    settings: dict[str, Any], shared: dict[str, Any], rows: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and classes to train on: galaxies as observed, then their copies."""
    inputs = [inputs_of(settings, shared, rows)]
    labels = [classes]
    if settings["copies"]:
        copies = shared[settings["copies"]]
        class_of = pd.Series(classes, index=rows)
        chosen = np.flatnonzero(np.isin(copies["profile"], rows))
        inputs.append(_input(settings, copies["images"], chosen))
        labels.append(class_of.loc[copies["profile"][chosen]].to_numpy())
    return np.concatenate(inputs), np.concatenate(labels)


def fit_task(
    settings: dict[str, Any], arrays: dict[str, np.ndarray], shared: dict[str, Any], *, threads: int
) -> dict[str, np.ndarray]:
    """Fit on one split, see `skyloom.learning.fitting.fit_on_split`; runs on any worker."""
    return fit_on_split(
        settings, arrays, shared, threads=threads,
        inputs_of=inputs_of, training_data=training_data, fit_network=fit_network,
    )  # fmt: skip


def pretrain_task(
    settings: dict[str, Any], arrays: dict[str, np.ndarray], shared: dict[str, Any], *, threads: int
) -> dict[str, np.ndarray]:
    """Train a network to tell noiseless asymmetries from noisy images; runs on any worker.

    The arrays are ``targets`` (n, k), the shared input the simulated images.

    Returns
    -------
    dict of numpy.ndarray
        Weights, and ``history``: mean squared error of each epoch.
    """
    prepare_process(threads)
    import keras

    network = NetworkParameters.model_validate(settings["network"])
    targets = arrays["targets"]
    inputs = inputs_of(settings, shared, np.arange(len(targets)))
    model = build_network(
        network, inputs.shape[1:], targets.shape[1], settings["seed"], activation=None
    )
    steps = settings["epochs"] * -(-len(inputs) // settings["batch_size"])
    schedule = keras.optimizers.schedules.CosineDecay(settings["learning_rate"], steps)
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-5), loss="mse")
    keras.utils.set_random_seed(settings["seed"])
    run = model.fit(
        inputs, targets, batch_size=settings["batch_size"], epochs=settings["epochs"], verbose=0
    )
    return pack(model.get_weights(), "weight") | {"history": np.array(run.history["loss"])}


def fit_settings(
    family: Sequence[Configuration], _fold: int, seed: int, *, n_classes: int
) -> dict[str, Any]:
    """Everything but the data that one fit depends on, for configurations of one family."""
    first = family[0]
    start = first.training.start
    # Else a change of a learning rate that is not used would make the fit stale.
    unused = set(_LEARNING_RATES.values()) - {_LEARNING_RATES[start]}
    return {
        "network": first.network.model_dump(mode="json"),
        "quadrant": first.features.quadrant,
        "training": first.training.model_dump(mode="json", exclude=unused) | {"epochs": 1},
        "epochs": [configuration.training.epochs for configuration in family],
        "balance": first.augmentation.balance_classes,
        "images": f"images {first.input_variant}",
        "copies": f"copies {first.variant}" if first.augmentation.n_copies else None,
        "pretrained": None if start == "scratch" else f"pretrained {first.pretrained_name}",
        "n_classes": n_classes,
        "seed": seed,
    }
