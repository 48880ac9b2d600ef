"""The whole study on tiny samples, through Kedro, with the real catalog in an empty folder."""

import contextlib
import io
import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

SMALL = {
    "cluster": {"n_workers": 0},
    "hi_profiles": {
        "simulation": {"n_profiles": 45, "snr_median": 60.0},
        "features": {"size": 8, "n_halves_figures": 1, "n_realisations": 8},
        "augmentation": {"n_folds": 2, "n_inner_folds": 2, "n_copies": 1},
        "network": {"widths": [4, 4]},
        "training": {"epochs": 3, "min_epochs": 1},
        "pretraining": {"n_profiles": 64, "epochs": 1},
        "sweeps": {
            "named": {
                "default": {
                    "grid": {
                        "network.architecture": ["folded_cnn"],
                        "training.start": ["scratch", "fine_tuned"],
                    },
                    "n_permutations": 1,
                }
            }
        },
        "audit": {
            "test_sizes": [0.5], "split_seeds": [42], "epochs": [1, 2], "widths": [[4]],
            "n_shuffles": 50,
        },
    },
}  # fmt: skip
SCRATCH, TUNED = "01 scratch", "02 fine_tuned"
NESTED = "nested: best of the inner folds"
KINDS = ("random", "true", "shuffled")

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


def read(project, path, **options):
    return pd.read_csv(project / "data" / path, **options)


def test_the_default_run_ends_with_a_table_and_the_paths(finished):
    project, shown = finished
    for words in ("success rate (95 %)", "chance", "A_flux baseline", NESTED, SCRATCH, TUNED):
        assert words in shown
    assert "The first p-value is of the whole procedure, 1 shuffles." in shown
    assert "Audit. With random training labels, as published" in shown
    for path in ("report.html", "success_rates.csv", "sample.pdf"):
        assert f"data/08_reporting/hi_profiles/{path}" in shown
        assert (project / "data/08_reporting/hi_profiles" / path).stat().st_size > 100
    assert "MLflow: run" in shown


def test_files_become_profiles_images_and_copies(finished):
    project, _ = finished
    raw = sorted((project / "data/01_raw/hi_profiles/observations").iterdir())
    assert [p.name for p in raw[:2]] == ["CIG000001.fits", "CIG000002.fits"]
    profiles = read(project, "02_intermediate/hi_profiles/profiles.csv")
    rejected = read(project, "02_intermediate/hi_profiles/rejected.csv")
    assert len(profiles) + len(rejected) == len(raw) == 45
    (images,) = (project / "data/04_feature/hi_profiles/images").iterdir()
    assert np.load(images, mmap_mode="r").shape == (len(profiles), 3, 8, 8, 1)
    copies = read(project, "05_model_input/hi_profiles/augmentation_manifest.csv")
    (augmented,) = (project / "data/05_model_input/hi_profiles/augmented_images").iterdir()
    assert len(copies) == len(np.load(augmented, mmap_mode="r"))
    manifest = read(project, "05_model_input/hi_profiles/split_manifest.csv")
    assert set(copies["id"]) == set(manifest["id"])
    assert (manifest["fold"].nunique(), manifest["inner"].nunique()) == (2, 2)


def test_one_network_is_pretrained_on_simulated_profiles(finished):
    project, _ = finished
    data = project / "data"
    (images,) = (data / "05_model_input/hi_profiles/pretraining_images").iterdir()
    targets = np.load(data / "05_model_input/hi_profiles/pretraining_targets.npy")
    assert len(np.load(images, mmap_mode="r")) == len(targets) > 50
    (network,) = (data / "06_models/hi_profiles/pretrained").iterdir()
    assert network.name.startswith("folded_cnn-")


def test_every_galaxy_is_tested_once_by_everything(finished):
    project, _ = finished
    predictions = read(project, "07_model_output/hi_profiles/predictions.csv")
    manifest = read(project, "05_model_input/hi_profiles/split_manifest.csv")
    tested = manifest.loc[(manifest["role"] == "test") & (manifest["inner"] == 0), ["fold", "id"]]
    names = set(predictions["configuration"])
    assert {NESTED, SCRATCH, TUNED} < names
    assert len(names) == 6
    for _, part in predictions.groupby("configuration"):
        assert len(part.merge(tested, on=["fold", "id"])) == len(part) == len(tested)


def test_the_nested_row_comes_first_with_a_p_value_of_the_whole_procedure(finished):
    project, _ = finished
    scores = read(project, "08_reporting/hi_profiles/success_rates.csv")
    assert scores["configuration"].tolist()[:3] == [NESTED, SCRATCH, TUNED]
    assert scores["p_value_of"].tolist()[:2] == [
        "the whole procedure, 1 shuffles", "these predictions",
    ]  # fmt: skip
    assert scores["p_value"].iloc[0] in (0.5, 1.0)
    selection = read(project, "08_reporting/hi_profiles/selection.csv")
    assert selection["fold"].tolist() == [0, 1]
    assert set(selection["configuration"]) <= {SCRATCH, TUNED}


def audit_books(folder):
    return {path.name for path in (folder / "08_reporting/hi_profiles/audit").iterdir()}


def test_the_published_protocol_is_audited(finished):
    project, _ = finished
    fits = read(project, "07_model_output/hi_profiles/audit_fits.csv")
    assert fits["labels"].tolist() == [kind for kind in KINDS for _ in range(2)]
    summary = read(project, "08_reporting/hi_profiles/audit.csv")
    assert len(summary) == 3 * 5
    assert audit_books(project / "data") == {
        f"{what}_results_{kind}_0.5_42_{epochs}_4.xlsx"
        for what in ("classification", "transformation")
        for kind in KINDS
        for epochs in (1, 2)
    }
    book = "transformation_results_true_0.5_42_2_4.xlsx"
    sheets = pd.read_excel(project / "data/08_reporting/hi_profiles/audit" / book, sheet_name=None)
    assert set(sheets) == {"Transformation_Summary", "Merged_Data"}
    assert len(sheets["Transformation_Summary"]) == 6  # three classes


def test_workbooks_and_explanations_are_written(finished):
    project, _ = finished
    folder = project / "data/08_reporting/hi_profiles"
    sheets = pd.read_excel(folder / "predictions/01_scratch.xlsx", sheet_name=None)
    assert set(sheets) == {"predictions", "merged", "confusion"}
    assert len(list((folder / "predictions").iterdir())) == 6
    explained = pd.read_csv(folder / "explanations.csv")
    classes = read(project, "05_model_input/hi_profiles/classes.csv")
    assert explained["id"].nunique() == classes["used"].sum()
    figures = "success_rate learning_curves confusion sample_images a_flux reliability audit"
    for name in [*figures.split(), "permutation", "explanations"]:
        assert (folder / f"{name}.png").stat().st_size > 1000, name
    assert (folder / "report.html").read_text().count("<img ") == 9


def mlflow_of(project):
    """Client, parent run and children of the first run in the project's store."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{project}/mlflow.db")
    experiment = client.get_experiment_by_name("hi_profiles")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    parent = next(r for r in runs if "mlflow.parentRunId" not in r.data.tags)
    mine = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    return client, parent, mine


def test_mlflow_holds_a_child_for_each_configuration_with_the_same_keys(finished):
    client, parent, children = mlflow_of(finished[0])
    assert {NESTED, SCRATCH, TUNED} < {r.data.tags["mlflow.runName"] for r in children}
    assert len(children) == 6  # each once, though it was told as it finished and at the end
    networks = [r for r in children if r.data.params["kind"] == "network"]
    assert len({frozenset(r.data.params) for r in children}) == 1
    for run in networks:
        assert {"success_rate", "chance_level", "success_low", "inner_score"} <= set(
            run.data.metrics
        )
        assert len(client.get_metric_history(run.info.run_id, "epoch_loss")) == 3
    names = {a.path for a in client.list_artifacts(parent.info.run_id)}
    wanted = "report.html rejected.csv model_info.json split_manifest.csv selection.csv audit.csv"
    assert set(wanted.split()) <= names
    assert {r.info.status for r in (parent, *children)} == {"FINISHED"}
    assert len(parent.data.tags["data_fingerprint"]) == 64
    assert "audit_best_true" in parent.data.params
    assert parent.data.params["start"] == "varied"
    assert parent.data.params["architecture"] == "folded_cnn"  # the one value of its axis


def test_the_final_network_is_in_the_registry_with_its_description(finished):
    project, _ = finished
    client, parent, _ = mlflow_of(project)
    version = client.get_model_version_by_alias("hi_profiles", "selected")
    # A later run may have moved the alias; the first version is of the first run.
    first = client.get_model_version("hi_profiles", "1")
    assert first.run_id == parent.info.run_id
    names = "symmetric, slightly lopsided, strongly lopsided"
    assert first.tags["class_names"] == version.tags["class_names"] == names
    description = json.loads((project / "data/06_models/hi_profiles/classifier.json").read_text())
    assert description["trained"] is True
    assert description["class_values"] == [0, 1, 2]
    assert 0.1 <= description["temperature"] <= 10


def test_stages_run_one_by_one(finished):
    project, _ = finished
    path = project / "data/08_reporting/hi_profiles/success_rates.csv"
    first = pd.read_csv(path)
    path.unlink()
    run(project, "hi_profiles.reporting", **SMALL)
    pd.testing.assert_frame_equal(first, pd.read_csv(path))


def test_the_same_run_twice_fits_nothing_and_gives_the_same_tables(finished, monkeypatch):
    from skyloom.pipelines.hi_profiles import fitting

    project, _ = finished
    tables = [
        "08_reporting/hi_profiles/success_rates.csv",
        "08_reporting/hi_profiles/selection.csv",
        "07_model_output/hi_profiles/network_predictions.csv",
        "07_model_output/hi_profiles/audit_fits.csv",
        "07_model_output/hi_profiles/permutations.csv",
    ]
    first = [read(project, path) for path in tables]
    fits = []
    fit = fitting.fit_network

    def counted(*arguments):
        fits.append(arguments)
        return fit(*arguments)

    monkeypatch.setattr(fitting, "fit_network", counted)
    run(project, **SMALL)
    for path, table in zip(tables, first, strict=True):
        pd.testing.assert_frame_equal(table, read(project, path))
    assert fits == []


def test_new_spectra_are_classified_by_the_registered_network(finished, capsys):
    project, _ = finished
    run(project, "hi_profiles.prediction", **SMALL)
    folder = project / "data/08_reporting/hi_profiles/prediction"
    table = pd.read_csv(folder / "classes.csv")
    rejected = pd.read_csv(folder / "rejected.csv")
    assert len(table) + len(rejected) == 45
    done = table[table["not_classified"].isna()]
    assert set(done["class"]) <= {"symmetric", "slightly lopsided", "strongly lopsided"}
    probability = done.filter(like="probability_").to_numpy()
    assert probability.shape[1] == 3
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-4)
    assert set(pd.read_excel(folder / "classes.xlsx", sheet_name=None)) == {"classes", "rejected"}
    shown = capsys.readouterr().out
    assert f"45 files: {len(done)} classified" in shown
    assert "prediction/classes.csv" in shown
    assert (folder / "explanations.png").exists()


def test_a_folder_of_one_s_own_and_a_version_of_the_network_can_be_named(finished, tmp_path):
    project, _ = finished
    spectra = project / "data/01_raw/hi_profiles/observations"
    for name in ("CIG000003.fits", "CIG000004.fits"):
        (tmp_path / name).write_bytes((spectra / name).read_bytes())
    known, unknown = "models:/hi_profiles/1", "models:/hi_profiles/77"
    run(project, "hi_profiles.prediction", **SMALL, folder=str(tmp_path), model=known)
    table = read(project, "08_reporting/hi_profiles/prediction/classes.csv")
    assert table["id"].tolist() == ["CIG000003", "CIG000004"]
    with pytest.raises(Exception, match=f"no model '{unknown}' to classify with"):
        run(project, "hi_profiles.prediction", **SMALL, folder=str(tmp_path), model=unknown)


@pytest.mark.parametrize(("folder", "n_files"), [("alfalfa", 3), ("fast", 20)])
def test_real_folders_run_to_the_end(project, real_observations, folder, n_files):
    sections = ("features", "network", "training", "pretraining")
    small = {"hi_profiles": {key: SMALL["hi_profiles"][key] for key in sections}}
    small["hi_profiles"]["augmentation"] = {"seeds": [0], "n_folds": 3, "n_inner_folds": 2}
    small["cluster"] = SMALL["cluster"]
    run(project, "hi_profiles", "real", folder=str(real_observations / folder), **small)
    tables = project / "data/real/02_intermediate/hi_profiles"
    assert sum(len(pd.read_csv(tables / f"{n}.csv")) for n in ("profiles", "rejected")) == n_files
    report = (project / "data/real/08_reporting/hi_profiles/report.html").read_text()
    assert "measured A_flux" in report
    assert "Audit: the published protocol" not in report


def test_an_empty_folder_is_one_clear_error(project):
    empty = project / "empty"
    empty.mkdir()
    with pytest.raises(Exception, match=r"empty holds no files: observations expected"):
        run(project, "hi_profiles", "real", folder=str(empty))


def test_published_images_run_through_both_protocols(project):
    paper = {"cluster": SMALL["cluster"], "hi_profiles": {**SMALL["hi_profiles"]}}
    paper["hi_profiles"] |= {
        "features": {"size": 16, "n_halves_figures": 1},
        "augmentation": {"n_folds": 2, "n_inner_folds": 2},
        "sweeps": {
            "named": {"default": {"grid": {"training.epochs": [1, 2], "network.widths": [[4]]}}}
        },
    }
    run(project, env="paper", **paper)
    data = project / "data/paper"
    painted = data / "04_feature/hi_profiles/painted_images"
    assert (painted / "CIG000001_rot_im_1.jpeg").exists()
    (images,) = (data / "04_feature/hi_profiles/images").iterdir()
    drawn = np.load(images, mmap_mode="r")
    assert drawn.shape[1:] == (3, 16, 16, 1)
    assert 0 <= drawn.min() < drawn.max() <= 1
    scores = pd.read_csv(data / "08_reporting/hi_profiles/success_rates.csv")
    assert scores["configuration"].tolist()[:3] == [NESTED, "01 epochs 1", "02 epochs 2"]
    # Numbers of epochs share a fit, in the sweep and in the audit, whose winners are fitted again.
    audited = pd.read_csv(data / "07_model_output/hi_profiles/audit_fits.csv")
    n_fits = len(list((data / "06_models/hi_profiles/finished_fits").rglob("*.npz")))
    assert n_fits == 4 + len(KINDS) + audited["is_winner"].sum()
    assert (data / "08_reporting/hi_profiles/audit.png").stat().st_size > 1000
    assert audit_books(data) == {
        f"{what}_results_{kind}_0.5_42_{epochs}_4.xlsx"
        for what in ("classification", "transformation")
        for kind in KINDS
        for epochs in (1, 2)
    }


@pytest.fixture(scope="module")
def viz(finished):
    """What kedro-viz makes of the finished project, and what it printed."""
    import subprocess
    import sys

    project, _ = finished
    run(project, "hi_profiles.prediction", **SMALL)
    command = [sys.executable, "-m", "kedro", "viz", "build", "--include-previews"]
    done = subprocess.run(
        command, cwd=project, check=True, capture_output=True, text=True, timeout=240
    )
    main = json.loads((project / "build/api/main").read_text())
    return project / "build/api/nodes", main, done.stdout + done.stderr


def test_kedro_viz_shows_the_stages_as_layers(viz):
    _, main, shown = viz
    stages = ["ingestion", "features", "augmentation", "training", "reporting"]
    assert "circular dependency" not in shown
    assert [layer for layer in main["layers"] if layer in stages] == stages


def test_kedro_viz_shows_previews(viz):
    folder, main, _ = viz
    identifiers = {node["name"]: node["id"] for node in main["nodes"] if node["type"] == "data"}
    previews = {
        "hi_profiles.asymmetry": "TablePreview",
        "hi_profiles.images": "ImagePreview",
        "hi_profiles.pretraining_images": "ImagePreview",
        "hi_profiles.inner_scores": "TablePreview",
        "hi_profiles.audit_fits": "TablePreview",
        "hi_profiles.success_rate_figure": "ImagePreview",
        "hi_profiles.classifier": "TablePreview",
    }
    for name, kind in previews.items():
        node = json.loads((folder / identifiers[name]).read_text())
        assert node["preview"], name
        assert node["preview_type"] == kind, name


def test_no_result_is_one_that_kedro_viz_tries_to_preview_in_vain(viz):
    # Another study has no results here, which kedro-viz says.
    assert not re.search(r"hi_profiles\.\S+' could not be previewed", viz[2])
