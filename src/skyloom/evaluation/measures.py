"""What a study asks of its objects, as data: by it the engine compares, selects and reports."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from skyloom.evaluation.scores import bootstrap_interval, paired_difference, score_predictions

Scores = dict[str, float]


class Column(NamedTuple):
    """A column of the main table of results.

    Attributes
    ----------
    name : str
        Of the score.
    title : str
        As it is shown, with its unit.
    form : str
        As `format` takes it.
    brief : bool
        Whether the terminal shows it too.
    """

    name: str
    title: str
    form: str = ".3f"
    brief: bool = False


@dataclass(frozen=True)
class Measure:
    """What is asked of the objects of a study.

    An *object* is what a split assigns: a galaxy, a star, a tile of an image. Its truth is an entry
    of an array, a class or a number, or of an array of objects, such as the positions of the stars
    of a tile.

    Attributes
    ----------
    name : str
        What the inner folds select by, as a column is called.
    chance : float
        Its value without any skill.
    table : callable
        ``table(truth, prediction)``, of some objects: a data frame with a row or more for each.
        Its index is the number of the object among them.
    table_columns : tuple of str
        Of that table, those that every prediction has.
    score : callable
        One number of such a table, larger is better; the inner folds select by it.
    scores : callable
        ``scores(predictions, rng)``: everything that is reported of the predictions of one
        configuration, `headline` and ``chance_level`` among it.
    difference : callable
        ``difference(predictions, reference, rng)``: of the headline, on the same objects, with the
        ends of its 95 % interval.
    headline : Column
        The score that stands first.
    interval : tuple of str
        Names of the ends of its 95 % interval.
    larger_is_better : bool
        Of the headline.
    columns : tuple of Column
        What else the main table shows.
    metric : str
        What the training tells beside its loss, as Keras calls it.
    target : callable
        ``target(truth)``: what a network is trained on. None where fits find that among what they
        share, as they do images of positions.
    has_classes : bool
        Whether there are classes that can be shuffled, and that a split keeps as frequent in each
        of its parts.
    """

    name: str
    chance: float
    table: Callable[[np.ndarray, np.ndarray], pd.DataFrame]
    table_columns: tuple[str, ...]
    score: Callable[[pd.DataFrame], float]
    scores: Callable[[pd.DataFrame, np.random.Generator], Scores]
    difference: Callable[
        [pd.DataFrame, pd.DataFrame, np.random.Generator], tuple[float, float, float]
    ]
    headline: Column
    interval: tuple[str, str]
    larger_is_better: bool = True
    columns: tuple[Column, ...] = ()
    metric: str = "accuracy"
    target: Callable[[np.ndarray], np.ndarray] | None = None
    has_classes: bool = False

    @property
    def words(self) -> str:
        """What the inner folds select by, in words."""
        return self.name.replace("_", " ")

    @property
    def curves(self) -> tuple[str, str, str, str]:
        """Columns of a learning curve."""
        return ("loss", self.metric, "val_loss", f"val_{self.metric}")

    def in_words(self, scores: pd.Series | Scores) -> str:
        """The headline of some scores with its interval.

        Parameters
        ----------
        scores : pandas.Series or dict
            Of one configuration.

        Returns
        -------
        str
            As ``0.842 (0.786-0.887)``.
        """
        value, low, high = (
            format(scores[name], self.headline.form)
            for name in (self.headline.name, *self.interval)
        )
        return f"{value} ({low}-{high})"


def class_targets(truth: np.ndarray) -> np.ndarray:
    """Classes as Keras takes them.

    Parameters
    ----------
    truth : numpy.ndarray of int
        Classes.

    Returns
    -------
    numpy.ndarray of int32
    """
    return truth.astype(np.int32)


def class_table(truth: np.ndarray, probability: np.ndarray) -> pd.DataFrame:
    """Predicted classes of some objects.

    Parameters
    ----------
    truth : numpy.ndarray of int, shape (n,)
        Classes.
    probability : numpy.ndarray, shape (n, n_classes)
        Of each class.

    Returns
    -------
    pandas.DataFrame
        ``class``, ``predicted``, ``probability_0`` ...
    """
    table = pd.DataFrame({"class": truth, "predicted": probability.argmax(axis=1)})
    for k in range(probability.shape[1]):
        table[f"probability_{k}"] = probability[:, k]
    return table


def balanced_accuracy(table: pd.DataFrame) -> float:
    """Mean over the classes of the share that is named rightly.

    Parameters
    ----------
    table : pandas.DataFrame
        ``class`` and ``predicted``; a class that was not tested does not count.

    Returns
    -------
    float

    Examples
    --------
    >>> table = pd.DataFrame({"class": [0, 0, 0, 0, 1], "predicted": [0, 0, 0, 0, 0]})
    >>> balanced_accuracy(table)
    0.5
    """
    right = table["class"] == table["predicted"]
    return float(right.groupby(table["class"]).mean().mean())


def classification(n_classes: int) -> Measure:
    """Which of some classes an object is of.

    Parameters
    ----------
    n_classes : int
        Numbered from 0.

    Returns
    -------
    Measure
        The inner folds select by the balanced accuracy; success rates are reported.

    Examples
    --------
    >>> measure = classification(2)
    >>> measure.table(np.array([0, 1]), np.array([[0.8, 0.2], [0.6, 0.4]]))
       class  predicted  probability_0  probability_1
    0      0          0            0.8            0.2
    1      1          0            0.6            0.4
    """
    return Measure(
        name="balanced_accuracy",
        chance=1 / max(n_classes, 1),
        table=class_table,
        table_columns=("class", "predicted"),
        score=balanced_accuracy,
        scores=partial(_class_scores, n_classes),
        difference=paired_difference,
        headline=Column("success_rate", "success rate", brief=True),
        interval=("success_low", "success_high"),
        columns=(
            Column("balanced_accuracy", "balanced acc.", brief=True),
            Column("macro_f1", "macro-F1"),
            Column("adjusted_rand", "adjusted Rand"),
            Column("mutual_information", "mutual information"),
            Column("calibration_error", "calibration error"),
            Column("p_value", "p-value", ".4f", brief=True),
        ),
        target=class_targets,
        has_classes=True,
    )


def classification_of(manifest: pd.DataFrame) -> Measure:
    """The measure of the classes of a split.

    Parameters
    ----------
    manifest : pandas.DataFrame
        With ``class``, numbered from 0; may be empty.

    Returns
    -------
    Measure
    """
    return classification(n_classes_of(manifest))


def n_classes_of(manifest: pd.DataFrame) -> int:
    """Number of the classes of a split.

    Parameters
    ----------
    manifest : pandas.DataFrame
        With ``class``, numbered from 0; may be empty.

    Returns
    -------
    int
    """
    return 0 if manifest.empty else int(manifest["class"].max()) + 1


def _class_scores(n_classes, predictions, rng):
    return score_predictions(predictions, n_classes, rng)


def regression(scale: float = 1.0, unit: str = "", limits: tuple[float, float] | None = None):
    """Which number an object has.

    Parameters
    ----------
    scale : float
        What the networks call 1.
    unit : str
        Of the number.
    limits : tuple of float, optional
        Between which it lies.

    Returns
    -------
    Measure
        The inner folds select by the mean absolute error. A prediction holds one or more values
        for an object, in units of ``scale``, such as those for an image turned and mirrored: their
        mean is what is predicted, and their standard deviation the ``scatter``. Objects whose
        number is not known are predicted and not scored.

    Examples
    --------
    >>> measure = regression(scale=90.0, unit="deg", limits=(0, 180))
    >>> measure.table(np.array([30.0, np.nan]), np.array([[0.3, 0.5], [2.5, 2.5]]))
       target  predicted  scatter
    0    30.0       36.0      9.0
    1     NaN      180.0      0.0
    """
    return Measure(
        name="minus_mean_absolute_error",
        chance=-np.inf,  # not known before the sample is
        table=partial(_number_table, scale, limits),
        table_columns=("target", "predicted", "scatter"),
        score=_minus_error,
        scores=_number_scores,
        difference=_error_difference,
        headline=Column("mae", f"mean absolute error ({unit})" if unit else "error", ".2f", True),
        interval=("mae_low", "mae_high"),
        larger_is_better=False,
        columns=(
            Column("rmse", "root mean square", ".2f", True),
            Column("scatter", "scatter of one object", ".2f", True),
        ),
        metric="mae",
        target=partial(_scaled, scale),
    )


def _scaled(scale, truth):
    return (truth / scale).astype(np.float32)


def _number_table(scale, limits, truth, prediction):
    # Not -1, which has no answer where there are no objects.
    values = prediction.reshape(len(truth), math.prod(prediction.shape[1:])) * scale
    mean = values.mean(axis=1)
    return pd.DataFrame(
        {
            "target": truth,
            "predicted": mean if limits is None else np.clip(mean, *limits),
            "scatter": values.std(axis=1),
        }
    )


def _minus_error(table):
    known = _known(table)
    # With its NaN: a network that says nothing of some objects is not the better for it.
    error = (known["predicted"] - known["target"]).abs().mean(skipna=False)
    return -float(error)


def _known(predictions):
    return predictions[predictions["target"].notna()]


def _error_of_each(predictions):
    """Mean absolute error of each object over the seeds."""
    error = (predictions["predicted"] - predictions["target"]).abs()
    return error.groupby(predictions["id"]).mean()


def _number_scores(predictions, rng):
    known = _known(predictions)
    errors = _error_of_each(known)
    low, high = bootstrap_interval(errors.to_numpy(), rng)
    first = known.drop_duplicates("id")["target"]
    return {
        "mae": float(errors.mean()),
        "mae_low": low,
        "mae_high": high,
        # Of always saying the median, which is the best that can be said without looking.
        "chance_level": float((first - first.median()).abs().mean()),
        "rmse": float(((known["predicted"] - known["target"]) ** 2).mean() ** 0.5),
        "scatter": float(known["scatter"].mean()),
        "n_objects": len(errors),
        "n_seeds": known["seed"].nunique(),
    }


def _error_difference(predictions, reference, rng):
    apart = _error_of_each(_known(predictions)) - _error_of_each(_known(reference))
    return float(apart.mean()), *bootstrap_interval(apart.to_numpy(), rng)


def score_beside(
    measure: Measure, predictions: pd.DataFrame, reference: pd.DataFrame, rng: Any
) -> Scores:
    """All scores, and the paired difference of the headline to a baseline's.

    Parameters
    ----------
    measure : Measure
        What is asked.
    predictions : pandas.DataFrame
        Of one configuration: ``seed``, ``fold``, ``id`` and the columns of the measure's table.
    reference : pandas.DataFrame
        Of the baseline, for the same objects or more.
    rng : numpy.random.Generator
        For permutation tests and the bootstrap.

    Returns
    -------
    dict of str to float
        The measure's scores, and ``minus_baseline`` with its 95 % interval,
        ``minus_baseline_low`` and ``minus_baseline_high``.
    """
    scores = measure.scores(predictions, rng)
    keys = predictions[["seed", "id"]].drop_duplicates()
    difference = measure.difference(predictions, reference.merge(keys, on=["seed", "id"]), rng)
    names = ("minus_baseline", "minus_baseline_low", "minus_baseline_high")
    return scores | dict(zip(names, difference, strict=True))
