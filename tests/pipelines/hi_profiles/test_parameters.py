"""Wrong parameters fail before anything runs, and the message names the parameter."""

import json
from pathlib import Path

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from pydantic import ValidationError

from skyloom.compute import ClusterParameters
from skyloom.pipelines.hi_profiles.parameters import (
    AuditParameters,
    AugmentationParameters,
    Configuration,
    FeatureParameters,
    IngestionParameters,
    NetworkParameters,
    PredictionParameters,
    PretrainingParameters,
    ReportingParameters,
    SimulationParameters,
    Sweep,
    SweepParameters,
    SweepsParameters,
    TrainingParameters,
)
from skyloom.settings import CONFIG_LOADER_ARGS

MODELS = {
    "simulation": SimulationParameters,
    "ingestion": IngestionParameters,
    "features": FeatureParameters,
    "augmentation": AugmentationParameters,
    "network": NetworkParameters,
    "training": TrainingParameters,
    "pretraining": PretrainingParameters,
    "sweeps": SweepsParameters,
    "audit": AuditParameters,
    "prediction": PredictionParameters,
    "reporting": ReportingParameters,
}
SWEEP = {"sweep": SweepParameters}  # one of the sweeps by name
CONF = Path(__file__).parents[3] / "conf"
EPOCHS = {"training.epochs": [5]}


def written(environment):
    loader = OmegaConfigLoader(str(CONF), env=environment, **CONFIG_LOADER_ARGS)
    return loader["parameters"]["hi_profiles"]


@pytest.mark.parametrize("model", [m for m in MODELS.values() if m is not SweepsParameters])
def test_defaults_are_valid(model):
    defaults = model()
    # Defaults are not validated by pydantic: they must survive being given explicitly.
    assert model(**defaults.model_dump()) == defaults


def test_a_sweep_needs_only_its_values():
    sweep = SweepParameters(grid=EPOCHS)
    assert SweepParameters(**sweep.model_dump()) == sweep
    searched = SweepParameters(search={"space": EPOCHS})
    assert SweepParameters(**searched.model_dump()) == searched


@pytest.mark.parametrize("environment", ["base", "paper", "real"])
@pytest.mark.parametrize("stage", MODELS)
def test_every_parameter_file_is_valid(environment, stage):
    parameters = written(environment)
    assert set(parameters) == set(MODELS)
    MODELS[stage](**parameters[stage])


@pytest.mark.parametrize("environment", ["base", "paper", "real"])
def test_every_parameter_file_gives_a_sweep_that_can_be_laid_out(environment):
    parameters = written(environment)
    base = Configuration(
        name="base",
        **{k: parameters[k] for k in ("features", "augmentation", "network", "training")},
    )
    for name, content in SweepsParameters(**parameters["sweeps"]).named.items():
        sweep = Sweep.lay_out(content, base)
        assert sweep.members, name
        # The audit takes the images of the base settings.
        if parameters["audit"]["test_sizes"]:
            assert base.input_variant in sweep.input_variants, name


def test_the_published_settings_are_the_published_ones():
    parameters = written("paper")
    widths = [[32, 64, 128], [32, 64, 256], [32, 64, 512]]
    assert SweepsParameters(**parameters["sweeps"]).parameters.grid == {
        "training.epochs": [50, 80, 120],
        "network.widths": widths,
    }
    audit = AuditParameters(**parameters["audit"])
    assert audit.test_sizes == (0.7, 0.5, 0.3)
    assert audit.split_seeds == (42, 99)
    assert audit.epochs == (50, 80, 120)
    assert [list(w) for w in audit.widths] == widths
    fits = len(audit.test_sizes) * len(audit.split_seeds) * len(audit.epochs) * len(audit.widths)
    assert fits == 54
    training = TrainingParameters(**parameters["training"])
    network = NetworkParameters(**parameters["network"])
    assert (training.patience, training.batch_size, training.learning_rate) == (None, 32, 1e-3)
    assert (network.architecture, network.padding) == ("ring_cnn", "valid")
    augmentation = AugmentationParameters(**parameters["augmentation"])
    assert (augmentation.n_copies, augmentation.balance_classes) == (0, False)
    assert FeatureParameters(**parameters["features"]).rendering == "published"


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
    ("features", {"extent": 0}, "extent"),
    ("features", {"n_realisations": 2}, "n_realisations"),
    ("features", {"n_halves_figures": -1}, "n_halves_figures"),
    ("augmentation", {"n_fold": 5}, "n_fold"),
    ("augmentation", {"n_folds": 1}, "n_folds"),
    ("augmentation", {"seeds": []}, "seeds"),
    ("augmentation", {"seeds": [0, -1]}, "seeds"),
    ("augmentation", {"seeds": [2**32]}, "seeds"),
    ("augmentation", {"seeds": [3, 3]}, "seeds must differ"),
    ("augmentation", {"validation_share": 0.2}, "validation_share"),
    ("augmentation", {"n_inner_folds": 1}, "n_inner_folds"),
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
    ("training", {"start": "random"}, "start"),
    ("training", {"frozen_learning_rate": 0}, "frozen_learning_rate"),
    ("training", {"fine_tuned_learning_rate": -1}, "fine_tuned_learning_rate"),
    ("training", {"n_workers": 1}, "n_workers"),
    ("network", {"padding": "full"}, "padding"),
    ("network", {"architecture": "resnet"}, "architecture"),
    ("network", {"widths": []}, "widths"),
    ("network", {"widths": [32, 0]}, "widths"),
    ("network", {"image_models": [4]}, "image_models"),
    ("network", {"image_models": []}, "image_models"),
    ("network", {"input_scale": 0}, "input_scale"),
    ("network", {"depth": 2}, "depth"),
    ("pretraining", {"n_profiles": 10}, "n_profiles"),
    ("pretraining", {"epochs": 0}, "epochs"),
    ("pretraining", {"seed": -1}, "seed"),
    ("pretraining", {"seed": 2**32}, "seed"),
    ("pretraining", {"patience": 3}, "patience"),
    ("audit", {"test_sizes": [1.0]}, "test_sizes"),
    ("audit", {"test_sizes": [0]}, "test_sizes"),
    ("audit", {"test_size": [0.5]}, "test_size"),
    ("audit", {"epochs": [0]}, "epochs"),
    ("audit", {"widths": [32, 64, 128]}, "widths"),
    ("audit", {"split_seeds": [-1]}, "split_seeds"),
    ("audit", {"n_shuffles": 1}, "n_shuffles"),
    ("sweep", {}, "either grid or search"),
    ("sweep", {"grid": EPOCHS, "search": {"space": EPOCHS}}, "either grid or search"),
    ("sweep", {"grid": {"training.epoch": [5]}}, "'training.epoch' is not a parameter of a sweep"),
    ("sweep", {"grid": {"epochs": [5]}}, "'epochs' is not a parameter of a sweep"),
    ("sweep", {"grid": {"trainings.epochs": [5]}}, "'trainings.epochs' is not a parameter"),
    ("sweep", {"grid": {"augmentation.n_folds": [3]}}, "'augmentation.n_folds' is not a parameter"),
    ("sweep", {"grid": {"features.seed": [3]}}, "'features.seed' is not a parameter"),
    ("sweep", {"grid": {"training.epochs": [5, 0]}}, "training.epochs: 0 is not possible"),
    ("sweep", {"grid": {"network.widths": [[4], []]}}, r"network.widths: \[\] is not possible"),
    ("sweep", {"grid": {"network.widths": [4]}}, "network.widths: 4 is not possible"),
    ("sweep", {"grid": {"network.padding": ["full"]}}, "network.padding: 'full' is not possible"),
    ("sweep", {"grid": {"training.epochs": []}}, "training.epochs: no values"),
    ("sweep", {"grid": {"training.epochs": 5}}, "training.epochs"),
    ("sweep", {"grid": EPOCHS, "n_permutations": -1}, "n_permutations"),
    ("sweep", {"grid": EPOCHS, "n_permutation": 1}, "n_permutation"),
    ("sweep", {"search": {"space": {}}}, "space"),
    ("sweep", {"search": {}}, "space"),
    ("sweep", {"search": {"space": EPOCHS, "n_trials": 0}}, "n_trials"),
    ("sweep", {"search": {"space": {"training.epochs": []}}}, "training.epochs: no values"),
    (
        "sweep",
        {"search": {"space": {"features.size": {"low": 8, "high": 32}}}},
        "features.size: inputs are drawn .* beforehand, so give a list of values",
    ),
    (
        "sweep",
        {"search": {"space": {"network.input_scale": {"low": 1, "high": 8}}}},
        "network.input_scale: inputs are drawn and networks pre-trained beforehand",
    ),
    (
        "sweep",
        {"search": {"space": {"training.learning_rate": {"low": 1e-2, "high": 1e-4}}}},
        "low must be below high",
    ),
    (
        "sweep",
        {"search": {"space": {"training.weight_decay": {"low": 0, "high": 1, "log": True}}}},
        "above 0 with log",
    ),
    (
        "sweep",
        {"search": {"space": {"training.learning_rate": {"low": -1, "high": 1}}}},
        "training.learning_rate: -1.0 is not possible",
    ),
    (
        "sweep",
        {"search": {"space": {"training.epochs": {"low": 1, "high": 9, "log": True, "step": 2}}}},
        "either log or step",
    ),
    ("sweeps", {"chosen": "default", "named": {}}, "named"),
    ("sweeps", {"named": {"default": {"grid": EPOCHS}}}, "chosen"),
    (
        "sweeps",
        {"chosen": "other", "named": {"a": {"grid": EPOCHS}, "b": {"grid": EPOCHS}}},
        "there is no sweep 'other'; those are a, b",
    ),
    ("sweeps", {"chosen": "a", "named": {"a": {"grid": {"epochs": [5]}}}}, "'epochs' is not a"),
    ("reporting", {"colour": "red"}, "colour"),
    ("reporting", {"seed": -1}, "seed"),
    ("reporting", {"n_sample_images": 0}, "n_sample_images"),
]


@pytest.mark.parametrize(
    ("stage", "values", "message"), WRONG, ids=[f"{s}-{v}"[:60] for s, v, _ in WRONG]
)
def test_a_wrong_value_is_refused_by_name(stage, values, message):
    with pytest.raises(ValidationError, match=message):
        (MODELS | SWEEP)[stage](**values)


@pytest.mark.parametrize(
    ("stage", "values"),
    [
        ("simulation", {"class_shares": None, "class_edges": [1.1, 1.3]}),
        ("simulation", {"class_shares": [0.5, 0.5]}),
        ("ingestion", {"id_pattern": r"(?:CIG|KIG)_?(\d+)", "index_range": [1, 1]}),
        ("features", {"rendering": "published", "quadrant": False, "size": 128}),
        ("features", {"rendering": "published", "quadrant": True, "size": 32}),
        ("features", {"n_halves_figures": None}),
        ("simulation", {"class_by": "asymmetry_distance"}),
        ("training", {"patience": None, "start": "fine_tuned"}),
        ("network", {"widths": [8], "image_models": [3, 1], "architecture": "folded_cnn"}),
        ("audit", {"test_sizes": [], "split_seeds": [0]}),
        ("sweep", {"grid": {"training.patience": [None, 6], "network.widths": [[4, 4]]}}),
        ("augmentation", {"a_flux_edges": [1.26], "n_copies": 0, "seeds": [20240101, 0]}),
        ("reporting", {"class_names": []}),
    ],
)
def test_useful_other_values_are_accepted(stage, values):
    parameters = (MODELS | SWEEP)[stage](**values)
    for name, value in values.items():
        got = getattr(parameters, name)
        assert (list(got) if isinstance(got, tuple) else got) == value


def test_parameters_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError, match="frozen"):
        FeatureParameters().size = 64


# --- configurations -------------------------------------------------------------------------------


def base_of(**sections):
    empty = {k: {} for k in ("features", "augmentation", "network", "training")}
    return Configuration.model_validate({"name": "base"} | empty | sections)


BASE = base_of(features={"size": 16})


def test_a_changed_configuration_has_the_new_values_and_keeps_the_others():
    other = BASE.changed("new", {"network.widths": [4, 8], "training.epochs": 7})
    assert (other.name, other.network.widths, other.training.epochs) == ("new", (4, 8), 7)
    assert other.changed("base", {"network.widths": (32, 64, 128), "training.epochs": 25}) == BASE
    assert BASE.network.widths == (32, 64, 128)


def test_an_impossible_change_is_an_error():
    with pytest.raises(ValidationError, match="epochs"):
        BASE.changed("new", {"training.epochs": 0})


IMAGES = {
    "features.size": 32, "features.rendering": "published", "features.quadrant": False,
    "features.extent": 1.5,
}  # fmt: skip
COPIES = {
    "augmentation.n_copies": 5, "augmentation.exchange_sides": False,
    "augmentation.min_snr_factor": 0.3, "augmentation.fold_jitter": 0.0,
}  # fmt: skip
NETWORK = {
    "network.architecture": "folded_cnn", "network.widths": (4,), "network.image_models": (1,),
    "network.padding": "valid", "network.input_scale": 1.0,
}  # fmt: skip
NO_IMAGES = {
    "augmentation.balance_classes": False, "training.epochs": 9, "training.start": "frozen",
    "training.learning_rate": 0.1, "training.patience": None,
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), (IMAGES | COPIES | NETWORK | NO_IMAGES).items())
def test_images_copies_and_pretrained_networks_are_shared_where_they_are_the_same(name, value):
    other = BASE.changed("other", {name: value})
    assert (other.input_variant != BASE.input_variant) == (name in IMAGES)
    assert (other.variant != BASE.variant) == (name in IMAGES or name in COPIES)
    assert (other.pretrained_name != BASE.pretrained_name) == (name in IMAGES or name in NETWORK)


@pytest.mark.parametrize(("name", "value"), (IMAGES | COPIES | NETWORK | NO_IMAGES).items())
def test_a_family_differs_in_its_epochs_alone(name, value):
    other = BASE.changed("other", {name: value})
    assert (other.family == BASE.family) == (name == "training.epochs")


def test_names_of_variants_say_the_size_and_are_the_same_on_every_machine():
    assert BASE.input_variant.startswith("16px-")
    assert BASE.pretrained_name.startswith("ring_cnn-")
    # Results on disk are found by them: a change would make every earlier result useless.
    again = Configuration.model_validate(json.loads(BASE.model_dump_json()))
    for name in ("input_variant", "variant", "pretrained_name", "family"):
        assert getattr(again, name) == getattr(BASE, name)


# --- the sweep laid out ---------------------------------------------------------------------------


def test_a_grid_holds_every_combination_and_names_what_varies():
    grid = {
        "network.widths": [[4], [4, 8]],
        "training.start": ["scratch", "fine_tuned"],
        "training.batch_size": [16],
    }
    sweep = Sweep.lay_out(SweepParameters(grid=grid), BASE)
    assert [c.name for c in sweep.configurations] == [
        "01 4, scratch",
        "02 4, fine_tuned",
        "03 4-8, scratch",
        "04 4-8, fine_tuned",
    ]
    assert [c.network.widths for c in sweep.configurations] == [(4,), (4,), (4, 8), (4, 8)]
    assert {c.training.batch_size for c in sweep.configurations} == {16}
    assert sweep.base == BASE


def test_names_hold_numbers_switches_and_nothing():
    grid = {
        "training.learning_rate": [1e-3, 0.02],
        "training.patience": [None, 6],
        "augmentation.balance_classes": [True, False],
    }
    names = [c.name for c in Sweep.lay_out(SweepParameters(grid=grid), BASE).configurations]
    assert names[0] == "01 learning_rate 0.001, patience None, balance_classes True"
    assert names[-1] == "08 learning_rate 0.02, patience 6, balance_classes False"
    assert len({name[:10] for name in names}) == 8  # what MLflow's plots show of them


def test_images_are_laid_out_once_for_all_that_share_them():
    grid = {
        "features.size": [8, 16],
        "augmentation.n_copies": [0, 2],
        "network.widths": [[4], [8]],
        "training.start": ["scratch", "frozen", "fine_tuned"],
    }
    sweep = Sweep.lay_out(SweepParameters(grid=grid), BASE)
    assert len(sweep.configurations) == 24
    assert len(sweep.variants) == 4
    assert len(sweep.input_variants) == 2
    assert len(sweep.pretrained) == 4  # two sizes, two networks; one for both starts
    for configuration in sweep.configurations:
        member = sweep.variants[configuration.variant]
        assert member.features == configuration.features
        assert member.augmentation == configuration.augmentation
        if configuration.training.start != "scratch":
            member = sweep.pretrained[configuration.pretrained_name]
            assert member.network == configuration.network
            assert member.features == configuration.features


def test_nothing_is_pretrained_where_everything_starts_from_scratch():
    assert Sweep.lay_out(SweepParameters(grid=EPOCHS), BASE).pretrained == {}


# --- a search -------------------------------------------------------------------------------------


SPACE = {
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "training.epochs": {"low": 5, "high": 50},
    "training.batch_size": {"low": 16, "high": 64, "step": 16},
    "network.widths": [[4], [4, 8]],
    "training.start": ["scratch", "fine_tuned"],
}


def searched(space):
    return Sweep.lay_out(SweepParameters(search={"space": space}), BASE)


def test_a_search_lays_out_images_and_networks_of_every_listed_value():
    sweep = searched(SPACE | {"features.size": [8, 16]})
    assert sweep.configurations == ()
    assert len(sweep.input_variants) == 2
    assert len(sweep.pretrained) == 4


# --- where it runs --------------------------------------------------------------------------------


def test_the_cluster_is_on_this_machine_unless_told_otherwise():
    for environment in ("base", "paper", "real"):
        path = CONF / environment / "parameters.yml"
        if path.exists():
            parameters = yaml.safe_load(path.read_text())
            assert ClusterParameters(**parameters["cluster"]) == ClusterParameters()


class HighestValue:
    """A trial of Optuna that takes the last of what it is offered."""

    def suggest_categorical(self, _name, choices):
        return choices[-1]


def test_what_a_search_asks_for_has_been_drawn_and_pre_trained():
    space = {
        "features.size": [8, 16], "augmentation.n_copies": [0, 2], "network.widths": [[4], [4, 8]],
        "training.start": ["scratch", "fine_tuned"],
    }  # fmt: skip
    sections = ("features", "augmentation", "network", "training")
    base = Configuration(name="base", **{section: MODELS[section]() for section in sections})
    sweep = Sweep.lay_out(SweepParameters(search={"space": space}), base)
    asked = sweep.suggest(HighestValue(), "0.0.01")
    assert asked.variant in sweep.variants
    assert asked.training.start == "fine_tuned"
    assert asked.pretrained_name in sweep.pretrained
