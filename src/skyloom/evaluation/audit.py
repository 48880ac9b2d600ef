"""The published protocol taken apart: what it gives where there is nothing to be found."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

FIT = ("labels", "test_size", "split_seed", "epochs", "widths")  # what tells a fit from others


class TestedFit(NamedTuple):
    """Predictions of one fit for its test objects.

    Attributes
    ----------
    rows : numpy.ndarray of int, shape (n,)
        Test objects as rows of the sample.
    predicted : numpy.ndarray of int, shape (n,)
        Predicted classes.
    """

    rows: np.ndarray
    predicted: np.ndarray

    __test__ = False  # pytest looks for tests in what is called so


def relabelings(n_classes: int) -> np.ndarray:
    """Every assignment of class names to predicted numbers.

    Parameters
    ----------
    n_classes : int
        Number of classes, at most 8.

    Returns
    -------
    numpy.ndarray of int, shape (n_classes!, n_classes)
        The class that each predicted number is called; the first changes nothing.
    """
    return np.array(list(itertools.permutations(range(n_classes))))


def relabeled_rates(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Success rate under every relabeling of the predictions.

    Parameters
    ----------
    truth : numpy.ndarray of int, shape (..., n)
        True classes, perhaps many versions of them.
    predicted : numpy.ndarray of int, shape (n,)
        Predicted classes.
    n_classes : int
        Number of classes.

    Returns
    -------
    numpy.ndarray, shape (..., n_classes!)
        In the order of `relabelings`.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([0, 0, 0, 1, 1, 1])
    >>> predicted = np.array([1, 1, 1, 0, 0, 1])
    >>> relabeled_rates(truth, predicted, 2).round(2)
    array([0.17, 0.83])
    """
    one_hot = np.eye(n_classes)
    confusion = np.einsum("...ni,nj->...ij", one_hot[truth], one_hot[predicted])
    order = relabelings(n_classes)
    hits = confusion[..., order, np.arange(n_classes)].sum(axis=-1)
    return hits / len(predicted)


def published_rates(
    truth: np.ndarray, fits: Sequence[TestedFit], n_classes: int, *, relabel: bool = True
) -> np.ndarray:
    """Success rates as published: best relabeling on the test set, one-class predictions skipped.

    Parameters
    ----------
    truth : numpy.ndarray of int, shape (..., n_objects)
        True classes of the whole sample, perhaps many versions of them.
    fits : sequence of TestedFit
        Every fit of the sweep.
    n_classes : int
        Number of classes.
    relabel : bool
        False takes the predictions as they are.

    Returns
    -------
    numpy.ndarray, shape (..., n_fits)
        NaN where a fit names one class only.
    """
    rates = []
    for fit in fits:
        if len(np.unique(fit.predicted)) < 2:
            rates.append(np.full(truth.shape[:-1], np.nan))
            continue
        every = relabeled_rates(truth[..., fit.rows], fit.predicted, n_classes)
        rates.append(every.max(axis=-1) if relabel else every[..., 0])
    return np.stack(rates, axis=-1)


def shuffled_rates(
    truth: np.ndarray,
    fits: Sequence[TestedFit],
    n_classes: int,
    rng: np.random.Generator,
    *,
    n_shuffles: int,
    relabel: bool = True,
) -> np.ndarray:
    """The same where the true classes are shuffled: what the protocol gives from nothing.

    Parameters
    ----------
    truth, fits, n_classes, relabel
        As in `published_rates`.
    rng : numpy.random.Generator
        Source of the shuffles.
    n_shuffles : int
        How many.

    Returns
    -------
    numpy.ndarray, shape (n_shuffles, n_fits)
    """
    parts = []
    for n in [100] * (n_shuffles // 100) + [n_shuffles % 100] * (n_shuffles % 100 > 0):
        shuffled = rng.permuted(np.tile(truth, (n, 1)), axis=1)
        parts.append(published_rates(shuffled, fits, n_classes, relabel=relabel))
    return np.concatenate(parts)


def best_of(rates: np.ndarray) -> np.ndarray:
    """Highest success rate of each sweep.

    Parameters
    ----------
    rates : numpy.ndarray, shape (..., n_fits)
        NaN for fits that were skipped.

    Returns
    -------
    numpy.ndarray, shape (...)
        NaN where all were.
    """
    best = np.max(np.where(np.isnan(rates), -np.inf, rates), axis=-1)
    return np.where(np.isfinite(best), best, np.nan)


def published_workbooks(
    predictions: pd.DataFrame, about: pd.DataFrame
) -> dict[str, dict[str, pd.DataFrame]]:
    """Predictions of the published protocol as sheets, under their published names.

    Parameters
    ----------
    predictions : pandas.DataFrame
        `FIT`, ``id``, ``class``, ``predicted``, ``probability_0`` ...
    about : pandas.DataFrame
        ``id`` and whatever else is known of each object.

    Returns
    -------
    dict of str to dict of str to pandas.DataFrame
        ``classification_results_<labels>_<test size>_<seed>_<epochs>_<widths>.xlsx`` with the
        predictions; ``transformation_results_...`` with the sheets ``Transformation_Summary``
        (success rate of every relabeling) and ``Merged_Data`` (predictions, their best relabeling
        and the true class).
    """
    workbooks = {}
    for key, part in predictions.groupby(list(FIT), sort=False):
        name = "_".join(map(str, key))
        merged = about.merge(part.drop(columns=list(FIT)), on="id")
        order = relabelings(sum(column.startswith("probability_") for column in part.columns))
        truth, predicted = (part[column].to_numpy(int) for column in ("class", "predicted"))
        rates = relabeled_rates(truth, predicted, order.shape[1])
        names = [", ".join(f"{i} -> {k}" for i, k in enumerate(row)) for row in order]
        answers = merged.drop(columns="class")
        merged["transformed"] = order[rates.argmax()][merged["predicted"].to_numpy(int)]
        merged["match"] = merged["transformed"] == merged["class"]
        workbooks[f"classification_results_{name}.xlsx"] = {"Classification": answers}
        workbooks[f"transformation_results_{name}.xlsx"] = {
            "Transformation_Summary": pd.DataFrame(
                {"Transformation": names, "Success_Rate": rates}
            ),
            "Merged_Data": merged,
        }
    return workbooks
