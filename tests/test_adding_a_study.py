"""The page that says how to add a study, followed to the letter."""

import contextlib
import io
import re
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

import skyloom.pipeline_registry
import skyloom.pipelines
from skyloom.raw_files import NothingUsableError

STUDY = "brightness"
BLOCK = re.compile(r"```\w+\n(?:#|\{#) (src/skyloom/\S+|conf/\S+)[^\n]*\n(.*?)```", re.DOTALL)
CONFIGURATIONS = ["01 linear", "02 root"]

# Third-party libraries warn about each other.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]


@pytest.fixture(scope="module")
def files(root):
    """What the page says is to be written."""
    return dict(BLOCK.findall((root / "docs/adding_a_study.md").read_text()))


@pytest.fixture(scope="module")
def study(files, shared_project):
    """The page's study in a project of its own, registered for the time of these tests."""
    for name, content in files.items():
        path = shared_project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    with pytest.MonkeyPatch.context() as patch:
        folder = str(shared_project / "src/skyloom/pipelines")
        patch.setattr(skyloom.pipelines, "__path__", [*skyloom.pipelines.__path__, folder])
        # Alone, which takes less time.
        for other in skyloom.pipeline_registry.STUDIES:
            for folder in shared_project.glob(f"conf/*/{other}"):
                shutil.rmtree(folder)
        patch.setattr(skyloom.pipeline_registry, "STUDIES", (STUDY,))
        yield shared_project


def run(project, *pipelines, **runtime_params):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bootstrap_project(project)
        runtime_params = {"cluster": {"n_workers": 0}, **runtime_params}
        with KedroSession.create(project, runtime_params=runtime_params) as session:
            session.run(pipeline_names=[f"{STUDY}{pipeline}" for pipeline in pipelines])
    return shown.getvalue()


@pytest.fixture(scope="module")
def finished(study):
    return study, run(study, ".simulation", "")


def test_the_page_has_all_files_of_a_study(files):
    folder = f"src/skyloom/pipelines/{STUDY}"
    modules = (
        "parameters", "simulation", "ingestion", "features", "augmentation", "fitting", "training",
        "reporting", "prediction", "pipeline",
    )  # fmt: skip
    expected = {f"{folder}/{name}.py" for name in modules}
    expected |= {f"{folder}/report.html.jinja"}
    expected |= {f"conf/base/{STUDY}/{name}.yml" for name in ("catalog", "parameters")}
    assert set(files) == expected


def test_the_study_ends_with_a_table_beside_chance_and_the_classical_method(finished):
    project, shown = finished
    for words in ("error (95 %)", "chance", "aperture photometry", *CONFIGURATIONS):
        assert words in shown
    scores = pd.read_csv(project / f"data/08_reporting/{STUDY}/success_rates.csv")
    assert scores["kind"].tolist() == ["nested", "network", "network", "baseline"]
    assert scores["n_objects"].eq(60).all()
    assert scores["mae"].iloc[0] < scores["chance_level"].iloc[0] / 2
    report = (project / f"data/08_reporting/{STUDY}/report.html").read_text()
    assert "Brightnesses" in report
    assert "inner minus mean absolute error" in report


def test_its_run_in_mlflow_has_a_child_for_each_configuration_and_a_registered_network(finished):
    from mlflow import MlflowClient

    project, _ = finished
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == STUDY]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    children = {r.info.run_name for r in runs if r is not parent}
    assert children == {*CONFIGURATIONS, "nested: best of the inner folds", "aperture photometry"}
    assert parent.data.metrics["mae"] < parent.data.metrics["chance_level"]
    assert parent.data.params["best_baseline"] == "aperture photometry"
    assert parent.data.params["stretch"] == "varied"
    assert client.get_model_version_by_alias(STUDY, "selected").run_id == parent.info.run_id


def test_it_goes_on_where_it_stopped(finished):
    project, _ = finished
    store = project / f"data/06_models/{STUDY}/finished_fits"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*.npz")}
    table = project / f"data/08_reporting/{STUDY}/success_rates.csv"
    first = table.read_bytes()
    run(project, "")
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*.npz")} == before
    assert table.read_bytes() == first


def test_new_images_are_measured_and_broken_ones_are_listed(finished, tmp_path):
    project, _ = finished
    source = project / f"data/01_raw/{STUDY}/observations"
    for name in ("S001.fits", "S002.fits"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    (tmp_path / "broken.fits").write_bytes((source / "S003.fits").read_bytes()[:3000])
    run(project, ".prediction", folder=str(tmp_path))
    folder = project / f"data/08_reporting/{STUDY}/prediction"
    table = pd.read_csv(folder / "classes.csv")
    truth = pd.read_csv(project / f"data/01_raw/{STUDY}/truth.csv").set_index("id")["brightness"]
    assert table["id"].tolist() == ["S001", "S002"]
    np.testing.assert_allclose(table["brightness"], truth.loc[table["id"]], atol=0.25)
    assert pd.read_csv(folder / "rejected.csv")["file"].tolist() == ["broken.fits"]


def test_a_folder_of_broken_images_ends_with_the_reasons_and_their_list(finished, tmp_path):
    project, _ = finished
    (tmp_path / "torn.fits").write_bytes(b"SIMPLE")
    folder = project / f"data/08_reporting/{STUDY}/prediction"
    with pytest.raises(NothingUsableError, match=rf"none of 1 files .* in {folder}/rejected\.csv"):
        run(project, ".prediction", folder=str(tmp_path))
    assert pd.read_csv(folder / "rejected.csv")["file"].tolist() == ["torn.fits"]


def test_a_misspelt_parameter_of_it_stops_the_run(study):
    with pytest.raises(Exception, match="denze"):
        run(study, "", **{STUDY: {"network": {"denze": 3}}})
