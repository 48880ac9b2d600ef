"""The project's own hygiene: configuration, catalog, parameters, imports, repository."""

import inspect
import re
import shutil
import subprocess
import sys
from importlib import import_module
from typing import get_type_hints

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.framework.project import configure_project, pipelines
from kedro.io import DataCatalog
from kedro.io.core import parse_dataset_definition
from pydantic import BaseModel

from skyloom.compute import ClusterParameters
from skyloom.pipeline_registry import FURTHER, STUDIES
from skyloom.pipelines.wiring import STAGES
from skyloom.settings import CONFIG_LOADER_ARGS

ENVIRONMENTS = ("base", "paper", "real")
MODELS = {name: import_module(f"skyloom.pipelines.{name}.parameters") for name in STUDIES}


@pytest.fixture(scope="module")
def registered():
    configure_project("skyloom")
    return dict(pipelines)


def layer_of(entry):
    return entry.get("metadata", {}).get("kedro-viz", {}).get("layer")


def nodes_of(registered, study):
    return [
        node
        for name, pipeline in registered.items()
        if name.partition(".")[0] == study
        for node in pipeline.nodes
    ]


def models_of(registered, study):
    """Models of each section of a study's parameters, by the type hints of its node functions."""
    found = {}
    for node in nodes_of(registered, study):
        hints = get_type_hints(node.func)
        for name in node.inputs:
            if name.startswith(f"params:{study}."):
                section = name.rpartition(".")[2]
                found.setdefault(section, set()).add(hints[section])
    return found


def sections_of(registered, study):
    return {section: next(iter(models)) for section, models in models_of(registered, study).items()}


def load(root, environment, kind):
    return OmegaConfigLoader(str(root / "conf"), env=environment, **CONFIG_LOADER_ARGS)[kind]


def used_datasets(registered):
    return {
        name
        for pipeline in registered.values()
        for node in pipeline.nodes
        for name in [*node.inputs, *node.outputs]
        if not name.startswith("params:")
    }


def test_pipelines_have_the_promised_names(registered):
    assert STAGES == ("ingestion", "features", "augmentation", "training", "reporting")
    parts = (*STAGES, "simulation", "prediction")
    expected = {f"{study}.{part}" for study in STUDIES for part in parts}
    further = {f"{study}.{part}" for study in STUDIES for part in FURTHER}
    assert {"__default__", *STUDIES, *expected} <= set(registered)
    assert set(registered) <= {"__default__", *STUDIES, *expected, *further}
    assert {"radio_galaxies.download", "star_fields.download"} <= set(registered)
    assert {f"stellar_spectra.{part}" for part in FURTHER} <= set(registered)
    for study in STUDIES:
        by_stage = [len(registered[f"{study}.{stage}"].nodes) for stage in STAGES]
        assert min(by_stage) > 0
        assert sum(by_stage) == len(registered[study].nodes)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_catalog_entry_is_used_and_no_dataset_stays_in_memory(root, registered, environment):
    config = load(root, environment, "catalog")
    patterns = {name for name in config if "{" in name}
    catalog = DataCatalog.from_config(config)
    used = used_datasets(registered)
    unused = set(config) - patterns - used
    assert not unused
    for name in used:
        assert name in config or catalog.config_resolver.match_dataset_pattern(name), name
    matched = {catalog.config_resolver.match_dataset_pattern(name) for name in used - set(config)}
    assert matched == patterns


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_entry_has_a_layer_named_after_a_stage(root, registered, environment):
    config = load(root, environment, "catalog")
    # A store that nodes fill comes from outside of the pipeline. In a layer of one of its stages it
    # would close a circle, and kedro-viz would show no layers at all.
    for name, entry in config.items():
        if name == "{study}.finished_fits":
            assert layer_of(entry) is None, name
        else:
            assert layer_of(entry) in (*STAGES, "simulation", "prediction", *FURTHER), name


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_parameter_is_used_and_valid(root, registered, environment):
    config = load(root, environment, "parameters")
    assert set(config) == {*STUDIES, "cluster"}
    ClusterParameters.model_validate(config["cluster"])
    for study in STUDIES:
        models = models_of(registered, study)
        assert any("params:cluster" in node.inputs for node in nodes_of(registered, study))
        assert set(config[study]) == set(models)
        for section, own in models.items():
            # Kedro takes the model of whichever node comes last.
            (model,) = own
            assert issubclass(model, BaseModel), section
            model.model_validate(config[study][section])


@pytest.mark.parametrize("study", STUDIES)
def test_arguments_of_node_functions_bear_the_names_of_their_entries(registered, study):
    for node in nodes_of(registered, study):
        for argument, entry in node._inputs.items():
            name = entry.removeprefix("params:").partition("@")[0].rpartition(".")[2]
            assert argument == name, f"{node.name}: {entry}"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("runtime_params", [{}, {"sweep": "copies"}])
def test_prediction_takes_the_network_that_a_run_of_the_same_words_registers(
    root, environment, runtime_params
):
    loader = OmegaConfigLoader(
        str(root / "conf"), env=environment, runtime_params=runtime_params, **CONFIG_LOADER_ARGS
    )
    catalog = loader["catalog"]
    registered = catalog["{study}.classifier"]["metadata"]["skyloom"]
    taken = catalog["{study}.prediction.classifier"]["model"]
    assert taken == f"models:/{registered['name']}@{registered['alias']}"
    assert ("copies" in taken) == bool(runtime_params)


def test_which_pattern_of_the_catalog_serves_an_entry(root, registered):
    """``{study}.x`` also matches ``hi_profiles.prediction.x``: the more specific one has to win."""
    config = load(root, "base", "catalog")
    resolver = DataCatalog.from_config(config).config_resolver
    for name in used_datasets(registered) - set(config):
        pattern = resolver.match_dataset_pattern(name)
        entry = name.partition(".")[2]
        if entry.startswith(("prediction.", "download.")):
            assert pattern.startswith("{study}." + entry.partition(".")[0]), name
        elif not entry.endswith("_figure"):
            assert pattern == "{study}." + entry, name


@pytest.mark.parametrize("study", STUDIES)
def test_every_documented_parameter_is_read_somewhere(root, study):
    """A field that no code looks at would be a promise that nobody keeps."""
    from skyloom.archives.catalogues import read_sources
    from skyloom.archives.first import download_cut_outs
    from skyloom.archives.lamost import download_spectra, split_catalogue
    from skyloom.archives.sky_survey import download_fields, draw_positions
    from skyloom.learning import configurations
    from skyloom.learning.nested import search_procedure
    from skyloom.nets.alhassan import alhassan
    from skyloom.nets.star_cnn import star_cnn
    from skyloom.simulate import hi_profiles, radio_galaxies, star_fields, stellar_spectra
    from skyloom.spectra.optical.jitter import changed_copies

    folder = root / "src" / "skyloom" / "pipelines" / study
    code = "\n".join(p.read_text() for p in folder.glob("*.py") if p.name != "parameters.py")
    for name in ("comparison", "fitting", "generative", "runs", "splitting"):
        code += (root / f"src/skyloom/learning/{name}.py").read_text()
    # Of the modules of the parameters, what lays out a sweep: that a validator looks at a field is
    # no use of it.
    parts = [getattr(configurations.Sweep, name) for name in ("lay_out", "suggest")]
    parts += [configurations.Sweep.members.fget, configurations.NamedSweeps.parameters.fget]
    code += "".join(inspect.getsource(part) for part in parts)
    passed_on = {
        name
        for function in (
            hi_profiles.draw_truth, radio_galaxies.draw_truth, search_procedure, alhassan,
            read_sources, download_cut_outs, stellar_spectra.draw_truth, split_catalogue,
            download_spectra, star_cnn, changed_copies, star_fields.draw_fields, download_fields,
            draw_positions,
        )
        for name in inspect.signature(function).parameters
    }  # fmt: skip
    for name, model in vars(MODELS[study]).items():
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            continue
        for field in model.model_fields:
            used = re.search(rf"\.{field}\b|\"{field}\"", code)
            assert used or field in passed_on, f"{name}.{field}"
    compute = (root / "src" / "skyloom" / "compute.py").read_text()
    for field in ClusterParameters.model_fields:
        assert re.search(rf"\bparameters\.{field}\b", compute), field


def test_inputs_of_every_pipeline_are_in_the_catalog_or_produced(root, registered):
    config = load(root, "base", "catalog")
    resolver = DataCatalog.from_config(config).config_resolver
    for name, pipeline in registered.items():
        free = {n for n in pipeline.inputs() if not n.startswith("params:")}
        assert all(n in config or resolver.match_dataset_pattern(n) for n in free), name
    for study in STUDIES:
        whole = registered[f"{study}.simulation"] + registered[study]
        free = {name for name in whole.inputs() if not name.startswith("params:")}
        # Filled by whoever reads it; and what somebody may have looked at.
        assert free - {f"{study}.review"} == {f"{study}.finished_fits"}


def test_the_raw_files_read_are_those_the_simulation_writes(root):
    config = load(root, "base", "catalog")
    places = {config[f"{{study}}.observations@{kind}"]["path"] for kind in ("fits", "files")}
    assert len(places) == 1


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_transcoded_entries_share_a_layer(root, environment):
    """kedro-viz does not start where they differ."""
    layers = {}
    for name, entry in load(root, environment, "catalog").items():
        stem = name.split("@")[0]
        layers.setdefault(stem, set()).add(layer_of(entry))
    assert all(len(found) == 1 for found in layers.values())


def test_the_simulation_never_writes_into_a_user_s_folder(root):
    loader = OmegaConfigLoader(
        str(root / "conf"),
        env="real",
        runtime_params={"folder": "/somebody/s/files", "labels": "/somebody/s/labels.csv"},
        **CONFIG_LOADER_ARGS,
    )
    config = loader["catalog"]
    assert config["{study}.observations@files"]["path"] == "/somebody/s/files"
    assert "somebody" not in config["{study}.observations@fits"]["path"]
    labels = config["{study}.labels"]
    assert labels["filepath"] == "/somebody/s/labels.csv"
    assert labels["writable"] is False


@pytest.mark.parametrize(
    ("given", "path"),
    [(2020, "2020"), (2.5, "2.5"), ("~/x", "/home/me/x"), ("s3://x", "s3://x")],
)
def test_paths_on_the_command_line_may_be_numbers_or_below_the_home_folder(
    root, monkeypatch, given, path
):
    monkeypatch.setenv("HOME", "/home/me")
    names = ("folder", "labels", "review", "sources")
    loader = OmegaConfigLoader(
        str(root / "conf"),
        env="real",
        runtime_params=dict.fromkeys(names, given),
        **CONFIG_LOADER_ARGS,
    )
    catalog = loader["catalog"]
    for name in ("{study}.observations@files", "{study}.prediction.observations"):
        assert catalog[name]["path"] == path
    for name in (
        "{study}.labels",
        "radio_galaxies.review",
        "{study}.download.source_list",
        "radio_galaxies.download.source_list",
        "star_fields.download.source_list",
    ):
        assert catalog[name]["filepath"] == path


def test_a_named_sweep_has_its_results_and_its_model_to_itself(root):
    loader = OmegaConfigLoader(
        str(root / "conf"), env="base", runtime_params={"sweep": "copies"}, **CONFIG_LOADER_ARGS
    )
    catalog = DataCatalog.from_config(loader["catalog"])
    usual = DataCatalog.from_config(load(root, "base", "catalog"))
    for name in ("report", "outcome", "images", "synthetic_images", "classifier", "sweep"):
        own, other = (each.get(f"radio_galaxies.{name}") for each in (catalog, usual))
        places = [str(getattr(d, "_filepath", None) or d._path) for d in (own, other)]
        assert places[0] != places[1], name
        assert "/copies/" in f"{places[0]}/"
    models = [
        each.get("radio_galaxies.classifier").metadata["skyloom"] for each in (catalog, usual)
    ]
    assert [model["name"] for model in models] == ["radio_galaxies_copies", "radio_galaxies"]
    # What all sweeps share is made once.
    for name in ("sample", "cutouts", "finished_fits"):
        own, other = (each.get(f"radio_galaxies.{name}") for each in (catalog, usual))
        assert own._describe() == other._describe(), name
    assert loader["parameters"]["radio_galaxies"]["sweeps"]["chosen"] == "copies"


def test_what_the_documents_write_into_an_environment_is_valid(root, registered, tmp_path):
    """Each excerpt alone, on top of the base environment."""
    pages = [root / "README.md", *(root / "docs").glob("*.md")]
    text = "\n".join(page.read_text("utf-8") for page in pages)
    # Files of a study that there is not are built by a test of their own.
    excerpts = re.findall(r"```yaml\n(?!# conf/)(.*?)```", text, re.DOTALL)
    assert len(excerpts) >= 3
    before = load(root, "base", "parameters")
    shutil.copytree(root / "conf" / "base", tmp_path / "base")
    (tmp_path / "local").mkdir()
    for excerpt in excerpts:
        (tmp_path / "local" / "parameters.yml").write_text(excerpt)
        config = OmegaConfigLoader(str(tmp_path), env="local", **CONFIG_LOADER_ARGS)["parameters"]
        assert config != before
        ClusterParameters.model_validate(config["cluster"])
        for study in STUDIES:
            for section, model in sections_of(registered, study).items():
                model.model_validate(config[study][section])


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("environment", ["paper", "real"])
def test_an_environment_names_only_what_differs(root, environment, study):
    def leaves(table, path=()):
        for key, value in table.items():
            if isinstance(value, dict):
                yield from leaves(value, (*path, key))
            else:
                yield (*path, key), value

    base = dict(leaves(load(root, "base", "parameters")))
    own = yaml.safe_load((root / f"conf/{environment}/{study}/parameters.yml").read_text())
    for path, value in leaves(own):
        assert base.get(path, "not there") != value, path


def test_catalog_entries_are_of_classes_that_exist(root):
    for name, entry in load(root, "base", "catalog").items():
        concrete = {k: v for k, v in entry.items() if k != "metadata"}
        parse_dataset_definition(dict(concrete))
        assert name.partition(".")[0] in (*STUDIES, "{study}")


def test_registering_the_pipelines_imports_nothing_slow():
    heavy = "tensorflow keras mlflow dask distributed optuna psutil sklearn matplotlib scipy"
    code = (
        "import sys, skyloom.settings, skyloom.pipeline_registry as r; r.register_pipelines();"
        f"print([m for m in {heavy.split()!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def grid(axis, values):
    return {"sweeps": {"named": {"default": {"grid": {axis: values}}}}}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"features": {"size": -3}}, "size"),
        (grid("network.width", [[4]]), "'network.width' is not a parameter"),
        (grid("training.start", ["scratch", "cold"]), "'cold' is not possible"),
        ({"sweeps": {"chosen": "xyz"}}, "there is no sweep 'xyz'; those are default"),
        ({"audit": {"test_sizes": [1.5]}}, "test_sizes"),
    ],
)
def test_wrong_parameters_fail_before_anything_runs(project, wrong, message):
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(project)
    with (
        KedroSession.create(project, runtime_params={"hi_profiles": wrong}) as session,
        pytest.raises(Exception, match=message),
    ):
        session.run()
    assert not (project / "data").exists()


def test_a_wrong_cluster_fails_before_anything_runs(project):
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(project)
    wrong = {"cluster": {"address": "tcp://a:1", "slurm": {"queue": "long"}, "n_workers": 2}}
    with (
        KedroSession.create(project, runtime_params=wrong) as session,
        pytest.raises(Exception, match=r"cluster\.address or cluster\.slurm"),
    ):
        session.run()
    assert not (project / "data").exists()


def test_no_address_of_an_index_or_registry_is_in_the_repository(root):
    for name in ("requirements.lock", "pyproject.toml", "Makefile"):
        assert not re.search(r"https?://(?!127\.0\.0\.1)", (root / name).read_text()), name


def test_telemetry_is_off(root):
    assert "consent: false" in (root / ".telemetry").read_text()
    makefile = (root / "Makefile").read_text()
    assert "MLFLOW_DISABLE_TELEMETRY := true" in makefile
