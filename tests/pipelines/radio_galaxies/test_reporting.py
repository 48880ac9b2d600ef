"""What is said of results: errors of angles, axes of sweeps, differences of arms."""

import numpy as np
import pandas as pd
import pytest

from skyloom.learning.results import ARM_COLUMNS, along_axis, reference_networks
from skyloom.pipelines.radio_galaxies.ingestion import configure_sweep
from skyloom.pipelines.radio_galaxies.parameters import (
    AugmentationParameters,
    FeatureParameters,
    NetworkParameters,
    ReportingParameters,
    SweepsParameters,
    TrainingParameters,
)
from skyloom.pipelines.radio_galaxies.reporting import score_bending_angles
from skyloom.pipelines.radio_galaxies.training import MEAN_BASELINE, MOMENTS_BASELINE

RNG = np.random.default_rng(0)
SAMPLE = pd.DataFrame({"id": [f"S{i}" for i in range(60)], "class": ["FRI", "bent"] * 30})


def angles(name, error, seeds=(0, 1), n_known=40):
    """Predictions off by a known error, half of them too large."""
    truth = np.where(np.arange(60) < n_known, np.linspace(0, 90, 60), np.nan)
    sign = np.where(np.arange(60) % 2, 1, -1)
    predicted = np.where(np.isfinite(truth), truth + sign * error, 33.0)
    return pd.concat(
        pd.DataFrame(
            {"configuration": name, "seed": seed, "fold": 0, "id": SAMPLE["id"], "target": truth,
             "predicted": predicted, "scatter": 2.0}
        )
        for seed in seeds
    )  # fmt: skip


def scored(network, *baselines):
    inner = network[["configuration", "seed", "fold"]].drop_duplicates()
    inner = inner.assign(inner=0, score=-5.0, best_epoch=1)
    return score_bending_angles(network, pd.concat(baselines), inner, SAMPLE, ReportingParameters())


def row_of(scores, name):
    return scores.set_index("configuration").loc[name]


def test_errors_of_angles_are_in_degrees_beside_the_better_baseline():
    scores, everything, unmeasured = scored(
        angles("real", 5.0), angles(MEAN_BASELINE, 30.0), angles(MOMENTS_BASELINE, 12.0)
    )
    row = row_of(scores, "real")
    np.testing.assert_allclose(row[["mae", "mae_low", "mae_high"]].astype(float), 5)
    assert row["rmse"] == pytest.approx(5)
    assert row["minus_baseline"] == pytest.approx(-7)
    assert (row["n_objects"], row["n_seeds"], row["scatter"]) == (40, 2, 2)
    assert row["inner_score"] == -5
    assert scores["kind"].tolist() == ["nested", "network", "baseline", "baseline"]
    assert everything["configuration"].nunique() == 4
    # Sources without a measured angle are told of by their class.
    assert len(unmeasured) == 3 * 20
    assert set(unmeasured["predicted"]) == {33.0}
    assert sorted(set(unmeasured["class"])) == ["FRI", "bent"]


def test_the_interval_of_an_error_is_that_of_its_mean():
    table = angles("real", 0.0, seeds=(0,))
    table["predicted"] = table["target"] + RNG.normal(0, 10, 60)
    scores, *_ = scored(table, angles(MEAN_BASELINE, 30.0, seeds=(0,)),
                        angles(MOMENTS_BASELINE, 12.0, seeds=(0,)))  # fmt: skip
    row = row_of(scores, "real")
    assert row["mae_low"] < row["mae"] < row["mae_high"]
    error = (table["predicted"] - table["target"]).abs().dropna()
    width = 2 * 1.96 * error.std() / np.sqrt(len(error))
    assert row["mae_high"] - row["mae_low"] == pytest.approx(width, rel=0.1)


def test_without_known_angles_there_are_predictions_and_no_errors():
    scores, _, unmeasured = scored(
        angles("geometric", 5.0, n_known=0), angles(MOMENTS_BASELINE, 12.0, n_known=0)
    )
    assert scores["mae"].isna().all()
    assert len(unmeasured[unmeasured["configuration"] == "geometric"]) == 60


def test_a_mean_that_nobody_knows_is_no_baseline_to_beat():
    mean = angles(MEAN_BASELINE, 30.0)
    mean["predicted"] = np.nan
    scores, *_ = scored(angles("geometric", 5.0), angles(MOMENTS_BASELINE, 12.0), mean)
    assert row_of(scores, "geometric")["minus_baseline"] == pytest.approx(-7)


def sweep_and_names(grid):
    sweep = configure_sweep(
        SweepsParameters(chosen="a", named={"a": {"grid": grid}}), FeatureParameters(),
        AugmentationParameters(), NetworkParameters(), TrainingParameters(),
    )  # fmt: skip
    content = sweep.model_dump(mode="json")
    return sweep, {item["name"]: item for item in content["configurations"]}


def arms_of(names):
    return pd.DataFrame(
        [(name, "network", *[0.5] * 10) for name in names] + [("forest", "baseline", *[0.6] * 10)],
        columns=list(ARM_COLUMNS),
    )


def test_a_sweep_is_drawn_along_its_numbers_with_a_line_for_each_other_value():
    grid = {"augmentation.real_share": [0.1, 1.0], "augmentation.arm": ["real", "geometric"]}
    sweep, configurations = sweep_and_names(grid)
    table, axis = along_axis(arms_of(configurations), sweep, configurations)
    assert axis == "real_share: of the observed training images, by class"
    assert table["value"].tolist() == [0.1, 0.1, 1.0, 1.0]
    assert table["series"].tolist() == ["real", "geometric"] * 2


@pytest.mark.parametrize(
    "grid", [{"augmentation.arm": ["real", "geometric"]}, {"network.widths": [[4], [4, 8]]},
             {"augmentation.balance_classes": [True, False]}]
)  # fmt: skip
def test_a_sweep_without_an_axis_of_numbers_has_no_such_figure(grid):
    sweep, configurations = sweep_and_names(grid)
    table, axis = along_axis(arms_of(configurations), sweep, configurations)
    assert table.empty
    assert axis == ""


def test_each_network_is_compared_with_that_which_differs_in_its_arm_only():
    grid = {"augmentation.real_share": [0.1, 1.0], "augmentation.arm": ["real", "real + geometric"]}
    _, configurations = sweep_and_names(grid)
    names = pd.Series([*configurations, "forest"])
    beside = reference_networks(list(names), configurations)
    assert beside == {
        "01 real_share 0.1, real": "01 real_share 0.1, real",
        "02 real_share 0.1, real + geometric": "01 real_share 0.1, real",
        "03 real_share 1, real": "01 real_share 0.1, real",
        "04 real_share 1, real + geometric": "03 real_share 1, real",
        "forest": "01 real_share 0.1, real",
    }
