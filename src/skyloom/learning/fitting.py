"""Fitting one network on one split: plain functions of their inputs."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from skyloom.learning.parameters import Parameters, Positive

if TYPE_CHECKING:
    import keras


CURVES = ("loss", "accuracy", "val_loss", "val_accuracy")  # of a classifier


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


class Snapshot(NamedTuple):
    """A network as it was at one length of the training.

    Attributes
    ----------
    weights : list of numpy.ndarray
        Of the best epoch, or of the last one where training does not stop early.
    best_epoch : int
        The epoch of these weights, from 1.
    """

    weights: list[np.ndarray]
    best_epoch: int


@functools.cache
def limit_threads(n_threads: int) -> None:
    """Limit the TensorFlow threads of this process, so that workers do not fight for cores.

    Works only before the first operation; later it does nothing.

    Parameters
    ----------
    n_threads : int
        For the inside of one operation; operations follow one another.
    """
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(n_threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def prepare_process(threads: int) -> None:
    """Quieten TensorFlow and limit its threads, before it is used in a process.

    Parameters
    ----------
    threads : int
        0 leaves the number to TensorFlow.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    limit_threads(threads)


def restart(model: keras.Model, fresh: keras.Model, learning_rate: float) -> None:
    """Put a compiled network back to the state of a new one, without tracing it again.

    Parameters
    ----------
    model : keras.Model
        Compiled and perhaps trained.
    fresh : keras.Model
        Same architecture, with the wanted weights and random state.
    learning_rate : float
        To begin with.
    """
    for variable, value in zip(model.variables, fresh.variables, strict=True):
        variable.assign(value)
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape, dtype=variable.dtype))
    model.optimizer.learning_rate.assign(learning_rate)


def fit_classifier(
    model: keras.Model,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray] | None,
    *,
    epochs: Sequence[int],
    batch_size: int,
    patience: int | None,
    min_epochs: int,
    seed: int,
    steps_per_epoch: int | None = None,
    augment: Callable[[Any, Any], Any] | None = None,
    augment_both: Callable[[Any, Any, Any], tuple[Any, Any]] | None = None,
    halve_after: int | None = None,
) -> tuple[list[Snapshot], pd.DataFrame]:
    """Train a compiled network and keep its weights at several lengths of the training.

    Parameters
    ----------
    model : keras.Model
        Compiled, with a metric beside its loss.
    train, validation : tuple of (inputs, targets)
        Inputs (n, ...) and integer classes or other targets (n,). Without validation objects, as
        for the last fit on everything, nothing can stop the training.
    epochs : sequence of int
        Largest numbers of epochs; one training run serves all of them.
    batch_size : int
        Objects in a gradient step.
    patience : int or None
        Epochs without a lower validation loss after which training stops, and the weights of the
        lowest are kept; None trains all epochs and keeps the last weights, as published.
    min_epochs : int
        Epochs before stopping is considered: until then the moving averages of the batch
        normalisation have not settled, and a validation loss means little.
    seed : int
        Of the order of the batches. The same seed on the same machine gives the same weights.
    steps_per_epoch : int, optional
        Gradient steps of an epoch, so that samples of different sizes are trained equally long;
        by default one pass through the training objects.
    augment : callable, optional
        ``(number, inputs) -> inputs`` of each training batch, such as
        `skyloom.images.orientations.random_rotations`.
    augment_both : callable, optional
        ``(number, inputs, targets) -> (inputs, targets)`` of each training batch, where targets
        are images, too.
    halve_after : int, optional
        Epochs without a lower validation loss (or loss, without validation objects) after which
        the learning rate is halved; by default it never is.

    Returns
    -------
    snapshots : list of Snapshot
        One for each of ``epochs``.
    history : pandas.DataFrame
        ``epoch`` (from 1), ``loss`` and the metric, and ``val_`` of both.
    """
    import keras
    import tensorflow as tf

    if validation is None:
        patience = None

    def batches(inputs, targets, *, training):
        data = tf.data.Dataset.from_tensor_slices((inputs, targets))
        if training:
            data = data.shuffle(len(inputs), seed=seed, reshuffle_each_iteration=True)
        if training and steps_per_epoch is not None:
            data = data.repeat()
        data = data.batch(batch_size)
        if training and augment is not None:
            data = data.enumerate().map(lambda number, pair: (augment(number, pair[0]), pair[1]))
        if training and augment_both is not None:
            data = data.enumerate().map(lambda number, pair: augment_both(number, *pair))
        return data.prefetch(2)

    class Keeper(keras.callbacks.Callback):
        """Keep the weights at each length, and stop when the validation loss has risen."""

        def __init__(self):
            super().__init__()
            self.snapshots = {}
            self.best = Snapshot([], 0)
            self.lowest = np.inf

        def on_epoch_end(self, epoch, logs):
            epoch += 1
            loss = logs.get("val_loss", np.nan)
            settled = epoch >= min(min_epochs, max(epochs))
            # A diverged network has no loss: then the first settled epoch is kept.
            if patience is None or (settled and (loss < self.lowest or not self.best.weights)):
                self.best = Snapshot(self.model.get_weights(), epoch)
                self.lowest = loss if np.isfinite(loss) else np.inf
            if epoch in epochs:
                known = self.best.weights
                now = self.best if known else Snapshot(self.model.get_weights(), epoch)
                self.snapshots[epoch] = now
            if patience is not None and settled and epoch - self.best.best_epoch >= patience:
                self.model.stop_training = True

    callbacks = [keeper := Keeper()]
    if halve_after is not None:
        watched = "loss" if validation is None else "val_loss"
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(watched, factor=0.5, patience=halve_after)
        )
    keras.utils.set_random_seed(seed)
    run = model.fit(
        batches(*train, training=True),
        validation_data=None if validation is None else batches(*validation, training=False),
        epochs=max(epochs),
        steps_per_epoch=steps_per_epoch,
        verbose=0,
        shuffle=False,  # the dataset shuffles itself
        callbacks=callbacks,
    )
    history = pd.DataFrame(run.history).rename_axis("epoch").reset_index()
    history["epoch"] += 1
    return [keeper.snapshots.get(length, keeper.best) for length in epochs], history


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
    augment_both: Callable[[Any, Any, Any], tuple[Any, Any]] | None = None,
    regression: bool = False,
    loss: tuple[Callable[..., Any], Callable[..., Any]] | None = None,
    halve_after: int | None = None,
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
    augment, augment_both : callable, optional
        Of each training batch, see `fit_classifier`.
    regression : bool
        Whether it predicts numbers.
    loss : tuple of 2 callables, optional
        ``(targets, outputs)`` to a loss, and to what the curves call the metric; by default that
        of classes or numbers.
    halve_after : int, optional
        As of `fit_classifier`.

    Returns
    -------
    model : keras.Model
        Its weights are to be set from a snapshot; it belongs to the next fit, too.
    snapshots, history
        From `fit_classifier`.
    """
    model = compiled(build, architecture, training.optimizer, regression, loss)
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
        augment_both=augment_both,
        halve_after=halve_after,
    )
    return model, snapshots, history


@functools.lru_cache(maxsize=8)
def compiled(
    build: Callable[..., Any],
    architecture: tuple[Hashable, ...],
    optimizer: str,
    regression: bool,
    loss: tuple[Callable[..., Any], Callable[..., Any]] | None = None,
) -> Any:
    """Compiled network, to be reused by all fits of this process: tracing it takes seconds.

    Parameters
    ----------
    build, architecture
        As of `fit_equal_steps`.
    optimizer : {"adam", "rmsprop"}
        Its learning rate is to be set, see `restart`.
    regression : bool
        Whether it predicts numbers.
    loss : tuple of 2 callables, optional
        As of `fit_equal_steps`.

    Returns
    -------
    keras.Model
    """
    import keras

    usual = ("mse", "mae") if regression else ("sparse_categorical_crossentropy", "accuracy")
    minimised, metric = usual if loss is None else loss
    model = build(*architecture, 0)
    model.compile(
        optimizer=keras.optimizers.RMSprop(1.0, rho=0.9, epsilon=1e-8, clipnorm=1.0)
        if optimizer == "rmsprop"
        else keras.optimizers.Adam(1.0),
        loss=minimised,
        metrics=[metric],
    )
    model.optimizer.build(model.trainable_variables)
    return model


def predict(model: keras.Model, inputs: np.ndarray, *, chunk: int = 64) -> np.ndarray:
    """Outputs of a network, a chunk of inputs at a time.

    Parameters
    ----------
    model : keras.Model
        Any.
    inputs : numpy.ndarray, shape (n, ...)
        n may be 0.
    chunk : int
        Inputs in memory at a time.

    Returns
    -------
    numpy.ndarray of float32, shape (n, ...)
    """
    parts = [model.predict_on_batch(inputs[i : i + chunk]) for i in range(0, len(inputs), chunk)]
    return np.concatenate(parts) if parts else np.zeros((0, *model.output_shape[1:]), np.float32)


def split_result(
    model: keras.Model,
    snapshots: Sequence[Snapshot],
    history: pd.DataFrame,
    epochs: Sequence[int],
    inputs: dict[str, np.ndarray],
    *,
    curves: Sequence[str] = CURVES,
    predict: Callable[[Any, np.ndarray], np.ndarray] = predict,
) -> dict[str, np.ndarray]:
    """What one fit says of its split.

    Parameters
    ----------
    model : keras.Model
        As fitted.
    snapshots, history
        From `fit_classifier`.
    epochs : sequence of int
        Largest numbers of epochs.
    inputs : dict of str to numpy.ndarray
        Of the ``validation`` and the ``test`` objects.
    curves : sequence of str
        Columns of the history that are kept, see `skyloom.evaluation.measures.Measure.curves`.
    predict : callable
        ``predict(model, inputs)``.

    Returns
    -------
    dict of numpy.ndarray
        ``validation_prediction`` and ``test_prediction`` (lengths, n, ...), ``history``
        (epochs, 4), ``lengths`` (epochs trained) and ``best_epoch`` (lengths,).
    """
    predictions: dict[str, list[np.ndarray]] = {role: [] for role in inputs}
    for snapshot in snapshots:
        model.set_weights(snapshot.weights)
        for role, parts in predictions.items():
            parts.append(predict(model, inputs[role]))
    return {
        **{f"{role}_prediction": np.stack(parts) for role, parts in predictions.items()},
        "history": history[list(curves)].to_numpy(np.float32),
        "lengths": np.minimum(epochs, len(history)),
        "best_epoch": np.array([snapshot.best_epoch for snapshot in snapshots]),
    }


def fit_on_split(
    settings: dict[str, Any],
    arrays: dict[str, np.ndarray],
    shared: dict[str, Any],
    *,
    threads: int,
    inputs_of: Callable[..., np.ndarray],
    training_data: Callable[..., tuple[np.ndarray, np.ndarray]],
    fit_network: Callable[..., tuple[Any, list[Any], pd.DataFrame]],
    **options: Any,
) -> dict[str, np.ndarray]:
    """Fit on one split and predict its validation and test objects; runs on any worker.

    Parameters
    ----------
    settings : dict
        Everything but the data that the fit depends on.
    arrays : dict of str to numpy.ndarray
        Rows ``train``, ``validation`` and ``test``, and the targets of the first two.
    shared : dict
        What the fits of a study share, by the names in the settings.
    threads : int
        TensorFlow threads.
    inputs_of : callable
        ``inputs_of(settings, shared, rows)``: observed objects as the network takes them.
    training_data : callable
        ``training_data(settings, shared, rows, targets)``: what is trained on, with its targets.
    fit_network : callable
        ``fit_network(settings, shared, train, validation)``, as `fit_equal_steps` answers.
    **options
        Of `split_result`.

    Returns
    -------
    dict of numpy.ndarray
        From `split_result`.
    """
    prepare_process(threads)
    inputs = {role: inputs_of(settings, shared, arrays[role]) for role in ("validation", "test")}
    train = training_data(settings, shared, arrays["train"], arrays["train_targets"])
    validation = (inputs["validation"], arrays["validation_targets"])
    model, snapshots, history = fit_network(settings, shared, train, validation)
    return split_result(model, snapshots, history, settings["epochs"], inputs, **options)


def calibrate(model: keras.Model, predictions: pd.DataFrame) -> dict[str, Any]:
    """Divide the logits of a classifier for good by the temperature that others of its kind need.

    Parameters
    ----------
    model : keras.Model
        Its last layer is dense with a softmax.
    predictions : pandas.DataFrame
        ``class`` and ``probability_0`` ... of objects that those were not fitted to.

    Returns
    -------
    dict
        ``temperature``, and ``calibration_error`` of the predictions before and after.
    """
    from skyloom.evaluation.calibration import (
        apply_temperature,
        expected_calibration_error,
        fit_temperature,
    )

    columns = [name for name in predictions if name.startswith("probability_")]
    probability = predictions[columns].to_numpy()
    truth = predictions["class"].to_numpy(int)
    temperature = fit_temperature(probability, truth)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel / temperature, bias / temperature])
    errors = [
        expected_calibration_error(each, truth)
        for each in (probability, apply_temperature(probability, temperature))
    ]
    return {"temperature": temperature, "calibration_error": errors}


def balanced_rows(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows in which every class is as frequent as the largest.

    Parameters
    ----------
    classes : numpy.ndarray of int, shape (n,)
        Classes.
    rng : numpy.random.Generator
        Chooses which rows of a smaller class come once more often than others.

    Returns
    -------
    numpy.ndarray of int
        Each row at least once.
    """
    members = [np.flatnonzero(classes == label) for label in np.unique(classes)]
    largest = max(map(len, members))
    return np.concatenate([np.resize(rng.permutation(rows), largest) for rows in members])


def unpack(result: dict[str, np.ndarray], prefix: str) -> list[np.ndarray]:
    """Arrays stored as ``prefix_0``, ``prefix_1`` ... in a result.

    Parameters
    ----------
    result : dict of str to numpy.ndarray
        Of a task.
    prefix : str
        Common beginning of the names.

    Returns
    -------
    list of numpy.ndarray
    """
    count = sum(name.startswith(f"{prefix}_") for name in result)
    return [result[f"{prefix}_{i}"] for i in range(count)]


def pack(arrays: Sequence[Any], prefix: str) -> dict[str, np.ndarray]:
    """Name a list of arrays so that `unpack` finds them again.

    Parameters
    ----------
    arrays : sequence of array_like
        Such as the weights of a network.
    prefix : str
        Common beginning of the names.

    Returns
    -------
    dict of str to numpy.ndarray
    """
    return {f"{prefix}_{i}": np.asarray(array) for i, array in enumerate(arrays)}
