"""Wrong parameters fail before anything runs, and the message names the parameter."""

import inspect

import pytest
from pydantic import ValidationError

from skyloom.pipelines.radio_galaxies.parameters import (
    AugmentationParameters,
    Configuration,
    FeatureParameters,
    GeneratorParameters,
    NetworkParameters,
    PredictionParameters,
    SourceParameters,
    Sweep,
    SweepParameters,
    SweepsParameters,
    TrainingParameters,
)
from skyloom.simulate.radio_galaxies import draw_truth

BASE = Configuration(
    name="base", features=FeatureParameters(), augmentation=AugmentationParameters(),
    network=NetworkParameters(), training=TrainingParameters(),
)  # fmt: skip


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (FeatureParameters, {"size": 4}, "size"),
        (FeatureParameters, {"stretch": "log"}, "stretch"),
        (FeatureParameters, {"eight_bits": True, "clip": False}, "eight_bits needs clip"),
        (PredictionParameters, {"population": {"FRI": 0.5, "bent": 0.4}}, "add up to 1, got 0.9"),
        (PredictionParameters, {"population": {"FRI": 1.5, "bent": -0.5}}, "population"),
        (PredictionParameters, {"population": {"FR1": 1.0}}, r"population has \['FR1'\]"),
        (PredictionParameters, {"population": "equal"}, "population"),
        (PredictionParameters, {"shift": -1}, "shift"),
        (AugmentationParameters, {"arm": "real + gan"}, "arm"),
        (AugmentationParameters, {"seeds": [1, 1]}, "seeds must differ"),
        (AugmentationParameters, {"validation_share": 0.6}, "validation_share"),
        (GeneratorParameters, {"epochs": {"vae": 3}}, "epochs: nothing for dcgan"),
        (NetworkParameters, {"dropout": 1.0}, "dropout"),
        (TrainingParameters, {"optimizer": "sgd"}, "optimizer"),
        (SweepParameters, {"grid": {"augmentation.seeds": [[1]]}}, "is not a parameter of a sweep"),
        (SweepParameters, {"grid": {"augmentation.arm": ["raw"]}}, "'raw' is not possible"),
        (SweepParameters, {"grid": {"features.size": [32]}, "n_permutations": 9}, "must be 0"),
        (SweepParameters,
         {"grid": {"features.size": [32]}, "bending": True, "test_catalogues": ["a"]},
         "bending must be false with test_catalogues"),
        (SweepsParameters, {"chosen": "b", "named": {"a": {"grid": {"features.size": [32]}}}},
         "there is no sweep 'b'; those are a"),
    ],
)  # fmt: skip
def test_impossible_values_are_refused_by_name(model, values, message):
    with pytest.raises(ValidationError, match=message):
        model(**values)


@pytest.mark.parametrize(
    ("arm", "synthetic", "real"),
    [("real", None, True), ("real + dcgan", "dcgan", True), ("geometric", "geometric", False)],
)
def test_an_arm_says_what_it_is_trained_on(arm, synthetic, real):
    member = BASE.changed("a", {"augmentation.arm": arm})
    assert member.synthetic == synthetic
    assert member.uses_real == real


def test_a_sweep_says_which_synthetic_images_it_needs():
    arms = ["real", "real + geometric", "geometric", "vae"]
    sweep = Sweep.lay_out(SweepParameters(grid={"augmentation.arm": arms}), BASE)
    assert sweep.synthetic == ["geometric", "vae"]
    assert list(sweep.input_variants) == [BASE.input_variant]


def test_generators_are_made_for_one_preparation_of_the_images_only():
    grid = {"features.crop": [60, 100], "augmentation.arm": ["real", "real + vae"]}
    with pytest.raises(ValidationError, match="arms with vae cannot vary features but their size"):
        Sweep.lay_out(SweepParameters(grid=grid), BASE)
    grid["features.size"] = [32, 64]
    del grid["features.crop"]
    assert len(Sweep.lay_out(SweepParameters(grid=grid), BASE).input_variants) == 2


def test_regressors_have_the_images_of_the_base_also_where_no_classifier_sees_them():
    grid = {"features.size": [24, 32]}
    sweep = Sweep.lay_out(SweepParameters(grid=grid, bending=True), BASE)
    assert BASE.input_variant in sweep.input_variants
    assert len(sweep.input_variants) == 3


@pytest.mark.parametrize(
    "values", [{"bent_range": (0, 90)}, {"bent_range": (90, 40)}, {"bent_range": (90, 200)},
               {"class_shares": (0, 0, 0, 0)}]
)  # fmt: skip
def test_impossible_sources_are_refused(values):
    with pytest.raises(ValidationError, match=next(iter(values))):
        SourceParameters(**values)


def test_the_defaults_of_sources_are_those_of_the_simulation():
    defaults = inspect.signature(draw_truth).parameters
    for name, value in SourceParameters().model_dump().items():
        assert value == pytest.approx(defaults[name].default), name


def test_a_search_may_draw_the_network_from_ranges_but_not_the_images():
    space = {"network.dropout": {"low": 0.1, "high": 0.5}, "network.widths": [[8], [8, 16]]}
    sweep = Sweep.lay_out(SweepParameters(search={"space": space}), BASE)
    assert len(sweep.members) == 2

    class Trial:
        def suggest_float(self, name, low, high, **options):
            return high

        def suggest_categorical(self, name, choices):
            return choices[-1]

    found = sweep.suggest(Trial(), "01")
    assert (found.network.dropout, found.network.widths) == (0.5, (8, 16))
    with pytest.raises(ValidationError, match=r"features\.crop: inputs are drawn"):
        SweepParameters(search={"space": {"features.crop": {"low": 50, "high": 90}}})
