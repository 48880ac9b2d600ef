"""The whole study on tiny samples, through Kedro, with the real catalog in an empty folder."""

import contextlib
import io
import warnings

import numpy as np
import pandas as pd
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

SMALL = {
    "hi_profiles": {
        "simulation": {"n_profiles": 45, "snr_median": 60.0},
        "features": {"size": 8, "n_halves_figures": 1, "n_realisations": 8},
        "augmentation": {"n_folds": 3, "n_copies": 1},
        "training": {
            "epochs": 3,
            "min_epochs": 1,
            "n_workers": 1,
            "configurations": [
                {"name": "tiny", "widths": [4, 4]},
                {"name": "all-models", "widths": [4], "image_models": [1, 2, 3]},
            ],
        },
    }
}

# Third-party libraries warn about each other.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]


def run(project, pipeline="__default__", env="base", **runtime_params):
    bootstrap_project(project)
    with KedroSession.create(project, env=env, runtime_params=runtime_params) as session:
        return session.run(pipeline_names=[pipeline])


@pytest.fixture(scope="module")
def finished(shared_project):
    """A finished default run and what it printed."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(shared_project, **SMALL)
    return shared_project, shown.getvalue()


def test_the_default_run_ends_with_a_table_and_the_paths(finished):
    project, shown = finished
    for words in ("success rate (95 %)", "chance", "A_flux baseline", "tiny", "all-models"):
        assert words in shown
    for path in ("report.html", "success_rates.csv", "sample.pdf"):
        assert f"data/08_reporting/hi_profiles/{path}" in shown
        assert (project / "data/08_reporting/hi_profiles" / path).stat().st_size > 100
    assert "MLflow: run" in shown


def test_every_stage_leaves_what_the_next_needs(finished):
    project, _ = finished
    data = project / "data"
    raw = sorted((data / "01_raw/hi_profiles/spectra").iterdir())
    assert [p.name for p in raw[:2]] == ["CIG000001.fits", "CIG000002.fits"]
    profiles = pd.read_csv(data / "02_intermediate/hi_profiles/profiles.csv")
    rejected = pd.read_csv(data / "02_intermediate/hi_profiles/rejected.csv")
    assert len(profiles) + len(rejected) == len(raw) == 45
    images = np.load(data / "04_feature/hi_profiles/images.npy", mmap_mode="r")
    assert images.shape == (len(profiles), 3, 8, 8, 1)
    manifest = pd.read_csv(data / "05_model_input/hi_profiles/split_manifest.csv")
    copies = pd.read_csv(data / "05_model_input/hi_profiles/augmentation_manifest.csv")
    augmented = np.load(data / "05_model_input/hi_profiles/augmented_images.npy", mmap_mode="r")
    assert len(copies) == len(augmented)
    for (seed, fold), part in copies.groupby(["seed", "fold"]):
        split = manifest[(manifest["seed"] == seed) & (manifest["fold"] == fold)]
        assert set(part["id"]) == set(split.loc[split["role"] == "train", "id"])
    predictions = pd.read_csv(data / "07_model_output/hi_profiles/predictions.csv")
    tested = manifest.loc[manifest["role"] == "test", ["fold", "id"]]
    for _, part in predictions.groupby("configuration"):
        assert len(part.merge(tested, on=["fold", "id"])) == len(part) == len(tested)
    assert {p.name for p in (data / "06_models/hi_profiles/networks").iterdir()} == {
        "tiny.keras",
        "all-models.keras",
    }
    books = data / "08_reporting/hi_profiles/predictions"
    sheets = pd.read_excel(books / "tiny.xlsx", sheet_name=None)
    assert set(sheets) == {"predictions", "merged", "confusion"}


def test_mlflow_holds_a_child_for_each_configuration_with_the_same_keys(finished):
    from mlflow import MlflowClient

    project, _ = finished
    client = MlflowClient(tracking_uri=f"sqlite:///{project}/mlflow.db")
    experiment = client.get_experiment_by_name("hi_profiles")
    runs = client.search_runs([experiment.experiment_id])
    children = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    (parent,) = (r for r in runs if "mlflow.parentRunId" not in r.data.tags)
    assert {r.data.tags["mlflow.runName"] for r in children} > {"tiny", "all-models"}
    networks = [r for r in children if r.data.params["kind"] == "network"]
    assert len({frozenset(r.data.params) for r in children}) == 1
    assert {"success_rate", "chance_level", "success_low"} <= set(networks[0].data.metrics)
    assert len(client.get_metric_history(networks[0].info.run_id, "epoch_loss")) == 3
    names = {a.path for a in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "rejected.csv", "model_info.json", "split_manifest.csv"} <= names
    assert parent.info.status == "FINISHED"
    assert len(parent.data.tags["data_fingerprint"]) == 64


def test_stages_run_one_by_one(finished):
    project, _ = finished
    path = project / "data/08_reporting/hi_profiles/success_rates.csv"
    first = pd.read_csv(path)
    path.unlink()
    run(project, "hi_profiles.reporting", **SMALL)
    pd.testing.assert_frame_equal(first, pd.read_csv(path))


def test_the_same_run_twice_gives_the_same_success_rates(finished):
    project, _ = finished
    path = project / "data/08_reporting/hi_profiles/success_rates.csv"
    first = pd.read_csv(path)
    run(project, **SMALL)
    pd.testing.assert_frame_equal(first, pd.read_csv(path))


@pytest.mark.parametrize(("folder", "n_files"), [("alfalfa", 3), ("fast", 20)])
def test_real_folders_run_to_the_end(project, real_observations, folder, n_files):
    small = {"hi_profiles": {key: SMALL["hi_profiles"][key] for key in ("features", "training")}}
    small["hi_profiles"]["augmentation"] = {"seeds": [0], "n_folds": 3}
    run(project, "hi_profiles", "real", folder=str(real_observations / folder), **small)
    tables = project / "data/real/02_intermediate/hi_profiles"
    assert sum(len(pd.read_csv(tables / f"{n}.csv")) for n in ("profiles", "rejected")) == n_files
    report = (project / "data/real/08_reporting/hi_profiles/report.html").read_text()
    assert "measured A_flux" in report


def test_an_empty_folder_is_one_clear_error(project):
    empty = project / "empty"
    empty.mkdir()
    with pytest.raises(Exception, match=r"empty holds no files: spectra expected"):
        run(project, "hi_profiles", "real", folder=str(empty))


def test_published_rendering_runs_too(project):
    paper = {"hi_profiles": {**SMALL["hi_profiles"]}}
    paper["hi_profiles"]["features"] = {"size": 16, "n_halves_figures": 1}
    paper["hi_profiles"]["augmentation"] = {"n_folds": 2, "seeds": [42]}
    paper["hi_profiles"]["training"] = {
        "epochs": 1, "n_workers": 1, "configurations": [{"name": "tiny", "widths": [4]}],
    }  # fmt: skip
    run(project, env="paper", **paper)
    painted = project / "data/paper/04_feature/hi_profiles/painted_images"
    assert (painted / "CIG000001_rot_im_1.jpeg").exists()


def test_kedro_viz_shows_the_stages_as_layers_and_previews(finished):
    import json
    import subprocess
    import sys

    project, _ = finished
    command = [sys.executable, "-m", "kedro", "viz", "build", "--include-previews"]
    subprocess.run(command, cwd=project, check=True, capture_output=True, timeout=240)
    main = json.loads((project / "build/api/main").read_text())
    shown = main["layers"]
    stages = ["ingestion", "features", "augmentation", "training", "reporting"]
    assert [layer for layer in shown if layer in stages] == stages
    identifiers = {node["name"]: node["id"] for node in main["nodes"] if node["type"] == "data"}
    previews = {
        "hi_profiles.asymmetry": "TablePreview",
        "hi_profiles.images": "ImagePreview",
        "hi_profiles.success_rate_figure": "ImagePreview",
        "hi_profiles.example_model": "TablePreview",
    }
    for name, kind in previews.items():
        node = json.loads((project / "build/api/nodes" / identifiers[name]).read_text())
        assert node["preview"], name
        assert node["preview_type"] == kind, name
