"""Completeness, purity and F1 are what they are by hand, and thresholds are set elsewhere."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom.evaluation.detection import (
    TABLE_COLUMNS,
    average_precision,
    best_threshold,
    completeness_at_purity,
    detection,
    detection_table,
    f1_score,
    fit_ranking,
    ranked,
    with_thresholds,
)

STARS = pd.DataFrame(
    {
        "x": [5.0, 15.0, 25.0, 35.0],
        "y": 5.0,
        "snr": [50.0, 8.0, 4.0, 1.0],
        "magnitude": [15, 18, 19, 21],
    }
)


def found(*rows):
    return pd.DataFrame(rows, columns=["x", "y", "score"], dtype=float)


def test_stars_are_found_missed_or_do_not_matter():
    table = detection_table(STARS, found((5.4, 5, 9), (25, 5, 3), (35, 5, 2), (60, 5, 4)), radius=2)
    assert tuple(table.columns) == TABLE_COLUMNS
    assert table["star"].tolist() == [True, True, False, False]
    # The star of S/N 4 may be found; that of S/N 1 is none that could be.
    assert table["score"].tolist() == [9, 0, 2, 4]
    assert table["dx"].tolist()[0] == pytest.approx(0.4)
    assert f1_score(table) == pytest.approx(2 * 1 / (2 + 3))


@pytest.mark.parametrize("stars", [STARS, STARS.iloc[:0]])
@pytest.mark.parametrize("detections", [found(), found((5, 5, 1))])
def test_nothing_found_or_nothing_there_is_no_error(stars, detections):
    table = detection_table(stars, detections, radius=2)
    assert tuple(table.columns) == TABLE_COLUMNS
    value = f1_score(table.astype({"star": bool}))
    assert np.isnan(value) if not len(stars) and not len(detections) else 0 <= value <= 1


TABLE = pd.DataFrame(
    {"star": [True, True, False, True, False, True], "score": [9, 8, 7, 6, 5, 0.0]}
)


def test_every_threshold_has_its_completeness_and_purity():
    curve = ranked(TABLE)
    assert curve["threshold"].tolist() == [9, 8, 7, 6, 5]
    assert curve["completeness"].tolist() == [0.25, 0.5, 0.5, 0.75, 0.75]
    assert curve["purity"].tolist() == pytest.approx([1, 1, 2 / 3, 0.75, 0.6])
    assert best_threshold(TABLE) == 6
    assert completeness_at_purity(TABLE) == 0.5
    assert average_precision(TABLE) == pytest.approx(0.25 * (1 + 1 + 0.75))


def test_equal_scores_cannot_be_told_apart():
    curve = ranked(pd.DataFrame({"star": [True, False], "score": [1.0, 1.0]}))
    assert curve["purity"].tolist() == [0.5]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=40))
def test_measures_are_shares(rows):
    table = pd.DataFrame(rows, columns=["star", "score"])
    for value in (average_precision(table), completeness_at_purity(table)):
        assert np.isnan(value) == (not table["star"].any())
        assert np.isnan(value) or 0 <= value <= 1
    threshold = best_threshold(table)
    if threshold > 0:
        best = f1_score(table, np.nextafter(threshold, -1))
        assert best == pytest.approx(ranked(table)["f1"].max())


# --- the measure ----------------------------------------------------------------------------------

MEASURE = detection(2.0, 64 * 64, lambda prediction: found(*prediction))


def predictions(score, n_fields=30, seeds=(0, 1)):
    """Fields of 4 stars each, of which those above a limit are found, and one false alarm."""
    rng = np.random.default_rng(0)
    truth = np.empty(n_fields, object)
    for k in range(n_fields):
        stars = np.column_stack([rng.uniform(5, 60, (6, 2)), np.full(6, 20.0), np.full(6, 18.0)])
        truth[k] = stars
    parts = []
    for seed in seeds:
        named = [
            [*((x, y, score(rng)) for x, y, *_ in stars), (1.0, 1.0, 0.5 * rng.random())]
            for stars in truth
        ]
        table = MEASURE.table(truth, named)
        assert set(MEASURE.table_columns) <= set(table.columns)
        about = {"seed": seed, "fold": table.index % 3, "id": [f"F{k:02d}" for k in table.index]}
        parts.append(table.reset_index(drop=True).assign(**about))
    return pd.concat(parts, ignore_index=True)


def test_what_is_reported_of_fields():
    scores = MEASURE.scores(predictions(lambda rng: rng.random()), np.random.default_rng(0))
    assert scores["f1_low"] < scores["f1"] < scores["f1_high"]
    assert scores["completeness"] > 0.7
    assert 0 < scores["chance_level"] < 0.1
    assert (scores["n_objects"], scores["n_seeds"]) == (30, 2)
    assert scores["scatter"] < 1e-6


def test_a_threshold_is_set_on_other_fields():
    table = predictions(lambda rng: 0.6 + 0.4 * rng.random(), seeds=(0,))
    here = table["fold"] == 0
    spoiled = table.assign(score=table["score"].where(~here, 0.9 * table["score"]))
    first, second = with_thresholds(table), with_thresholds(spoiled)
    # What is in a fold does not change its own threshold.
    limits = [
        each.loc[(each["fold"] == 0) & each["named"], "score"].min() for each in (first, second)
    ]
    threshold = best_threshold(table[~here])
    assert min(limits) >= threshold
    missed = spoiled[here & spoiled["star"] & (spoiled["score"] < threshold)]
    assert len(missed)
    assert not second.loc[missed.index, "named"].any()


def test_better_detections_differ_from_worse_ones():
    good, poor = (
        predictions(lambda rng, p=p: 0.6 if rng.random() < p else 0.0) for p in (0.9, 0.4)
    )
    value, low, high = MEASURE.difference(good, poor, np.random.default_rng(0))
    assert 0 < low < value < high
    same = MEASURE.difference(good, good, np.random.default_rng(0))
    assert same == (0, 0, 0)
    assert MEASURE.score(good) > MEASURE.score(poor)


def test_probabilities_of_detections_are_those_of_stars():
    """Two thirds of the detections of a score of 0.9 are stars: that is what is said of them."""
    rng = np.random.default_rng(0)
    n = 2000
    table = pd.DataFrame(
        {"seed": 0, "fold": 0, "id": np.arange(n) % 20, "score": rng.uniform(0.1, 0.9, n)}
    )
    odds = table["score"] / (1 - table["score"]) * np.exp(-1.5)
    star = rng.random(n) < odds / (1 + odds)
    table = table.assign(star=star, filtered=rng.uniform(5, 50, n), dx=0.0, dy=0.0)
    table = table.assign(pixel_accuracy=np.nan, empty_accuracy=np.nan)
    scores = MEASURE.scores(table, np.random.default_rng(0))
    assert scores["calibration_error"] < 0.03
    ranking = fit_ranking(table)
    assert ranking.kind in {"probability", "both"}
    assert ranking.probability(np.array([0.9, 0.0]), np.array([20.0, 20.0])) == pytest.approx(
        [0.667, 0], abs=0.06
    )
