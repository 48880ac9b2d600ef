"""Whether an object is like those that a classifier was trained on."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

_MAX_FEATURES = 12  # each more doubles the number of limits


def describe_sample(features: pd.DataFrame, *, level: float = 0.99) -> dict[str, Any]:
    """Centre, spread and reach of a sample, in plain numbers that can be kept with a model.

    Parameters
    ----------
    features : pandas.DataFrame, shape (n, k)
        One row an object, at most 12 features; rows with missing values are not used.
    level : float
        Share of the sample that is to be within the limit.

    Returns
    -------
    dict
        ``features`` (names), ``scale``, ``mean``, ``covariance`` (shrunk as by Ledoit & Wolf 2004),
        ``level``, and ``limits`` of the Mahalanobis distance: one for each choice of features, as
        not all of them are measured of every object (``101`` is of the first and the third).

    Raises
    ------
    ValueError
        If fewer than two rows are complete, or there are too many features.
    """
    from sklearn.covariance import LedoitWolf  # slow to import

    if len(features.columns) > _MAX_FEATURES:
        msg = f"a sample is described by at most 12 features, got {len(features.columns)}"
        raise ValueError(msg)
    complete = features[np.isfinite(features).all(axis=1)]
    if len(complete) < 2:
        msg = f"a sample needs two complete rows to be described, got {len(complete)}"
        raise ValueError(msg)
    scale = complete.std().replace(0, 1)
    # Shrinkage pulls towards a sphere, so the features have to be of one size.
    fit = LedoitWolf().fit((complete / scale).to_numpy())
    offset = (complete / scale).to_numpy() - fit.location_
    limits = {}
    for measured in itertools.product([False, True], repeat=offset.shape[1]):
        if any(measured):
            distance = _mahalanobis(offset, fit.covariance_, np.array(measured))
            limits[_key(measured)] = float(np.quantile(distance, level))
    return {
        "features": list(features.columns),
        "scale": scale.tolist(),
        "mean": fit.location_.tolist(),
        "covariance": fit.covariance_.tolist(),
        "limits": limits,
        "level": level,
    }


def _key(measured):
    return "".join(str(int(each)) for each in measured)


def _mahalanobis(offset, covariance, measured):
    """Distance in the measured features alone, whatever the others are."""
    precision = np.linalg.pinv(covariance[np.ix_(measured, measured)], hermitian=True)
    part = offset[:, measured]
    return np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", part, precision, part), 0))


def distance_from_sample(features: pd.DataFrame, sample: dict[str, Any]) -> np.ndarray:
    """Mahalanobis distance in units of the limit.

    Where features are missing it is that in the others, and the limit that of the sample in the
    same ones: of objects like the sample as many are beyond it.

    Parameters
    ----------
    features : pandas.DataFrame
        With the columns of the sample; NaN where one is missing.
    sample : dict
        From `describe_sample`.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Above 1 the object is unlike the sample; infinite where a feature is, NaN where none is
        measured.

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
    covariance, distance = np.array(sample["covariance"]), np.full(len(offset), np.nan)
    known = ~np.isnan(offset)
    for measured in np.unique(known, axis=0):
        rows = (known == measured).all(axis=1)
        if measured.any():
            finite = np.where(np.isinf(offset[rows]), 0, offset[rows])
            limit = max(sample["limits"][_key(measured)], 1e-9)  # of a constant feature it is 0
            distance[rows] = _mahalanobis(finite, covariance, measured) / limit
    distance[np.isinf(offset).any(axis=1)] = np.inf
    return distance
