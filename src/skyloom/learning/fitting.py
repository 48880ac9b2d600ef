"""Fitting one network on one split: a plain function of its inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import keras


class Fit(NamedTuple):
    """A fitted network.

    Attributes
    ----------
    model : keras.Model
        With the weights of its best epoch.
    history : pandas.DataFrame
        ``epoch`` (from 1), ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``.
    best_epoch : int
        The epoch with the lowest validation loss, from ``min_epochs`` on; the last one without
        early stopping.
    """

    model: keras.Model
    history: pd.DataFrame
    best_epoch: int


@functools.cache
def use_one_thread() -> None:
    """Limit this process to one TensorFlow thread, so that workers do not fight for cores.

    Works only before the first operation; later calls do nothing.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def fit_classifier(
    build: Callable[[], keras.Model],
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    patience: int | None,
    min_epochs: int,
    seed: int,
) -> Fit:
    """Train a classifier with AdamW and keep the weights of the best validation epoch.

    Parameters
    ----------
    build : callable
        Returns the untrained network.
    train, validation : tuple of (images, classes)
        Images (n, height, width, channels) and integer classes (n,).
    epochs : int
        Largest number of epochs.
    batch_size : int
        Images in a gradient step.
    learning_rate, weight_decay : float
        Of AdamW.
    patience : int or None
        Epochs without a lower validation loss after which training stops; None trains all
        epochs and keeps the last weights, as published.
    min_epochs : int
        Epochs before stopping is considered: until then the moving averages of the batch
        normalisation have not settled, and a validation loss means little.
    seed : int
        Of the order of the batches. The same seed on the same machine gives the same weights.

    Returns
    -------
    Fit
    """
    import keras
    import tensorflow as tf

    model = build()
    model.compile(
        optimizer=keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )

    def batches(images, classes, *, shuffle):
        data = tf.data.Dataset.from_tensor_slices((images, classes))
        if shuffle:
            data = data.shuffle(len(images), seed=seed, reshuffle_each_iteration=True)
        return data.batch(batch_size).prefetch(2)

    callbacks = []
    if patience is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor="val_loss",
                patience=patience,
                start_from_epoch=min_epochs - 1,
                restore_best_weights=True,
            )
        )
    keras.utils.set_random_seed(seed)
    run = model.fit(
        batches(*train, shuffle=True),
        validation_data=batches(*validation, shuffle=False),
        epochs=epochs,
        verbose=0,
        shuffle=False,  # the dataset shuffles itself
        callbacks=callbacks,
    )
    history = pd.DataFrame(run.history).rename_axis("epoch").reset_index()
    history["epoch"] += 1
    best = len(history)
    if patience is not None:
        settled = history["epoch"] >= min(min_epochs, len(history))
        # A diverged network has no loss; as Keras does, keep the first epoch then.
        losses = history.loc[settled].set_index("epoch")["val_loss"].fillna(np.inf)
        best = int(losses.idxmin())
    return Fit(model, history, best)
