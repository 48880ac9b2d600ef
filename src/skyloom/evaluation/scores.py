"""Success rates with their intervals, chance levels and permutation tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd


def success_interval(rate: float, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson interval of a success rate.

    Parameters
    ----------
    rate : float
        Share of successes.
    n : int
        Independent objects behind it. With several seeds this stays the number of objects, since
        repeating the split does not add any.
    level : float
        Confidence level.

    Returns
    -------
    low, high : float
        NaN where ``n`` is 0.

    Examples
    --------
    >>> low, high = success_interval(0.71, 318)
    >>> print(f"{low:.3f} to {high:.3f}")
    0.659 to 0.758
    """
    from astropy.stats import binom_conf_interval  # slow to import

    if n == 0:
        return np.nan, np.nan
    low, high = binom_conf_interval(round(rate * n), n, confidence_level=level, interval="wilson")
    return float(low), float(high)


def permutation_p_value(
    truth: np.ndarray,
    predicted: np.ndarray,
    strata: np.ndarray,
    rng: np.random.Generator,
    *,
    n_permutations: int = 2000,
) -> float:
    """Probability of at least this balanced accuracy if predictions and classes were unrelated.

    Parameters
    ----------
    truth : numpy.ndarray of int, shape (n,)
        True classes.
    predicted : numpy.ndarray of int, shape (n,) or (n, k)
        Predicted classes, k of each object where there are k seeds; the statistic is their mean.
    strata : numpy.ndarray, shape (n,)
        True classes are shuffled only within a stratum (the fold).
    rng : numpy.random.Generator
        Source of the permutations.
    n_permutations : int
        Number of permutations; the smallest possible value is 1 / (n_permutations + 1).

    Returns
    -------
    float
        Of these predictions alone: choosing among configurations afterwards is not in it.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.repeat([0, 1], 20)
    >>> predicted = truth.copy()
    >>> predicted[:5] = 1
    >>> one_fold = np.zeros(40)
    >>> rng = np.random.default_rng(0)
    >>> permutation_p_value(truth, predicted, one_fold, rng, n_permutations=999)
    0.001
    """
    classes, code = np.unique(truth, return_inverse=True)
    predicted = predicted.reshape(len(truth), -1)
    # What an object adds to the balanced accuracy if its true class were each of the classes.
    worth = (predicted[:, :, None] == classes).mean(1) / np.bincount(code) / len(classes)
    order = np.argsort(strata, kind="stable")
    worth, code = worth[order], code[order]
    rows, stratum = np.arange(len(code)), np.unique(strata[order], return_inverse=True)[1]
    observed = worth[rows, code].sum()
    reached, done = 0, 0
    while done < n_permutations:
        n = min(n_permutations - done, max(1, 2_000_000 // len(code)))
        # Sorting random numbers offset by the stratum shuffles within strata.
        shuffled = code[np.argsort(rng.random((n, len(code))) + stratum, axis=1)]
        reached += int((worth[rows, shuffled].sum(1) >= observed - 1e-12).sum())
        done += n
    return (1 + reached) / (n_permutations + 1)


def score_predictions(
    predictions: pd.DataFrame, n_classes: int, rng: np.random.Generator
) -> dict[str, float]:
    """All scores of one set of out-of-fold predictions.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Columns ``seed``, ``fold``, ``id``, ``class``, ``predicted`` and perhaps
        ``probability_0`` ...; every object once a seed.
    n_classes : int
        Number of classes.
    rng : numpy.random.Generator
        For the permutation test.

    Returns
    -------
    dict
        ``success_rate`` with ``success_low`` and ``success_high`` (95 %, Wilson over objects),
        ``chance_level`` (success rate of always naming the largest class), ``balanced_accuracy``
        (chance: one over the number of classes), ``macro_f1``, ``adjusted_rand`` and
        ``mutual_information`` (normalised; both corrected for chance, where they are 0),
        ``recall_<class>`` (NaN of a class that was not tested), ``calibration_error`` (where there
        are probabilities), ``p_value``, ``n_objects`` and ``n_seeds``. Macro-F1 and balanced
        accuracy are means over the classes that were tested. Each score is the mean over seeds,
        and the p-value is that of the mean.
    """
    from sklearn.metrics import (  # slow to import
        adjusted_mutual_info_score,
        adjusted_rand_score,
        f1_score,
        recall_score,
    )

    from skyloom.evaluation.calibration import expected_calibration_error

    per_seed = []
    labels = range(n_classes)
    columns = [f"probability_{k}" for k in labels if f"probability_{k}" in predictions]
    for _, part in predictions.groupby("seed"):
        truth, predicted = part["class"].to_numpy(), part["predicted"].to_numpy()
        present = np.unique(truth)
        recall = recall_score(
            truth, predicted, labels=list(labels), average=None, zero_division=np.nan
        )
        per_seed.append(
            {
                "success_rate": float((truth == predicted).mean()),
                "balanced_accuracy": float(recall[present].mean()),
                "macro_f1": f1_score(
                    truth, predicted, labels=present, average="macro", zero_division=0
                ),
                "adjusted_rand": adjusted_rand_score(truth, predicted),
                "mutual_information": adjusted_mutual_info_score(truth, predicted),
                **{f"recall_{k}": float(recall[k]) for k in labels},
            }
        )
        if columns:
            error = expected_calibration_error(part[columns].to_numpy(), truth)
            per_seed[-1]["calibration_error"] = error
    scores = {key: float(np.mean([s[key] for s in per_seed])) for key in per_seed[0]}
    first = predictions[predictions["seed"] == predictions["seed"].iloc[0]].set_index("id")
    n_objects, n_seeds = len(first), predictions["seed"].nunique()
    by_seed = predictions.pivot(index="id", columns="seed", values="predicted").loc[first.index]
    # Folds differ between seeds: with several, classes are shuffled over all objects.
    strata = first["fold"].to_numpy() if n_seeds == 1 else np.zeros(n_objects)
    p_value = permutation_p_value(first["class"].to_numpy(), by_seed.to_numpy(), strata, rng)
    low, high = success_interval(scores["success_rate"], n_objects)
    shares = first["class"].value_counts(normalize=True)
    return {
        "success_rate": scores.pop("success_rate"),
        "success_low": low,
        "success_high": high,
        "chance_level": float(shares.max()),
        **scores,
        "p_value": p_value,
        "n_objects": n_objects,
        "n_seeds": n_seeds,
    }


def confusion_table(
    predictions: pd.DataFrame, n_classes: int, *, by: Literal["true", "predicted"] = "true"
) -> pd.DataFrame:
    """Confusion matrix normalised by the true or by the predicted class.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Columns ``class`` and ``predicted``.
    n_classes : int
        Number of classes.
    by : {"true", "predicted"}
        The diagonal holds recalls, or precisions, which depend on how frequent the classes are.

    Returns
    -------
    pandas.DataFrame, shape (n_classes, n_classes)
        Rows are true classes, columns are predicted classes; rows or columns sum to one, or to
        zero where there is nothing.
    """
    from sklearn.metrics import confusion_matrix  # slow to import

    labels = list(range(n_classes))
    matrix = confusion_matrix(predictions["class"], predictions["predicted"], labels=labels)
    total = matrix.sum(axis=1 if by == "true" else 0, keepdims=True)
    return pd.DataFrame(
        matrix / np.maximum(total, 1),
        index=pd.Index(labels, name="true class"),
        columns=pd.Index(labels, name="predicted class"),
    )


def confusion_tables(
    predictions: pd.DataFrame,
    n_classes: int,
    *,
    shown: Sequence[str],
    hidden: Sequence[str],
    by: Literal["true", "predicted"] = "true",
) -> dict[str, pd.DataFrame]:
    """Confusion matrices of some networks and of the baselines.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Of all configurations, with ``configuration`` and ``kind``.
    n_classes : int
        Number of classes.
    shown : sequence of str
        Networks that have one; baselines always do.
    hidden : sequence of str
        Configurations that have none, whatever they are.
    by : {"true", "predicted"}
        As in `confusion_table`.

    Returns
    -------
    dict of str to pandas.DataFrame
        By configuration.
    """
    return {
        name: confusion_table(part, n_classes, by=by)
        for name, part in predictions.groupby("configuration", sort=False)
        if name not in hidden and (name in shown or part["kind"].iloc[0] == "baseline")
    }


def class_scores(
    predictions: pd.DataFrame, shares: Sequence[float], *, level: float = 0.95
) -> pd.DataFrame:
    """Recall and precision of each class, and its purity in a population with other shares.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Columns ``seed``, ``id``, ``class``, ``predicted``; every object once a seed.
    shares : sequence of float
        Of the classes in the population; 0 where it has none of a class.
    level : float
        Confidence level.

    Returns
    -------
    pandas.DataFrame
        One row a class: ``class``, ``n_objects``, ``n_predicted`` (mean over seeds), ``recall``
        and ``precision``, mean over seeds, with Wilson intervals of those numbers; ``purity``,
        the share of those named so that were of the class if the classes had these shares. Its
        interval combines the lower end of the recall with the upper ends of all rates of false
        alarms and the other way round, so that it is wider than its level. NaN where nothing is
        known.

    Examples
    --------
    >>> import pandas as pd
    >>> classes, predicted = [0] * 20 + [1] * 80, [0] * 24 + [1] * 76
    >>> predictions = pd.DataFrame(
    ...     {"seed": 0, "id": range(100), "class": classes, "predicted": predicted}
    ... )
    >>> # Of a class that is rare in the population, most of those named so are something else.
    >>> table = class_scores(predictions, shares=[0.01, 0.99])
    >>> table[["class", "recall", "precision", "purity"]].round(2)
       class  recall  precision  purity
    0      0    1.00       0.83    0.17
    1      1    0.95       1.00    1.00
    """
    n_classes, n_seeds = len(shares), max(1, predictions["seed"].nunique())
    weight = np.asarray(shares, float)
    truth, named = (predictions[name].to_numpy(int) for name in ("class", "predicted"))
    counts = np.zeros((n_classes, n_classes))
    np.add.at(counts, (truth, named), 1 / n_seeds)
    n_true, n_named = counts.sum(axis=1), counts.sum(axis=0)
    rates = counts / np.where(n_true > 0, n_true, np.nan)[:, None]
    ends = np.array(
        [
            [success_interval(rate, round(n), level=level) for rate in np.nan_to_num(row)]
            for row, n in zip(rates, n_true, strict=True)
        ]
    )
    # A class that was not tested sends nobody knows how many; it counts only if there are any.
    unknown = np.isnan(rates).any(axis=1) & (weight > 0)
    rows = []
    for k in range(n_classes):
        low, high = success_interval(
            counts[k, k] / max(n_named[k], 1e-12), round(n_named[k]), level=level
        )
        others = np.arange(n_classes) != k
        # Of what nobody is named no share can be right.
        known = bool(n_named[k]) and not unknown.any()

        def purity(own, alarms, k=k, others=others, known=known):
            right = own * weight[k]
            wrong = np.nansum(alarms[others] * weight[others])
            return right / (right + wrong) if known and right + wrong > 0 else np.nan

        rows.append(
            {
                "class": k, "n_objects": round(n_true[k]), "n_predicted": n_named[k],
                "recall": rates[k, k], "recall_low": ends[k, k, 0], "recall_high": ends[k, k, 1],
                "precision": counts[k, k] / n_named[k] if n_named[k] else np.nan,
                "precision_low": low, "precision_high": high,
                "purity": purity(rates[k, k], rates[:, k]),
                "purity_low": purity(ends[k, k, 0], ends[:, k, 1]),
                "purity_high": purity(ends[k, k, 1], ends[:, k, 0]),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def paired_difference(
    predictions: pd.DataFrame,
    reference: pd.DataFrame,
    rng: np.random.Generator,
    *,
    n_bootstrap: int = 2000,
) -> tuple[float, float, float]:
    """Difference of two success rates on the same objects, bootstrapped over objects.

    Parameters
    ----------
    predictions, reference : pandas.DataFrame
        Columns ``seed``, ``id``, ``class``, ``predicted``.
    rng : numpy.random.Generator
        Source of the resamples.
    n_bootstrap : int
        Number of resamples.

    Returns
    -------
    difference, low, high : float
        First minus second, with the 95 % interval.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> objects = pd.DataFrame({"seed": 0, "id": range(100), "class": [0, 1] * 50})
    >>> better = objects.assign(predicted=[0, 1] * 45 + [1, 0] * 5)
    >>> worse = objects.assign(predicted=[0, 1] * 35 + [1, 0] * 15)
    >>> difference, low, high = paired_difference(better, worse, np.random.default_rng(0))
    >>> print(f"{difference:+.2f}, {low:+.2f} to {high:+.2f}")
    +0.20, +0.13 to +0.28
    """

    def hits(table):
        return (table["class"] == table["predicted"]).groupby(table["id"]).mean()

    difference = (hits(predictions) - hits(reference)).to_numpy()
    return float(difference.mean()), *bootstrap_interval(difference, rng, n_bootstrap=n_bootstrap)


def bootstrap_interval(
    values: np.ndarray, rng: np.random.Generator, *, n_bootstrap: int = 2000
) -> tuple[float, float]:
    """95 % interval of a mean, bootstrapped over objects.

    Parameters
    ----------
    values : numpy.ndarray, shape (n,)
        One of each object.
    rng : numpy.random.Generator
        Source of the resamples.
    n_bootstrap : int
        Number of resamples.

    Returns
    -------
    low, high : float
        NaN without objects.
    """
    if not len(values):
        return np.nan, np.nan
    resampled = rng.choice(values, (n_bootstrap, len(values))).mean(axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def macro_f1_interval(
    predictions: pd.DataFrame,
    n_classes: int,
    rng: np.random.Generator,
    *,
    n_bootstrap: int = 1000,
) -> tuple[float, float]:
    """95 % interval of the macro-F1, bootstrapped over objects within their classes.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Columns ``seed``, ``id``, ``class``, ``predicted``; every object once a seed.
    n_classes : int
        Number of classes.
    rng : numpy.random.Generator
        Source of the resamples.
    n_bootstrap : int
        Number of resamples; of each the macro-F1 is the mean over seeds.

    Returns
    -------
    low, high : float
    """
    table = predictions.pivot(index="id", columns="seed", values="predicted")
    truth = predictions.drop_duplicates("id").set_index("id")["class"].loc[table.index].to_numpy()
    named = table.to_numpy()[:, :, None] == np.arange(n_classes)  # (n, seeds, classes)
    means = np.zeros(n_bootstrap)
    weight = np.zeros((n_bootstrap, len(truth)))
    for label in np.unique(truth):
        rows = np.flatnonzero(truth == label)
        share = np.full(len(rows), 1 / len(rows))
        weight[:, rows] = rng.multinomial(len(rows), share, n_bootstrap)
    for label in np.unique(truth):
        own = truth == label
        right = np.einsum("bn,ns->bs", weight[:, own], named[own, :, label].astype(float))
        claimed = np.einsum("bn,ns->bs", weight, named[:, :, label].astype(float))
        total = weight[:, own].sum(axis=1)[:, None] + claimed
        means += np.divide(2 * right, total, out=np.zeros_like(right), where=total > 0).mean(axis=1)
    low, high = np.percentile(means / len(np.unique(truth)), [2.5, 97.5])
    return float(low), float(high)


def success_along(predictions: pd.DataFrame, values: pd.Series, n_bins: int) -> pd.DataFrame:
    """Success rates in bins of a quantity, with equal numbers of objects in each.

    Parameters
    ----------
    predictions : pandas.DataFrame
        ``configuration``, ``id``, ``class`` and ``predicted``.
    values : pandas.Series
        Of the quantity, by ``id``; objects without one are left out.
    n_bins : int
        At most.

    Returns
    -------
    pandas.DataFrame
        A row a configuration and bin: ``configuration``, median ``value`` and its ``low`` and
        ``high``, ``n_objects``, ``success_rate`` (mean over seeds), and the ends of its 95 %
        interval, ``success_rate_low`` and ``success_rate_high``.
    """
    table = predictions.assign(value=predictions["id"].map(values))
    table = table[np.isfinite(table["value"])]
    rows = []
    if len(table):
        ends = np.linspace(0, 1, n_bins + 1)
        edges = np.unique(np.quantile(table.drop_duplicates("id")["value"], ends))
        last = max(0, len(edges) - 2)
        number = np.clip(np.searchsorted(edges, table["value"], "right") - 1, 0, last)
        for (name, _), part in table.groupby(["configuration", number], sort=False):
            value, n = part["value"], part["id"].nunique()
            rate = float((part["class"] == part["predicted"]).mean())
            rows.append(
                (
                    name,
                    value.median(),
                    value.min(),
                    value.max(),
                    n,
                    rate,
                    *success_interval(rate, n),
                )
            )
    columns = ["configuration", "value", "low", "high", "n_objects", "success_rate"]
    return pd.DataFrame(rows, columns=[*columns, "success_rate_low", "success_rate_high"])
