"""Fits that make the same number of gradient steps, whatever they are trained on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from skyloom.learning.configurations import Parameters, Positive


class TrainingParameters(Parameters):
    """Fitting the network: every arm makes the same number of gradient steps."""

    epochs: int = Field(15, ge=1)
    steps_per_epoch: int = Field(20, ge=1, description="gradient steps between two validations")
    batch_size: int = Field(32, ge=1)
    optimizer: Literal["adam", "rmsprop"] = Field("adam", description="rmsprop is published")
    learning_rate: Positive = 1e-3
    keep: Literal["best", "last"] = Field(
        "best", description="weights of the lowest validation loss, or of the last epoch"
    )


def fit_equal_steps(
    build: Callable[..., Any],
    architecture: tuple[Hashable, ...],
    training: TrainingParameters,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray] | None,
    *,
    epochs: list[int],
    seed: int,
    balance: bool = False,
    augment: Callable[[Any, Any], Any] | None = None,
    regression: bool = False,
) -> tuple[Any, list[Any], pd.DataFrame]:
    """Fit one network.

    Parameters
    ----------
    build : callable
        Makes the untrained network of an architecture and a seed: ``build(*architecture, seed)``.
    architecture : tuple
        What `build` needs, hashable: networks of one architecture share one that is compiled.
    training : TrainingParameters
        How it is trained; of its epochs nothing is read.
    train, validation : tuple of (inputs, targets)
        The second may be None.
    epochs : list of int
        Numbers of epochs; one training run serves all of them.
    seed : int
        Of the weights, dropout and batches.
    balance : bool
        Whether every class weighs the same.
    augment : callable, optional
        Of each training batch, see `skyloom.learning.fitting.fit_classifier`.
    regression : bool
        Whether it predicts numbers.

    Returns
    -------
    model : keras.Model
        Its weights are to be set from a snapshot; it belongs to the next fit, too.
    snapshots, history
        From `skyloom.learning.fitting.fit_classifier`.
    """
    from skyloom.learning.fitting import balanced_rows, fit_classifier, restart

    model = compiled(build, architecture, training.optimizer, regression)
    restart(model, build(*architecture, seed), training.learning_rate)
    if balance and not regression:
        rows = balanced_rows(train[1], np.random.default_rng(seed))
        train = train[0][rows], train[1][rows]
    snapshots, history = fit_classifier(
        model,
        train,
        validation,
        epochs=epochs,
        batch_size=training.batch_size,
        # Never stopped, so that all arms are trained equally long; but the best may be kept.
        patience=max(epochs) if training.keep == "best" else None,
        min_epochs=1,
        seed=seed,
        steps_per_epoch=training.steps_per_epoch,
        augment=augment,
    )
    return model, snapshots, history


@functools.lru_cache(maxsize=8)
def compiled(
    build: Callable[..., Any], architecture: tuple[Hashable, ...], optimizer: str, regression: bool
) -> Any:
    """Compiled network, to be reused by all fits of this process: tracing it takes seconds.

    Parameters
    ----------
    build, architecture
        As of `fit_equal_steps`.
    optimizer : {"adam", "rmsprop"}
        Its learning rate is to be set, see `skyloom.learning.fitting.restart`.
    regression : bool
        Whether it predicts numbers.

    Returns
    -------
    keras.Model
    """
    import keras

    model = build(*architecture, 0)
    model.compile(
        optimizer=keras.optimizers.RMSprop(1.0, rho=0.9, epsilon=1e-8, clipnorm=1.0)
        if optimizer == "rmsprop"
        else keras.optimizers.Adam(1.0),
        loss="mse" if regression else "sparse_categorical_crossentropy",
        metrics=["mae" if regression else "accuracy"],
    )
    model.optimizer.build(model.trainable_variables)
    return model
