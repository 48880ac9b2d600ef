"""What came of a comparison, on made-up predictions of classes and of numbers."""

import numpy as np
import pandas as pd
import pytest

from skyloom.evaluation.measures import classification, regression, score_beside
from skyloom.evaluation.scores import success_interval
from skyloom.learning.comparison import no_comparison
from skyloom.learning.results import (
    ARM_COLUMNS,
    NESTED,
    along_axis,
    best_baseline,
    compare_arms,
    file_name,
    reference_networks,
    score_comparison,
    scorer,
    workbooks_of,
)
from skyloom.pipelines.hi_profiles.parameters import Configuration, Sweep, SweepParameters

CLASSES, NUMBERS = classification(2), regression(scale=10.0, unit="mag")
GOOD, BAD, BASELINE, MAJORITY = "01 good", "02 bad", "a line", "majority class"
N = 40


def table_of(measure, name, quality, seeds=(0, 1)):
    """Predictions of 40 objects in two folds; ``quality`` of them are right."""
    parts = []
    for seed in seeds:
        rng = np.random.default_rng([seed, int(100 * quality)])
        if measure is CLASSES:
            truth = np.arange(N) % 2
            named = np.where(rng.random(N) < quality, truth, 1 - truth)
            table = measure.table(truth, np.eye(2)[named] * 0.8 + 0.1)
        else:
            truth = np.linspace(1, 9, N)
            table = measure.table(truth, (truth + rng.normal(0, 2 - quality, N))[:, None] / 10)
        about = {"configuration": name, "seed": seed, "fold": np.arange(N) // 2 % 2}
        table = pd.DataFrame(about | {"id": [f"g{i}" for i in range(N)]}).join(table)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def inner_of(scores):
    rows = [
        (name, seed, fold, inner, score, 3)
        for name, score in scores.items()
        for seed in (0, 1)
        for fold in (0, 1)
        for inner in (0, 1)
    ]
    return pd.DataFrame(rows, columns=no_comparison(CLASSES).inner.columns)


def compared(measure=CLASSES, null=(), inner=None):
    networks = pd.concat([table_of(measure, GOOD, 0.9), table_of(measure, BAD, 0.6)])
    baselines = pd.concat([table_of(measure, BASELINE, 0.7), table_of(measure, MAJORITY, 0.5)])
    permutations = pd.DataFrame({"permutation": range(1, len(null) + 1), measure.name: list(null)})
    return score_comparison(
        networks,
        inner_of({GOOD: 0.8, BAD: 0.5}) if inner is None else inner,
        permutations,
        baselines,
        measure=measure,
        score=scorer(baselines, BASELINE, measure),
        label_source="a table",
    )


# --- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_the_nested_procedure_comes_first_then_networks_and_baselines(measure):
    scores, predictions, selection = compared(measure)
    assert scores["configuration"].tolist() == [NESTED, GOOD, BAD, BASELINE, MAJORITY]
    assert scores["kind"].tolist() == ["nested", "network", "network", "baseline", "baseline"]
    assert set(scores["n_objects"]) == {N}
    assert set(scores["label_source"]) == {"a table"}
    assert set(selection["configuration"]) == {GOOD}
    assert selection[["seed", "fold"]].drop_duplicates().shape == (4, 2)
    assert predictions.groupby("configuration").size().eq(2 * N).all()
    nested, chosen = (
        predictions[predictions["configuration"] == name].drop(columns=["configuration", "kind"])
        for name in (NESTED, GOOD)
    )
    key = ["seed", "id"]
    pd.testing.assert_frame_equal(
        nested.sort_values(key, ignore_index=True), chosen.sort_values(key, ignore_index=True)
    )


@pytest.mark.parametrize("measure", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_every_row_has_the_scores_of_its_predictions_beside_the_baseline(measure):
    scores, predictions, _ = compared(measure)
    beside = table_of(measure, BASELINE, 0.7)
    for _, row in scores.iterrows():
        own = predictions[predictions["configuration"] == row["configuration"]]
        expected = score_beside(measure, own, beside, np.random.default_rng(0))
        assert row[list(expected)].to_dict() == pytest.approx(expected, nan_ok=True)
    inner = scores.set_index("configuration")["inner_score"]
    assert inner[[NESTED, GOOD, BAD]].tolist() == pytest.approx([0.8, 0.8, 0.5])
    assert inner[[BASELINE, MAJORITY]].isna().all()


def test_only_shuffles_make_the_first_p_value_one_of_the_whole_procedure():
    plain, shuffled = compared()[0], compared(null=[0.4, 0.5, 0.6])[0]
    assert set(plain["p_value_of"]) == {"these predictions"}
    assert shuffled["p_value_of"].iloc[0] == "the whole procedure, 3 shuffles"
    assert shuffled["p_value"].iloc[0] == 1 / 4
    pd.testing.assert_frame_equal(plain[1:], shuffled[1:])
    assert compared(null=[1.0, 1.0])[0]["p_value"].iloc[0] == 1


def test_where_there_are_no_classes_there_is_no_p_value():
    scores = compared(NUMBERS)[0]
    assert not {"p_value", "p_value_of"} & set(scores)
    assert {"mae", "mae_low", "mae_high", "chance_level", "minus_baseline"} <= set(scores)


def test_nothing_trained_gives_empty_tables():
    nothing = no_comparison(CLASSES)
    scores, predictions, selection = score_comparison(
        nothing.predictions, nothing.inner, nothing.permutations, nothing.predictions,
        measure=CLASSES, score=len, label_source="a table",
    )  # fmt: skip
    assert scores.empty
    assert predictions.empty
    assert selection.empty
    assert list(scores) == ["configuration", "kind"]
    assert "kind" in predictions


@pytest.mark.parametrize("measure", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_the_best_baseline_is_the_one_with_the_best_headline(measure):
    scores = compared(measure)[0]
    assert best_baseline(scores, measure) == BASELINE
    headline, baselines = measure.headline.name, scores["kind"] == "baseline"
    scores.loc[scores["configuration"] == BASELINE, headline] = np.nan
    assert best_baseline(scores, measure) == MAJORITY
    scores.loc[baselines, headline] = 0.5
    assert best_baseline(scores, measure) == BASELINE  # of equals the first
    assert best_baseline(scores[~baselines], measure) == ""


# --- arms -----------------------------------------------------------------------------------------


def content(name, arm, widths=(4,)):
    return {"name": name, "augmentation": {"arm": arm}, "network": {"widths": widths}}


def test_a_network_is_compared_with_that_which_differs_in_its_arm_alone():
    named = {
        "01": content("01", "observed"), "02": content("02", "made"),
        "03": content("03", "observed", (8,)), "04": content("04", "made", (8,)),
        "05": content("05", "made", (16,)),
    }  # fmt: skip
    assert reference_networks(["01", "02", "03", "04", "05", "a line"], named) == {
        "01": "01", "02": "01", "03": "01", "04": "03", "05": "01", "a line": "01",
    }  # fmt: skip
    assert reference_networks(["a line", "02"], named) == {"a line": "a line", "02": "a line"}


def test_arms_have_intervals_and_paired_differences_to_what_they_are_compared_with():
    scores, predictions, _ = compared()
    named = {GOOD: content(GOOD, "observed"), BAD: content(BAD, "made")}
    wider, arms = compare_arms(scores, predictions, named, seed=0)
    assert tuple(arms) == ARM_COLUMNS
    assert arms["configuration"].tolist() == [GOOD, BAD, BASELINE, MAJORITY]
    assert set(arms["minus"]) == {GOOD}
    own = arms.set_index("configuration")
    rates = scores.set_index("configuration")["success_rate"]
    np.testing.assert_allclose(own["difference"], rates[own.index] - rates[GOOD])
    assert own.loc[GOOD, ["difference", "difference_low", "difference_high"]].tolist() == [0, 0, 0]
    assert own.loc[BAD, "difference_high"] < 0
    first = wider.iloc[0]
    low, high = success_interval(first["recall_0"], N // 2)
    assert (first["recall_0_low"], first["recall_0_high"]) == (low, high)
    assert "recall_0_low" not in scores  # what was given is as it was


def swept(grid):
    base = Configuration(name="base", **{key: {} for key in Configuration.swept})
    sweep = Sweep.lay_out(SweepParameters(grid=grid), base)
    named = {each.name: each.model_dump(mode="json") for each in sweep.configurations}
    arms = pd.DataFrame({"configuration": [*named, "a line"], "kind": "network"})
    arms.loc[len(named), "kind"] = "baseline"
    return arms, sweep, named


def test_networks_stand_along_the_first_axis_of_numbers_and_the_others_are_series():
    grid = {"network.architecture": ["ring_cnn", "folded_cnn"], "features.size": [8, 16]}
    along, words = along_axis(*swept(grid))
    assert along["value"].tolist() == [8, 16, 8, 16]
    assert along["series"].tolist() == ["ring_cnn", "ring_cnn", "folded_cnn", "folded_cnn"]
    assert words == "size: pixels on a side of the network's input"


@pytest.mark.parametrize(
    "grid",
    [{"features.size": [8]}, {"network.architecture": ["ring_cnn", "folded_cnn"]},
     {"augmentation.balance_classes": [True, False]}],
)  # fmt: skip
def test_without_an_axis_of_numbers_nothing_stands_along_it(grid):
    along, words = along_axis(*swept(grid))
    assert along.empty
    assert {"value", "series"} <= set(along)
    assert words == ""


# --- workbooks ------------------------------------------------------------------------------------


def test_a_workbook_has_the_predictions_of_its_configuration_and_what_is_known_of_the_objects():
    _, predictions, _ = compared()
    ids = [f"g{i}" for i in range(N)]
    files = pd.DataFrame({"id": ids, "file": [f"{name}.fits" for name in ids]})
    about = pd.DataFrame({"id": ids, "snr": np.arange(N)})
    books = workbooks_of(predictions, files, about)
    assert set(books) == {f"{file_name(name)}.xlsx" for name in predictions["configuration"]}
    sheets = books["01_good.xlsx"]
    assert list(sheets) == ["predictions", "merged", "confusion"]
    assert len(sheets["predictions"]) == 2 * N
    assert not {"configuration", "kind"} & set(sheets["predictions"])
    assert (sheets["merged"]["file"] == sheets["merged"]["id"] + ".fits").all()
    assert (sheets["merged"]["snr"] == sheets["merged"]["id"].str[1:].astype(int)).all()
    np.testing.assert_allclose(sheets["confusion"].sum(axis=1), 1)
    assert workbooks_of(predictions[:0], files, about) == {}


@pytest.mark.parametrize(
    ("name", "file"),
    [("01 4-8, scratch", "01_4-8__scratch"), ("../../etc", "______etc"), ("ä b", "ä_b")],
)
def test_a_name_cannot_choose_where_its_file_is_written(name, file):
    assert file_name(name) == file
