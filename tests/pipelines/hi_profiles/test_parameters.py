"""Wrong parameters fail before anything runs, and the message names the parameter."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from skyloom.pipelines.hi_profiles.parameters import (
    AugmentationParameters,
    FeatureParameters,
    IngestionParameters,
    ReportingParameters,
    SimulationParameters,
    TrainingParameters,
)

MODELS = {
    "simulation": SimulationParameters,
    "ingestion": IngestionParameters,
    "features": FeatureParameters,
    "augmentation": AugmentationParameters,
    "training": TrainingParameters,
    "reporting": ReportingParameters,
}
CONF = Path(__file__).parents[3] / "conf"
ONE = ({"name": "one", "widths": [4]},)


@pytest.mark.parametrize("model", [m for m in MODELS.values() if m is not TrainingParameters])
def test_defaults_are_valid(model):
    defaults = model()
    # Defaults are not validated by pydantic: they must survive being given explicitly.
    assert model(**defaults.model_dump()) == defaults


def test_training_needs_only_its_configurations():
    training = TrainingParameters(configurations=ONE)
    assert training.configurations[0].image_models == (2,)
    assert TrainingParameters(**training.model_dump()) == training
    with pytest.raises(ValidationError, match="configurations"):
        TrainingParameters()


@pytest.mark.parametrize("environment", ["base", "paper", "real"])
@pytest.mark.parametrize("stage", MODELS)
def test_every_parameter_file_is_valid(environment, stage):
    text = (CONF / environment / "hi_profiles" / "parameters.yml").read_text(encoding="utf-8")
    parameters = yaml.safe_load(text)["hi_profiles"]
    assert set(parameters) == set(MODELS)
    MODELS[stage](**parameters[stage])


def test_the_published_settings_are_the_published_ones():
    text = (CONF / "paper" / "hi_profiles" / "parameters.yml").read_text(encoding="utf-8")
    parameters = yaml.safe_load(text)["hi_profiles"]
    training = TrainingParameters(**parameters["training"])
    assert [c.widths for c in training.configurations] == [
        (32, 64, 128),
        (32, 64, 256),
        (32, 64, 512),
    ]
    assert (training.epochs, training.patience, training.padding) == (50, None, "valid")
    features = FeatureParameters(**parameters["features"])
    assert (features.rendering, features.size, features.quadrant) == ("published", 128, False)


WRONG = [
    # stage, wrong values, name in the message
    ("simulation", {"n_profile": 10}, "n_profile"),
    ("simulation", {"n_profiles": 0}, "n_profiles"),
    ("simulation", {"n_profiles": 3.5}, "n_profiles"),
    ("simulation", {"seed": -1}, "seed"),
    ("simulation", {"shape_shares": [0.5, 0.5]}, "shape_shares"),
    ("simulation", {"shape_shares": [0.5, 0.6, -0.1]}, "shape_shares"),
    ("simulation", {"snr_median": 0}, "snr_median"),
    ("simulation", {"snr_scatter": -0.1}, "snr_scatter"),
    ("simulation", {"tail_fraction": 1.1}, "tail_fraction"),
    ("simulation", {"n_channels": 64}, "n_channels"),
    ("simulation", {"velocity_range": [9000, 1000]}, "velocity_range must ascend"),
    ("simulation", {"class_by": "a_flx"}, "class_by"),
    ("simulation", {"class_edges": [1.1]}, "either class_shares or class_edges"),
    ("simulation", {"class_shares": None}, "either class_shares or class_edges"),
    (
        "simulation",
        {"class_shares": None, "class_edges": [1.3, 1.1]},
        "class_edges must increase",
    ),
    (
        "simulation",
        {"class_shares": None, "class_edges": [1.1, 1.1]},
        "class_edges must increase",
    ),
    ("ingestion", {"id_patern": "x"}, "id_patern"),
    ("ingestion", {"id_pattern": "CIG(\\d+"}, "id_pattern is no regular expression"),
    ("ingestion", {"id_pattern": "CIG\\d+"}, "id_pattern needs a group"),
    ("ingestion", {"index_range": [10, 5]}, "index_range must ascend"),
    ("ingestion", {"index_range": [1, 2, 3]}, "index_range"),
    ("ingestion", {"width_range": [500, 20]}, "width_range must ascend"),
    ("ingestion", {"width_range": [-5, 20]}, "width_range"),
    ("ingestion", {"masked_velocities": [150, -150]}, "masked_velocities must ascend"),
    ("ingestion", {"resolution": "fast"}, "resolution"),
    ("ingestion", {"resolution": 0}, "resolution"),
    ("ingestion", {"min_channels": 8}, "min_channels"),
    ("ingestion", {"baseline_order": 11}, "baseline_order"),
    ("ingestion", {"baseline_order": -1}, "baseline_order"),
    ("ingestion", {"min_snr": -3}, "min_snr"),
    ("ingestion", {"min_snr": float("nan")}, "min_snr"),
    ("ingestion", {"classes": ["a"]}, "classes"),
    ("features", {"sizes": 32}, "sizes"),
    ("features", {"size": 4}, "size"),
    ("features", {"size": 1024}, "size"),
    ("features", {"rendering": "publish", "quadrant": False}, "rendering"),
    ("features", {"rendering": "published"}, "quadrant must be false"),
    ("features", {"rendering": "published", "quadrant": True}, "quadrant must be false"),
    ("features", {"extent": 0}, "extent"),
    ("features", {"n_realisations": 2}, "n_realisations"),
    ("features", {"n_halves_figures": -1}, "n_halves_figures"),
    ("augmentation", {"n_fold": 5}, "n_fold"),
    ("augmentation", {"n_folds": 1}, "n_folds"),
    ("augmentation", {"seeds": []}, "seeds"),
    ("augmentation", {"seeds": [0, -1]}, "seeds"),
    ("augmentation", {"seeds": [2**32]}, "seeds"),
    ("augmentation", {"seeds": [3, 3]}, "seeds must differ"),
    ("augmentation", {"validation_share": 0}, "validation_share"),
    ("augmentation", {"validation_share": 0.9}, "validation_share"),
    ("augmentation", {"a_flux_edges": []}, "a_flux_edges"),
    ("augmentation", {"a_flux_edges": [1.3, 1.1]}, "a_flux_edges must increase"),
    ("augmentation", {"a_flux_edges": [1.2, 1.2]}, "a_flux_edges must increase"),
    ("augmentation", {"a_flux_edges": [0.9, 1.1]}, "a_flux_edges must increase from 1"),
    ("augmentation", {"min_class_probability": 1.5}, "min_class_probability"),
    ("augmentation", {"n_copies": -1}, "n_copies"),
    ("augmentation", {"min_snr_factor": 0}, "min_snr_factor"),
    ("augmentation", {"min_snr_factor": 1.1}, "min_snr_factor"),
    ("augmentation", {"fold_jitter": -1}, "fold_jitter"),
    ("augmentation", {"exchange_sides": "perhaps"}, "exchange_sides"),
    ("training", {"epoch": 5}, "epoch"),
    ("training", {"epochs": 0}, "epochs"),
    ("training", {"batch_size": 0}, "batch_size"),
    ("training", {"learning_rate": 0}, "learning_rate"),
    ("training", {"weight_decay": -1e-5}, "weight_decay"),
    ("training", {"patience": 0}, "patience"),
    ("training", {"min_epochs": 0}, "min_epochs"),
    ("training", {"padding": "full"}, "padding"),
    ("training", {"n_workers": 0}, "n_workers"),
    ("training", {"configurations": []}, "configurations"),
    ("training", {"configurations": ONE * 2}, "configuration names must differ"),
    ("training", {"configurations": [{"name": "a b", "widths": [4]}]}, "name"),
    ("training", {"configurations": [{"name": "../up", "widths": [4]}]}, "name"),
    ("training", {"configurations": [{"name": "a", "widths": []}]}, "widths"),
    ("training", {"configurations": [{"name": "a", "widths": [32, 0]}]}, "widths"),
    ("training", {"configurations": [{"name": "a"}]}, "widths"),
    (
        "training",
        {"configurations": [{"name": "a", "widths": [4], "image_models": [4]}]},
        "image_models",
    ),
    (
        "training",
        {"configurations": [{"name": "a", "widths": [4], "image_models": []}]},
        "image_models",
    ),
    ("training", {"configurations": [{"name": "a", "widths": [4], "depth": 2}]}, "depth"),
    ("reporting", {"colour": "red"}, "colour"),
    ("reporting", {"seed": -1}, "seed"),
    ("reporting", {"n_sample_images": 0}, "n_sample_images"),
]


@pytest.mark.parametrize(
    ("stage", "values", "message"), WRONG, ids=[f"{s}-{v}"[:60] for s, v, _ in WRONG]
)
def test_a_wrong_value_is_refused_by_name(stage, values, message):
    if stage == "training":
        values = {"configurations": ONE} | values
    with pytest.raises(ValidationError, match=message):
        MODELS[stage](**values)


@pytest.mark.parametrize(
    ("stage", "values"),
    [
        ("simulation", {"class_shares": None, "class_edges": [1.1, 1.3]}),
        ("simulation", {"class_shares": [0.5, 0.5]}),
        ("ingestion", {"id_pattern": r"(?:CIG|KIG)_?(\d+)", "index_range": [1, 1]}),
        ("features", {"rendering": "published", "quadrant": False, "size": 128}),
        ("features", {"n_halves_figures": None}),
        ("augmentation", {"a_flux_edges": [1.26], "n_copies": 0, "seeds": [20240101, 0]}),
        ("reporting", {"class_names": []}),
    ],
)
def test_useful_other_values_are_accepted(stage, values):
    parameters = MODELS[stage](**values)
    for name, value in values.items():
        got = getattr(parameters, name)
        assert (list(got) if isinstance(got, tuple) else got) == value


def test_parameters_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError, match="frozen"):
        FeatureParameters().size = 64
