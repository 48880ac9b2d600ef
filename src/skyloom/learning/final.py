"""The network for new objects: the chosen configuration fitted to everything that is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from skyloom.learning.fitting import calibrate, prepare_process


def rows_and_classes(sample: pd.DataFrame, manifest: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Objects of a split as rows of the sample, with their classes.

    Parameters
    ----------
    sample : pandas.DataFrame
        ``id``, in the order of the shared arrays.
    manifest : pandas.DataFrame
        The split.

    Returns
    -------
    rows : numpy.ndarray of int, shape (n,)
    classes : numpy.ndarray of int32, shape (n,)
    """
    objects = manifest.drop_duplicates("id")
    row_of = pd.Series(np.arange(len(sample)), index=sample["id"])
    return row_of.loc[objects["id"]].to_numpy(), objects["class"].to_numpy(np.int32)


def fit_final(
    settings: dict[str, Any],
    shared: dict[str, Any],
    rows: np.ndarray,
    targets: np.ndarray,
    *,
    training_data: Callable[..., tuple[np.ndarray, np.ndarray]],
    fit_network: Callable[..., tuple[Any, list[Any], pd.DataFrame]],
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Fit one network to all objects; nothing is left to stop it, so its epochs are given.

    Parameters
    ----------
    settings, shared, training_data, fit_network
        As in `skyloom.learning.fitting.fit_on_split`.
    rows, targets : numpy.ndarray, shape (n,)
        What to train on.

    Returns
    -------
    network : keras.Model
    example : numpy.ndarray
        One input.
    targets : numpy.ndarray, shape (k,)
        Of everything that was trained on, also made objects and copies.
    """
    prepare_process(0)
    train = training_data(settings, shared, rows, targets)
    network, snapshots, _ = fit_network(settings, shared, train, None)
    network.set_weights(snapshots[0].weights)
    return network, np.asarray(train[0][:1]), train[1]


def describe_classifier(
    network: Any,
    outcome: dict[str, Any],
    validation: pd.DataFrame,
    class_names: list[str],
    trained_shares: list[float],
    **known: Any,
) -> dict[str, Any]:
    """Calibrate a classifier and say what is needed to use it.

    Parameters
    ----------
    network : keras.Model
        From `fit_final`; its last layer is changed.
    outcome : dict
        From `skyloom.learning.comparison.compare_configurations`.
    validation : pandas.DataFrame
        Predictions of inner validation objects, for the temperature.
    class_names : list of str
        In the order of the outputs.
    trained_shares : list of float
        From `shares_of_training`.
    **known
        What else is known of it: ``n_objects``, ``label_source``, ``sample`` (see
        `skyloom.evaluation.novelty.describe_sample`) ...

    Returns
    -------
    dict
        ``trained``, ``configuration``, ``class_names``, ``trained_shares``, ``temperature``,
        ``calibration_error`` before and after, and what is known.
    """
    return {
        "trained": True,
        "configuration": outcome["chosen"],
        "class_names": class_names,
        "trained_shares": trained_shares,
        **known,
        **calibrate(network, validation),
    }


def shares_of_training(classes: np.ndarray, n_classes: int, *, balanced: bool) -> list[float]:
    """Shares of the classes in which a network was trained.

    Parameters
    ----------
    classes : numpy.ndarray of int, shape (n,)
        Of everything that was trained on, from `fit_final`.
    n_classes : int
        How many there are.
    balanced : bool
        Whether every class came equally often.

    Returns
    -------
    list of float
    """
    counts = np.ones(n_classes) if balanced else np.bincount(classes, minlength=n_classes)
    return (counts / counts.sum()).tolist()


def untrained(network: Any, shape: tuple[int, ...]) -> tuple[Any, dict[str, Any], np.ndarray]:
    """What stands for a classifier where there was nothing to train on.

    Parameters
    ----------
    network : keras.Model
        Any.
    shape : tuple of int
        Of one input.

    Returns
    -------
    network : keras.Model
    description : dict
        ``trained`` is False.
    example : numpy.ndarray of float32
    """
    return network, {"trained": False}, np.zeros((1, *shape), np.float32)
