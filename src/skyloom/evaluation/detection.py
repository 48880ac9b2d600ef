"""The measure of detections: which stars of a field are found, and what is found besides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from skyloom.evaluation.calibration import expected_calibration_error
from skyloom.evaluation.measures import Column, Measure, Scores
from skyloom.images.stars import match_detections, star_discs

STAR_COLUMNS = ("x", "y", "snr", "magnitude")
"""Of the true stars of a field: pixels, S/N by the matched filter, magnitude."""

TABLE_COLUMNS = (
    "star", "score", "x", "y", "snr", "magnitude", "dx", "dy", "filtered", "pixel_accuracy",
    "empty_accuracy",
)  # fmt: skip
RANKINGS = {"probability": (0,), "S/N": (1,), "both": (0, 1)}
"""What detections may be ranked by, and which of the features of `_features` it takes."""
_N_BOOTSTRAPS = 1000
_N_PARTS = 5
_PURITY = 0.9


def detection_table(
    stars: pd.DataFrame,
    detections: pd.DataFrame,
    *,
    radius: float,
    limit: float = 5.0,
    doubtful: float = 2.0,
) -> pd.DataFrame:
    """Stars of a field that are found or missed, and what is found besides.

    Parameters
    ----------
    stars : pandas.DataFrame
        `STAR_COLUMNS`.
    detections : pandas.DataFrame
        ``x``, ``y``, ``score`` and, where a filter says it, ``filtered`` (S/N).
    radius : float
        Within which both are the same, pixels.
    limit : float
        S/N of the stars that count.
    doubtful : float
        S/N of the stars that may be found or not: a detection of one is neither right nor wrong.

    Returns
    -------
    pandas.DataFrame
        `TABLE_COLUMNS`, a row for each star that counts (``star``; ``score`` of its detection, 0
        where there is none; ``dx`` and ``dy`` from the star to the detection, pixels;
        ``filtered``, the S/N of the detection), and one for each detection of nothing.

    Examples
    --------
    >>> stars = pd.DataFrame({"x": [3.0, 9.0], "y": [3.0, 9.0], "snr": [9.0, 3.0]})
    >>> stars["magnitude"] = 20.0
    >>> found = pd.DataFrame({"x": [3.2, 9.0, 20.0], "y": [3.0, 9.1, 20.0], "score": [8, 4, 5]})
    >>> detection_table(stars, found, radius=2)[["star", "score"]]
        star  score
    0   True    8.0
    1  False    5.0
    """
    candidates = stars[stars["snr"] > doubtful].reset_index(drop=True)
    detections = detections.reset_index(drop=True)
    if "filtered" not in detections:
        detections = detections.assign(filtered=np.nan)
    star, _ = match_detections(detections, candidates, radius)
    found = np.flatnonzero(star >= 0)
    of_pixels = {"pixel_accuracy": np.nan, "empty_accuracy": np.nan}
    right = candidates.assign(star=True, score=0.0, dx=np.nan, dy=np.nan, filtered=np.nan)
    right = right.assign(**of_pixels)
    rows = star[found]
    for name in ("score", "filtered"):
        right.loc[rows, name] = detections[name].to_numpy()[found]
    for name in "xy":
        apart = detections[name].to_numpy()[found] - candidates[name].to_numpy()[rows]
        right.loc[rows, f"d{name}"] = apart
    right = right[right["snr"] > limit]
    wrong = detections[star < 0].assign(star=False, snr=np.nan, magnitude=np.nan)
    wrong = wrong.assign(dx=np.nan, dy=np.nan, **of_pixels)
    both = [part[list(TABLE_COLUMNS)] for part in (right, wrong) if len(part)]
    if not both:
        return right[list(TABLE_COLUMNS)]
    return pd.concat(both, ignore_index=True)


def f1_score(table: pd.DataFrame, threshold: float = 0.0) -> float:
    """F1: harmonic mean of completeness and purity.

    Parameters
    ----------
    table : pandas.DataFrame
        ``star`` and ``score``.
    threshold : float
        Of the scores; what has just this one does not count as found.

    Returns
    -------
    float
        NaN where there is neither star nor detection.
    """
    found = table["score"] > threshold
    right, n_named, n_stars = (table["star"] & found).sum(), found.sum(), table["star"].sum()
    return float(2 * right / (n_named + n_stars)) if n_named + n_stars else np.nan


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Completeness, purity and F1 at every threshold.

    Parameters
    ----------
    table : pandas.DataFrame
        ``star`` and ``score``.

    Returns
    -------
    pandas.DataFrame
        ``threshold`` (falling; everything of this score or above is named), ``completeness``,
        ``purity`` and ``f1``; empty where nothing is named or there are no stars.
    """
    n_stars = int(table["star"].sum())
    named = table[table["score"] > 0].sort_values("score", ascending=False, kind="stable")
    if not len(named) or not n_stars:
        return pd.DataFrame({"threshold": [], "completeness": [], "purity": [], "f1": []})
    right, number = named["star"].cumsum().to_numpy(), np.arange(1, len(named) + 1)
    scores = named["score"].to_numpy()
    last = np.append(scores[1:] < scores[:-1], True)  # of those with the same score
    return pd.DataFrame(
        {
            "threshold": scores,
            "completeness": right / n_stars,
            "purity": right / number,
            "f1": 2 * right / (number + n_stars),
        }
    )[last]


def best_threshold(table: pd.DataFrame) -> float:
    """Score of which, or above, F1 is largest.

    Parameters
    ----------
    table : pandas.DataFrame
        ``star`` and ``score``.

    Returns
    -------
    float
        0 where nothing is named.
    """
    curve = ranked(table)
    return float(curve.loc[curve["f1"].idxmax(), "threshold"]) if len(curve) else 0.0


def largest_f1(table: pd.DataFrame) -> float:
    """F1 at the threshold where it is largest.

    Parameters
    ----------
    table : pandas.DataFrame
        ``star`` and ``score``.

    Returns
    -------
    float
        0 where nothing is named, or there are no stars.
    """
    curve = ranked(table)
    return float(curve["f1"].max()) if len(curve) else 0.0


def completeness_at_purity(table: pd.DataFrame, purity: float = _PURITY) -> float:
    """Largest completeness of a purity, whatever the threshold.

    Parameters
    ----------
    table : pandas.DataFrame
        ``star`` and ``score``.
    purity : float
        At least.

    Returns
    -------
    float
        0 where that purity is nowhere reached; NaN without stars.
    """
    if not table["star"].any():
        return np.nan
    curve = ranked(table)
    return float(max(curve.loc[curve["purity"] >= purity, "completeness"], default=0.0))


def average_precision(table: pd.DataFrame) -> float:
    """Mean purity over the completeness that is reached; stars never found count as such.

    Parameters
    ----------
    table : pandas.DataFrame
        ``star`` and ``score``.

    Returns
    -------
    float
        NaN without stars.
    """
    if not table["star"].any():
        return np.nan
    curve = ranked(table)
    gain = np.diff(curve["completeness"].to_numpy(), prepend=0.0)
    return float((gain * curve["purity"].to_numpy()).sum())


def detection(
    radius: float,
    n_pixels: int,
    read_out: Callable[[np.ndarray], pd.DataFrame],
    *,
    limit: float = 5.0,
    doubtful: float = 2.0,
    pixel_map: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Measure:
    """Which stars of a field are found.

    Parameters
    ----------
    radius : float
        Within which a detection is a star, pixels.
    n_pixels : int
        Of a field.
    read_out : callable
        ``read_out(prediction)`` of one field: ``x``, ``y`` and ``score`` of its detections.
    limit, doubtful : float
        As in `detection_table`.
    pixel_map : callable, optional
        ``pixel_map(prediction)``: probability of a star at each pixel, for the published measure.

    Returns
    -------
    Measure
        Truth is an array of arrays of `STAR_COLUMNS`. The inner folds select by the largest F1.
        What is reported holds at a threshold that is set on other fields: those of the other folds,
        or of the other four fifths of the fields where there is one fold.
    """
    return Measure(
        name="f1",
        chance=0.0,
        table=partial(_table, read_out, pixel_map, radius, limit, doubtful),
        table_columns=TABLE_COLUMNS,
        score=largest_f1,
        scores=partial(_scores, radius, n_pixels),
        difference=_difference,
        headline=Column("f1", "F1", brief=True),
        interval=("f1_low", "f1_high"),
        columns=(
            Column("completeness", "completeness"),
            Column("purity", "purity"),
            Column("completeness_at_90", "completeness at 90 % purity", brief=True),
            Column("average_precision", "average precision"),
            Column("offset", "mean offset (pixels)", ".2f"),
            Column("scatter", "scatter (pixels)", ".2f"),
            Column("calibration_error", "calibration error", ".3f"),
            Column("pixel_accuracy", "pixel accuracy (published)", ".4f"),
            Column("empty_accuracy", "that of an empty prediction", ".4f"),
        ),
    )


def _table(read_out, pixel_map, radius, limit, doubtful, truth, predictions):
    tables = []
    for number, (stars, prediction) in enumerate(zip(truth, predictions, strict=True)):
        known = pd.DataFrame(stars, columns=list(STAR_COLUMNS))
        options = {"radius": radius, "limit": limit, "doubtful": doubtful}
        table = detection_table(known, read_out(prediction), **options)
        if pixel_map is not None:
            # The published measure: the share of pixels on the right side of 0.5.
            probability = pixel_map(prediction)
            seen = known.loc[known["snr"] > limit, ["x", "y", "magnitude"]]
            mask = star_discs(seen.to_numpy(), probability.shape)
            table["pixel_accuracy"] = float(((probability > 0.5) == mask).mean())
            table["empty_accuracy"] = 1 - float(mask.mean())
        tables.append(table.set_axis([number] * len(table)))
    return pd.concat(tables) if tables else pd.DataFrame(columns=list(TABLE_COLUMNS))


class Ranking(NamedTuple):
    """How sure a detection is, and from where on it is named a star.

    Attributes
    ----------
    kind : str
        Of `RANKINGS`.
    weights : tuple of float
        Of the features of that kind.
    constant : float
        Log odds of a star where all of them are 0.
    threshold : float
        Of the probability.
    """

    kind: str
    weights: tuple[float, ...]
    constant: float
    threshold: float

    def probability(self, score: np.ndarray, filtered: np.ndarray) -> np.ndarray:
        """Probability that a detection is a star.

        Parameters
        ----------
        score : numpy.ndarray, shape (n,)
            Of the network or finder; 0 where nothing was detected.
        filtered : numpy.ndarray, shape (n,)
            S/N by the matched filter; NaN where none is known.

        Returns
        -------
        numpy.ndarray, shape (n,)
            0 where the score is.
        """
        features = _features(score, filtered)[:, RANKINGS[self.kind]]
        odds = np.clip(features @ np.array(self.weights) + self.constant, -30, 30)
        return np.where(np.asarray(score) > 0, 1 / (1 + np.exp(-odds)), 0.0)


def _features(score, filtered):
    """Log odds that a network gives, or the logarithm of what a finder ranks by; log S/N."""
    score, filtered = np.asarray(score, float), np.asarray(filtered, float)
    p = np.clip(score, 1e-6, 1 - 1e-3)
    # Finders have S/N for scores, and no filter beside them.
    odds = np.where(np.isfinite(filtered), np.log(p / (1 - p)), np.log(np.maximum(score, 1e-6)))
    return np.stack([odds, np.log(np.clip(np.nan_to_num(filtered, nan=1.0), 1, None))], axis=1)


def fit_ranking(table: pd.DataFrame) -> Ranking:
    """Calibrate the scores of detections on fields whose stars are known.

    Parameters
    ----------
    table : pandas.DataFrame
        ``star``, ``score`` and ``filtered``.

    Returns
    -------
    Ranking
        By the probability of the network, by S/N or by both, whichever gives the largest F1, as
        the probability of a star. By the score alone where no S/N is known, and as it is where
        there are not stars and other detections to learn from.

    References
    ----------
    Platt (1999), in Advances in Large Margin Classifiers, 61.
    """
    from sklearn.linear_model import LogisticRegression

    named = table[table["score"] > 0]
    star = named["star"].to_numpy(bool)
    if not star.any() or star.all():
        plain = Ranking("probability", (1.0,), 0.0, 0.0)
        least = plain.probability(named["score"], named["filtered"])
        return plain._replace(threshold=float(least.min()) if star.any() else 0.0)
    features = _features(named["score"], named["filtered"])
    has_filter = named["filtered"].notna().any()
    best = None
    for kind, columns in RANKINGS.items():
        if 1 in columns and not has_filter:
            continue
        fitted = LogisticRegression().fit(features[:, columns], star)
        ranking = Ranking(kind, tuple(map(float, fitted.coef_[0])), float(fitted.intercept_[0]), 0)
        curve = ranked(table.assign(score=ranking.probability(table["score"], table["filtered"])))
        row = curve.loc[curve["f1"].idxmax()]
        if best is None or row["f1"] > best[0]:
            best = row["f1"], ranking._replace(threshold=float(row["threshold"]))
    return best[1]


def with_thresholds(predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions as probabilities, with a threshold; both were set on other fields.

    Parameters
    ----------
    predictions : pandas.DataFrame
        ``seed``, ``fold``, ``id``, ``star``, ``score`` and ``filtered``.

    Returns
    -------
    pandas.DataFrame
        With ``score`` by `fit_ranking` on the other folds, or on the other fields where there is
        but one fold, and ``named``: whether it reaches the threshold that is best there.
    """
    parts = []
    for _, of_seed in predictions.groupby("seed"):
        part = of_seed["fold"].to_numpy()
        if (part == part[0]).all():
            part = pd.factorize(of_seed["id"])[0] % _N_PARTS
        for value in np.unique(part):
            here = of_seed[part == value]
            ranking = fit_ranking(of_seed[part != value])
            score = ranking.probability(here["score"], here["filtered"])
            named = (score >= ranking.threshold) & (score > 0)
            parts.append(here.assign(score=score, named=named))
    return pd.concat(parts) if parts else predictions.assign(named=False)


def _of_fields(predictions):
    """Stars, detections and right ones of each field, mean over the seeds."""
    table = predictions.assign(right=predictions["star"] & predictions["named"])
    sums = table.groupby(["id", "seed"])[["star", "named", "right"]].sum()
    return sums.groupby("id").mean()


def _f1_of(sums):
    total = sums["star"] + sums["named"]
    return np.divide(2 * sums["right"], total, out=np.zeros_like(total, float), where=total > 0)


def _resampled(fields: Sequence[pd.DataFrame], rng):
    """F1 of fields drawn again with replacement; the same ones of all tables."""
    n = len(fields[0])
    draws = rng.integers(0, n, (_N_BOOTSTRAPS, n))
    values = [
        {name: table[name].to_numpy(float)[draws].sum(axis=1) for name in table.columns}
        for table in fields
    ]
    return [_f1_of(each) for each in values]


def f1_over_fields(predictions: pd.DataFrame, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """F1, and what it would be of other fields.

    Parameters
    ----------
    predictions : pandas.DataFrame
        ``id``, ``seed``, ``star`` and ``named``.
    rng : numpy.random.Generator
        Of the bootstrap.

    Returns
    -------
    f1 : float
    resampled : numpy.ndarray, shape (1000,)
        Of as many fields, drawn with replacement.
    """
    fields = _of_fields(predictions)
    sums = fields.sum()
    f1 = float(_f1_of({name: np.array(sums[name]) for name in sums.index}))
    return f1, _resampled([fields], rng)[0]


def _scores(radius, n_pixels, predictions, rng) -> Scores:
    predictions = with_thresholds(predictions)
    fields = _of_fields(predictions)
    sums = fields.sum()
    low, high = np.percentile(_resampled([fields], rng)[0], [2.5, 97.5])
    # As many detections, thrown at random.
    hit = 1 - np.exp(-fields["star"] * np.pi * radius**2 / n_pixels)
    lucky = np.minimum(fields["named"] * hit, fields["star"]).sum()
    seeds = [part for _, part in predictions.groupby("seed")]
    offsets = predictions.loc[predictions["star"] & predictions["named"], ["dx", "dy"]]
    return {
        "f1": float(_f1_of({name: np.array(sums[name]) for name in sums.index})),
        "f1_low": float(low),
        "f1_high": float(high),
        "chance_level": float(2 * lucky / max(sums["named"] + sums["star"], 1)),
        "completeness": float(sums["right"] / max(sums["star"], 1)),
        "purity": float(sums["right"] / max(sums["named"], 1)),
        "completeness_at_90": float(np.mean([completeness_at_purity(part) for part in seeds])),
        "average_precision": float(np.mean([average_precision(part) for part in seeds])),
        "offset": float(np.hypot(*offsets.mean())),
        "scatter": float(np.sqrt(((offsets - offsets.mean()) ** 2).sum(axis=1).mean() / 2)),
        "calibration_error": _calibration_error(predictions),
        # The published measure, and what is reached without naming any star.
        **{
            name: float(predictions.groupby(["seed", "id"])[name].first().mean())
            for name in ("pixel_accuracy", "empty_accuracy")
        },
        "n_objects": len(fields),
        "n_seeds": len(seeds),
    }


def _calibration_error(predictions):
    """Of the probabilities of what was detected."""
    detected = predictions[predictions["score"] > 0]
    if detected.empty:
        return np.nan
    p = detected["score"].to_numpy()
    star = detected["star"].to_numpy(bool).astype(int)
    return expected_calibration_error(np.stack([1 - p, p], axis=1), star)


def _difference(predictions, reference, _rng):
    rng = np.random.default_rng(0)
    ours, theirs = (_of_fields(with_thresholds(each)) for each in (predictions, reference))
    theirs = theirs.reindex(ours.index, fill_value=0.0)
    sums = [_f1_of({k: np.array(each[k].sum()) for k in each.columns}) for each in (ours, theirs)]
    resampled = _resampled([ours, theirs], rng)
    low, high = np.percentile(resampled[0] - resampled[1], [2.5, 97.5])
    return float(sums[0] - sums[1]), float(low), float(high)
