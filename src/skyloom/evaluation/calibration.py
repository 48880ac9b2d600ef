"""Probabilities that mean what they say."""

from __future__ import annotations

import numpy as np


def apply_temperature(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Class probabilities after dividing their logits by a temperature.

    Parameters
    ----------
    probability : numpy.ndarray, shape (n, n_classes)
        From a softmax.
    temperature : float
        Above 1 makes them less certain; the most probable class stays.

    Returns
    -------
    numpy.ndarray, shape (n, n_classes)

    Examples
    --------
    >>> import numpy as np
    >>> apply_temperature(np.array([[0.9, 0.1]]), 2.0).round(3)
    array([[0.75, 0.25]])
    """
    from scipy.special import softmax

    return softmax(np.log(np.clip(probability, 1e-12, None)) / temperature, axis=1)


def fit_temperature(probability: np.ndarray, classes: np.ndarray) -> float:
    """Temperature with the highest likelihood.

    Parameters
    ----------
    probability : numpy.ndarray, shape (n, n_classes)
        Of objects that the network was not fitted to.
    classes : numpy.ndarray of int, shape (n,)
        True classes.

    Returns
    -------
    float
        Between 0.1 and 10.

    References
    ----------
    Guo et al. (2017), ICML, On calibration of modern neural networks.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(classes))

    def loss(log_temperature):
        scaled = apply_temperature(probability, np.exp(log_temperature))
        return -np.log(np.clip(scaled[rows, classes], 1e-12, None)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.1), np.log(10.0))).x))


def expected_calibration_error(
    probability: np.ndarray, classes: np.ndarray, n_bins: int = 10
) -> float:
    """Mean distance between the probability of the predicted class and the share that is right.

    Parameters
    ----------
    probability : numpy.ndarray, shape (n, n_classes)
        Class probabilities.
    classes : numpy.ndarray of int, shape (n,)
        True classes.
    n_bins : int
        Bins of equal numbers of objects.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> sure = np.tile([0.9, 0.1], (100, 1))
    >>> classes = np.repeat([0, 1], [70, 30])
    >>> round(float(expected_calibration_error(sure, classes, n_bins=1)), 3)
    0.2
    """
    confidence = probability.max(axis=1)
    right = probability.argmax(axis=1) == classes
    bins = [rows for rows in np.array_split(np.argsort(confidence), n_bins) if len(rows)]
    distance = [abs(confidence[rows].mean() - right[rows].mean()) * len(rows) for rows in bins]
    return float(np.sum(distance) / len(classes))
