"""Configurations of a study that measures nothing but a brightness, and how sweeps lay them out."""

import json
from typing import ClassVar, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from skyloom.learning import configurations
from skyloom.learning.configurations import (
    FixedClassesSweep,
    NamedSweeps,
    SearchAxis,
    SearchParameters,
    every_combination,
    name_with,
    variant_name,
)
from skyloom.learning.parameters import Parameters, Seeds


class Features(Parameters):
    size: int = Field(8, ge=4)
    band: Literal["red", "blue"] = "red"
    shown: bool = False


class Augmentation(Parameters):
    arm: str = "observed"


class Network(Parameters):
    widths: tuple[int, ...] = Field((4,), min_length=1)


class Training(Parameters):
    epochs: int = Field(5, ge=1)
    batch_size: int = Field(8, ge=1)
    rate: float = Field(0.1, gt=0)
    patience: int | None = None

    @model_validator(mode="after")
    def _some_patience(self):
        if self.patience is not None and self.patience > self.epochs:
            msg = f"patience {self.patience} is longer than {self.epochs} epochs"
            raise ValueError(msg)
        return self


class Configuration(configurations.Configuration):
    swept: ClassVar = {
        "features": ("size", "band"),
        "augmentation": ("arm",),
        "network": ("widths",),
        "training": tuple(Training.model_fields),
    }

    features: Features = Features()
    augmentation: Augmentation = Augmentation()
    network: Network = Network()
    training: Training = Training()


class SweepParameters(configurations.SweepParameters):
    configuration: ClassVar = Configuration


class Sweep(configurations.Sweep):
    base: Configuration
    configurations: tuple[Configuration, ...]
    parameters: SweepParameters


BASE = Configuration(name="base")


def swept(grid=None, **more):
    return Sweep.lay_out(SweepParameters(grid=grid, **more), BASE)


# --- one configuration ----------------------------------------------------------------------------


def test_a_changed_configuration_has_the_new_values_and_keeps_the_others():
    other = BASE.changed("new", {"network.widths": [4, 8], "training.epochs": 7})
    assert (other.name, other.network.widths, other.training.epochs) == ("new", (4, 8), 7)
    assert other.changed("base", {"network.widths": (4,), "training.epochs": 5}) == BASE
    assert BASE.network.widths == (4,)


def test_values_that_are_impossible_or_do_not_go_together_are_an_error():
    with pytest.raises(ValidationError, match="epochs"):
        BASE.changed("new", {"training.epochs": 0})
    with pytest.raises(ValidationError, match="patience 9 is longer than 5 epochs"):
        BASE.changed("new", {"training.patience": 9})


@pytest.mark.parametrize(
    ("name", "value", "alike"),
    [("size", 16, False), ("band", "blue", False), ("shown", True, True)],
)
def test_inputs_are_shared_where_what_a_sweep_may_vary_of_them_is_the_same(name, value, alike):
    other = BASE.model_copy(
        update={"features": BASE.features.model_copy(update={name: value}), "name": "other"}
    )
    assert (other.input_variant == BASE.input_variant) == alike
    assert other.input_variant.startswith(f"{other.size}px-")


@pytest.mark.parametrize(
    "changes", [{"training.epochs": 9}, {"training.rate": 0.2}, {"features.size": 16}]
)
def test_a_family_differs_in_its_name_and_its_epochs_alone(changes):
    other = BASE.changed("other", changes)
    assert (other.family == BASE.family) == (changes == {"training.epochs": 9})


def test_variants_are_named_alike_on_every_machine():
    # Results on disk are found by them: a change would make every earlier result useless.
    assert variant_name(16, {"b": [1, None], "a": "x"}) == variant_name(
        16, {"a": "x", "b": [1, None]}
    )
    assert variant_name(16, 1) == "16px-6b86b273"  # the SHA-256 of 1
    assert variant_name(8, 1) != variant_name(8, 2)


def test_what_a_sweep_may_vary_is_known_by_name():
    assert Configuration.axis("training.epochs").validate_python(3) == 3
    for name in ("training.epoch", "epochs", "features.shown", "trainings.epochs"):
        with pytest.raises(ValueError, match=f"'{name}' is not a parameter of a sweep; those are"):
            Configuration.axis(name)


# --- a grid ---------------------------------------------------------------------------------------


def test_a_grid_holds_every_combination_and_names_what_varies():
    sweep = swept({"network.widths": [[4], [4, 8]], "features.band": ["red", "blue"],
                   "training.batch_size": [16]})  # fmt: skip
    assert [each.name for each in sweep.configurations] == [
        "01 4, red", "02 4, blue", "03 4-8, red", "04 4-8, blue",
    ]  # fmt: skip
    assert [each.network.widths for each in sweep.configurations] == [(4,), (4,), (4, 8), (4, 8)]
    assert {each.training.batch_size for each in sweep.configurations} == {16}
    assert sweep.base == BASE
    assert sweep.members == list(sweep.configurations)


def test_one_combination_has_a_number_for_a_name():
    (only,) = every_combination(BASE, {"training.epochs": [7]})
    assert (only.name, only.training.epochs) == ("01", 7)
    (nothing,) = every_combination(BASE, {})
    assert nothing == BASE.model_copy(update={"name": "01"})


@pytest.mark.parametrize(
    ("value", "words"),
    [("red", "red"), ([4, 8], "4-8"), ((4,), "4"), (None, "x None"), (True, "x True"),
     (0.02, "x 0.02"), (1e-3, "x 0.001"), (12, "x 12")],
)  # fmt: skip
def test_a_value_in_words(value, words):
    assert name_with("03", {"section.x": value}, ["section.x"]) == f"03 {words}"


def test_null_takes_an_axis_away():
    given = {"network.widths": [[4], [8]], "training.epochs": None}
    assert SweepParameters(grid=given) == SweepParameters(grid={"network.widths": [[4], [8]]})


def test_values_of_a_grid_that_do_not_go_together_are_found_as_it_is_laid_out():
    with pytest.raises(ValidationError, match="patience 9 is longer than 5 epochs"):
        swept({"training.patience": [None, 9]})


def test_what_is_prepared_is_prepared_once_for_all_that_share_it():
    sweep = swept({"features.size": [8, 16], "network.widths": [[4], [8]],
                   "augmentation.arm": ["observed", "turned"]})  # fmt: skip
    assert len(sweep.configurations) == 8
    assert len(sweep.input_variants) == 2
    for each in sweep.configurations:
        assert sweep.input_variants[each.input_variant].features == each.features


def test_a_sweep_survives_being_written_as_json():
    space = {"training.epochs": {"low": 2, "high": 9}, "network.widths": [[4], [8]]}
    for sweep in (swept({"network.widths": [[4], [4, 8]]}), swept(search={"space": space})):
        assert Sweep.model_validate(json.loads(json.dumps(sweep.model_dump(mode="json")))) == sweep


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "either grid or search"),
        ({"grid": {"training.epochs": [5]}, "search": {"space": {"training.epochs": [5]}}},
         "either grid or search"),
        ({"grid": {"training.epochs": []}}, "training.epochs: no values"),
        ({"grid": {"training.epochs": [5, 0]}}, "training.epochs: 0 is not possible"),
        ({"grid": {"network.widths": [4]}}, "network.widths: 4 is not possible"),
        ({"grid": {"training.epochs": [5]}, "n_permutations": -1}, "n_permutations"),
        ({"search": {"space": {"features.size": {"low": 8, "high": 32}}}},
         "features.size: inputs are drawn .* so give a list of values"),
        ({"search": {"space": {"training.rate": {"low": -1, "high": 1}}}},
         "training.rate: -1.0 is not possible"),
    ],
)  # fmt: skip
def test_a_sweep_that_cannot_be_run_is_refused_by_name(values, message):
    with pytest.raises(ValidationError, match=message):
        SweepParameters(**values)


def test_synthetic_objects_of_the_true_classes_allow_no_shuffles():
    class Made(FixedClassesSweep):
        configuration: ClassVar = Configuration

    given = {"grid": {"training.epochs": [5]}}
    assert Made(**given).n_permutations == 0
    with pytest.raises(ValidationError, match="n_permutations must be 0: synthetic objects"):
        Made(**given, n_permutations=3)


# --- sweeps by name -------------------------------------------------------------------------------

NAMED = {
    "default": {"grid": {"training.epochs": [5]}},
    "widths": {"grid": {"network.widths": [[4], [8]]}},
}


def test_one_of_several_sweeps_is_run():
    sweeps = NamedSweeps[SweepParameters](chosen="widths", named=NAMED)
    assert sweeps.parameters == SweepParameters(**NAMED["widths"])
    assert type(sweeps.parameters) is SweepParameters


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"chosen": "width", "named": NAMED},
         "there is no sweep 'width'; those are default, widths"),
        ({"chosen": "default", "named": {}}, "named"),
        ({"named": NAMED}, "chosen"),
        # Those that are not run are checked, too.
        ({"chosen": "default", "named": NAMED | {"odd": {"grid": {"epochs": [5]}}}},
         "'epochs' is not a parameter of a sweep"),
    ],
)  # fmt: skip
def test_sweeps_that_are_not_there_or_wrong_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        NamedSweeps[SweepParameters](**values)


def test_seeds_must_differ():
    class Repeated(Parameters):
        seeds: Seeds = (0,)

    assert Repeated(seeds=[3, 1]).seeds == (3, 1)
    with pytest.raises(ValidationError, match=r"seeds must differ, got \(3, 3\)"):
        Repeated(seeds=[3, 3])


# --- a search -------------------------------------------------------------------------------------


class FakeTrial:
    """Gives the lowest or highest of what it is asked, and remembers it."""

    def __init__(self, highest=False):
        self.end = -1 if highest else 0
        self.asked = {}

    def suggest_int(self, name, low, high, *, log=False, step=1):
        self.asked[name] = ("int", low, high, log, step)
        return (low, high)[self.end]

    def suggest_float(self, name, low, high, *, log=False, step=None):
        self.asked[name] = ("float", low, high, log, step)
        return (low, high)[self.end]

    def suggest_categorical(self, name, choices):
        assert all(isinstance(choice, str | int | float | bool | None) for choice in choices)
        self.asked[name] = ("categorical", tuple(choices))
        return choices[self.end]


SPACE = {
    "training.rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "training.epochs": {"low": 5, "high": 50},
    "training.batch_size": {"low": 16, "high": 64, "step": 16},
    "network.widths": [[4], [4, 8]],
    "features.size": [8, 16],
}


def test_a_search_prepares_what_every_listed_value_needs():
    sweep = swept(search={"space": SPACE})
    assert sweep.configurations == ()
    assert len(sweep.members) == 4
    assert len(sweep.input_variants) == 2
    ranges = swept(search={"space": {"training.epochs": {"low": 5, "high": 50}}})
    assert list(ranges.input_variants) == [BASE.input_variant]


def test_a_search_asks_for_what_is_in_its_space():
    low, high = FakeTrial(), FakeTrial(highest=True)
    sweep = swept(search={"space": SPACE})
    one, two = sweep.suggest(low, "0.0.01"), sweep.suggest(high, "0.0.02")
    assert low.asked == {
        "training.rate": ("float", 1e-4, 1e-2, True, None),
        "training.epochs": ("int", 5, 50, False, 1),
        "training.batch_size": ("int", 16, 64, False, 16),
        "network.widths": ("categorical", (0, 1)),
        "features.size": ("categorical", (0, 1)),
    }
    assert (one.training.rate, two.training.rate) == (1e-4, 1e-2)
    assert (one.network.widths, two.network.widths) == ((4,), (4, 8))
    assert one.name == "0.0.01 rate 0.0001, epochs 5, batch_size 16, 4, size 8"
    assert two.input_variant in sweep.input_variants


@pytest.mark.parametrize("name", ["epochs", "batch_size", "patience"])
def test_a_range_of_whole_numbers_gives_whole_numbers(name):
    sweep = swept(search={"space": {f"training.{name}": {"low": 2, "high": 9}}})
    trial = FakeTrial()
    sweep.suggest(trial, "0.0.01")
    assert trial.asked[f"training.{name}"] == ("int", 2, 9, False, 1)


def test_values_of_a_search_that_do_not_go_together_are_an_error_of_their_trial_alone():
    sweep = swept(search={"space": {"training.patience": {"low": 2, "high": 9}}})
    assert sweep.suggest(FakeTrial(), "0.0.01").training.patience == 2
    with pytest.raises(ValueError, match="patience 9 is longer than 5 epochs"):
        sweep.suggest(FakeTrial(highest=True), "0.0.02")


def test_optuna_understands_what_it_is_asked():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sweep, study = swept(search={"space": SPACE}), optuna.create_study()
    for number in range(12):
        trial = study.ask()
        configuration = sweep.suggest(trial, str(number))
        assert 1e-4 <= configuration.training.rate <= 1e-2
        assert 5 <= configuration.training.epochs <= 50
        assert configuration.training.batch_size in (16, 32, 48, 64)
        assert configuration.network.widths in ((4,), (4, 8))
        study.tell(trial, 0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"low": 1e-2, "high": 1e-4}, "low must be below high"),
        ({"low": 0, "high": 1, "log": True}, "above 0 with log"),
        ({"low": 1, "high": 9, "log": True, "step": 2}, "either log or step"),
    ],
)
def test_a_range_that_is_none_is_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        SearchAxis(**values)


def test_defaults_of_a_search_and_of_an_axis():
    search = SearchParameters(space={"training.epochs": [5]})
    assert (search.n_trials, search.prune) == (20, True)
    axis = SearchAxis(low=1, high=2)
    assert (axis.log, axis.step) == (False, None)


def test_what_is_varied_is_known_by_name():
    assert SweepParameters(search={"space": SPACE}).axes == sorted(SPACE)
    assert SweepParameters(grid={"training.epochs": [5], "features.size": [8]}).axes == [
        "features.size", "training.epochs",
    ]  # fmt: skip
