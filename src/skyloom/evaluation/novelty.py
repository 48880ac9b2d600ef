"""Whether an object is like those that a classifier was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def describe_sample(features: pd.DataFrame, *, level: float = 0.99) -> dict[str, Any]:
    """Centre, spread and reach of a sample, in plain numbers that can be kept with a model.

    Parameters
    ----------
    features : pandas.DataFrame, shape (n, k)
        One row an object; rows with missing values are not used.
    level : float
        Share of the sample that is to be within the limit.

    Returns
    -------
    dict
        ``features`` (names), ``mean``, ``precision`` (inverse covariance, shrunk as by Ledoit &
        Wolf 2004), ``limit`` of the Mahalanobis distance, and ``level``.

    Raises
    ------
    ValueError
        If fewer than two rows are complete.
    """
    from sklearn.covariance import LedoitWolf  # slow to import

    complete = features[np.isfinite(features).all(axis=1)]
    if len(complete) < 2:
        msg = f"a sample needs two complete rows to be described, got {len(complete)}"
        raise ValueError(msg)
    scale = complete.std().replace(0, 1)
    # Shrinkage pulls towards a sphere, so the features have to be of one size.
    fit = LedoitWolf().fit((complete / scale).to_numpy())
    distance = np.sqrt(fit.mahalanobis((complete / scale).to_numpy()))
    return {
        "features": list(features.columns),
        "scale": scale.tolist(),
        "mean": fit.location_.tolist(),
        "precision": fit.precision_.tolist(),
        "limit": float(np.quantile(distance, level)),
        "level": level,
    }


def distance_from_sample(features: pd.DataFrame, sample: dict[str, Any]) -> np.ndarray:
    """Mahalanobis distance in units of the limit.

    Parameters
    ----------
    features : pandas.DataFrame
        With the columns of the sample.
    sample : dict
        From `describe_sample`.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Above 1 the object is unlike the sample; infinite where a feature is missing.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> sample = describe_sample(pd.DataFrame({"width": rng.normal(300, 50, 500)}))
    >>> new = pd.DataFrame({"width": [310.0, 900.0]})
    >>> distance_from_sample(new, sample) > 1
    array([False,  True])
    """
    values = features[sample["features"]].to_numpy(float) / np.array(sample["scale"])
    offset = values - np.array(sample["mean"])
    squared = np.einsum("ij,jk,ik->i", offset, np.array(sample["precision"]), offset)
    distance = np.sqrt(np.maximum(squared, 0)) / sample["limit"]
    return np.where(np.isfinite(distance), distance, np.inf)
