"""Parameters that do not go together are refused before anything runs."""

import pytest
from pydantic import ValidationError

from skyloom.learning.fitting import TrainingParameters
from skyloom.pipelines.stellar_spectra.ingestion import configure_sweep
from skyloom.pipelines.stellar_spectra.parameters import (
    AugmentationParameters,
    FeatureParameters,
    NetworkParameters,
    SimulationParameters,
    SweepsParameters,
)


def sweep_of(grid, **features):
    sweeps = SweepsParameters(chosen="a", named={"a": {"grid": grid}})
    return configure_sweep(
        sweeps, FeatureParameters(**features), AugmentationParameters(), NetworkParameters(),
        TrainingParameters(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (FeatureParameters, {"low": 7000, "high": 6000}, "low must be below high"),
        (FeatureParameters, {"low": 4000, "high": 4010}, "pixels are too few"),
        (FeatureParameters, {"form": "circle"}, "form"),
        (SimulationParameters, {"stars": {"snr": (9, 3)}}, "snr must ascend"),
        (SimulationParameters, {"stars": {"class_shares": [0] * 7}}, "must not all be 0"),
        (AugmentationParameters, {"split": "given"}, "split"),
        (AugmentationParameters, {"rare_class": "Q"}, "rare_class"),
        (SweepsParameters, {"chosen": "b", "named": {"a": {"grid": {}}}}, "there is no sweep 'b'"),
    ],
)
def test_impossible_values_are_refused(model, values, message):
    with pytest.raises(ValidationError, match=message):
        model.model_validate(values)


def test_generators_are_trained_for_one_preparation_only():
    both = {"augmentation.arm": ["none", "gan"], "features.preparation": ["corrected", "published"]}
    with pytest.raises(ValidationError, match="arms with gan cannot vary the preparation"):
        sweep_of(both)
    forms = {"augmentation.arm": ["none", "gan"], "features.form": ["spectrum", "scalogram"]}
    assert sweep_of(forms).arms == ["gan", "none"]


def test_shuffles_of_the_whole_procedure_are_refused():
    with pytest.raises(ValidationError, match="n_permutations must be 0"):
        SweepsParameters(chosen="a", named={"a": {"grid": {"network.pool": [2]},
                                                  "n_permutations": 9}})  # fmt: skip


def test_forms_share_what_is_prepared():
    sweep = sweep_of({"features.form": ["spectrum", "wrapped", "scalogram"],
                  "features.preparation": ["corrected", "published"]})  # fmt: skip
    assert len(sweep.input_variants) == 6
    assert len(sweep.preparations) == 2
    assert next(iter(sweep.preparations)) == sweep.base.features.prepared
