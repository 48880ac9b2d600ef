"""What is said of results: errors of angles, axes of studies, quality of made images."""

import numpy as np
import pandas as pd
import pytest

from skyloom.learning.comparison import ARM_COLUMNS, along_axis, reference_networks
from skyloom.pipelines.radio_galaxies.ingestion import configure_sweep
from skyloom.pipelines.radio_galaxies.parameters import (
    AugmentationParameters,
    FeatureParameters,
    NetworkParameters,
    ReportingParameters,
    StudyParameters,
    Sweep,
    TrainingParameters,
)
from skyloom.pipelines.radio_galaxies.reporting import (
    rows_with_shares,
    score_bending_angles,
)

RNG = np.random.default_rng(0)
SAMPLE = pd.DataFrame({"id": [f"S{i}" for i in range(60)], "class": ["FRI", "bent"] * 30})


def angles(arm, error, seeds=(0, 1), n_known=40):
    """Predictions off by a known error, half of them too large."""
    truth = np.where(np.arange(60) < n_known, np.linspace(0, 90, 60), np.nan)
    sign = np.where(np.arange(60) % 2, 1, -1)
    predicted = np.where(np.isfinite(truth), truth + sign * error, 33.0)
    return pd.concat(
        pd.DataFrame(
            {"arm": arm, "seed": seed, "fold": 0, "id": SAMPLE["id"], "angle": truth,
             "predicted": predicted, "scatter": 2.0}
        )
        for seed in seeds
    )  # fmt: skip


def scored(*tables):
    return score_bending_angles(pd.concat(tables), SAMPLE, ReportingParameters())


def test_errors_of_angles_are_in_degrees_beside_the_better_baseline():
    scores, unmeasured = scored(
        angles("real", 5.0), angles("predict the mean", 30.0), angles("image moments", 12.0)
    )
    assert scores["arm"].tolist() == ["real", "image moments", "predict the mean"]
    row = scores.set_index("arm").loc["real"]
    np.testing.assert_allclose(row[["mae", "mae_low", "mae_high"]].astype(float), 5)
    assert row["rmse"] == pytest.approx(5)
    assert row["minus_best_baseline"] == pytest.approx(-7)
    assert (row["n_sources"], row["n_seeds"], row["scatter"]) == (40, 2, 2)
    # Sources without a measured angle are told of by their class.
    assert len(unmeasured) == 3 * 20
    assert set(unmeasured["predicted"]) == {33.0}
    assert sorted(set(unmeasured["class"])) == ["FRI", "bent"]


def test_the_interval_of_an_error_is_that_of_its_mean():
    table = angles("real", 0.0, seeds=(0,))
    table["predicted"] = table["angle"] + RNG.normal(0, 10, 60)
    scores, _ = scored(table, angles("predict the mean", 30.0, seeds=(0,)),
                       angles("image moments", 12.0, seeds=(0,)))  # fmt: skip
    row = scores.set_index("arm").loc["real"]
    assert row["mae_low"] < row["mae"] < row["mae_high"]
    error = (table["predicted"] - table["angle"]).abs().dropna()
    width = 2 * 1.96 * error.std() / np.sqrt(len(error))
    assert row["mae_high"] - row["mae_low"] == pytest.approx(width, rel=0.1)


def test_without_known_angles_there_are_no_scores_but_predictions():
    scores, unmeasured = scored(angles("geometric", 5.0, n_known=0))
    assert scores.empty
    assert len(unmeasured) == 60


def test_a_mean_that_nobody_knows_is_no_baseline_to_beat():
    mean = angles("predict the mean", 30.0)
    mean["predicted"] = np.nan
    scores, _ = scored(angles("geometric", 5.0), angles("image moments", 12.0), mean)
    row = scores.set_index("arm").loc["geometric"]
    assert row["minus_best_baseline"] == pytest.approx(-7)


def test_images_are_compared_with_the_same_shares_of_the_classes():
    classes = np.repeat([0, 1, 2], 40)
    shares = pd.Series({0: 0.5, 1: 0.25, 2: 0.25})
    rows = rows_with_shares(classes, shares, np.random.default_rng(0))
    assert np.bincount(classes[rows]).tolist() == [40, 20, 20]
    assert len(set(rows)) == len(rows)


def plan_and_names(grid):
    plan = configure_sweep(
        StudyParameters(chosen="a", sweeps={"a": {"grid": grid}}), FeatureParameters(),
        AugmentationParameters(), NetworkParameters(), TrainingParameters(),
    )  # fmt: skip
    return plan, {item["name"]: item for item in plan["configurations"]}


def arms_of(names):
    return pd.DataFrame(
        [(name, "network", *[0.5] * 10) for name in names] + [("forest", "baseline", *[0.6] * 10)],
        columns=list(ARM_COLUMNS),
    )


def test_a_study_is_drawn_along_its_numbers_with_a_line_for_each_other_value():
    grid = {"augmentation.real_share": [0.1, 1.0], "augmentation.arm": ["real", "geometric"]}
    plan, configurations = plan_and_names(grid)
    table, axis = along_axis(arms_of(configurations), Sweep.model_validate(plan), configurations)
    assert axis == "real_share: of the observed training images, by class"
    assert table["value"].tolist() == [0.1, 0.1, 1.0, 1.0]
    assert table["series"].tolist() == ["real", "geometric"] * 2


@pytest.mark.parametrize(
    "grid", [{"augmentation.arm": ["real", "geometric"]}, {"network.widths": [[4], [4, 8]]},
             {"augmentation.balance_classes": [True, False]}]
)  # fmt: skip
def test_a_study_without_an_axis_of_numbers_has_no_such_figure(grid):
    plan, configurations = plan_and_names(grid)
    table, axis = along_axis(arms_of(configurations), Sweep.model_validate(plan), configurations)
    assert table.empty
    assert axis == ""


def test_each_network_is_compared_with_that_which_differs_in_its_arm_only():
    grid = {"augmentation.real_share": [0.1, 1.0], "augmentation.arm": ["real", "real + geometric"]}
    _, configurations = plan_and_names(grid)
    names = pd.Series([*configurations, "forest"])
    beside = reference_networks(list(names), configurations)
    assert beside == {
        "01 real_share 0.1, real": "01 real_share 0.1, real",
        "02 real_share 0.1, real + geometric": "01 real_share 0.1, real",
        "03 real_share 1, real": "01 real_share 0.1, real",
        "04 real_share 1, real + geometric": "03 real_share 1, real",
        "forest": "01 real_share 0.1, real",
    }


def test_a_class_without_images_is_left_out_of_the_comparison():
    shares = pd.Series({0: 0.5, 1: 0.25, 2: 0.25})
    rows = rows_with_shares(np.repeat([0, 2], 40), shares, np.random.default_rng(0))
    assert len(rows) == 60
    assert len(rows_with_shares(np.zeros(0, int), shares, np.random.default_rng(0))) == 0
