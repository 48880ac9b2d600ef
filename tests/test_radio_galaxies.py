"""The study of radio galaxies on tiny samples, through Kedro, with the real catalog."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
import yaml
from astropy.io import fits
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from PIL import Image

from skyloom.simulate.radio_galaxies import draw_truth, fit_distributions, observe, to_hdu

STUDY = "radio_galaxies"
SMALL = {
    "simulation": {"n_sources": 72, "size": 80, "sources": {"snr_median": 90.0, "offset": 0.0}},
    "ingestion": {"size": 80, "reject_at_edge": False},
    "features": {"crop": 64, "size": 24},
    "augmentation": {"seeds": [0, 1]},
    "synthetic": {"n_images": 40},
    "generators": {
        "size": 24, "width": 16, "latent": 4, "epochs": {"dcgan": 3, "vae": 2},
        "checkpoint_every": 1,
    },
    "network": {"widths": [4, 8], "dense": 8},
    "training": {"epochs": 2, "steps_per_epoch": 3},
    "bending": {"epochs": 2, "steps_per_epoch": 3},
}  # fmt: skip
ARMS = ["01 real", "02 real + geometric", "03 real + dcgan", "04 real + vae", "05 geometric"]
BASELINES = ["image moments, random forest", "moments, logistic regression", "majority class"]

# Third-party libraries warn about each other.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]


def configure(project):
    """Write the small settings into the project, as its user would."""
    path = project / f"conf/base/{STUDY}/parameters.yml"
    content = yaml.safe_load(path.read_text())
    for section, values in SMALL.items():
        content[STUDY][section] = content[STUDY].get(section, {}) | values
    path.write_text(yaml.safe_dump(content))


def run(project, *pipelines, env="base", **runtime_params):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bootstrap_project(project)
        runtime_params = {"cluster": {"n_workers": 0}, **runtime_params}
        with KedroSession.create(project, env=env, runtime_params=runtime_params) as session:
            session.run(pipeline_names=[f"{STUDY}{pipeline}" for pipeline in pipelines])
    return shown.getvalue()


@pytest.fixture(autouse=True, scope="module")
def _short_fits():
    """Distributions are fitted to fewer images; the tests of the simulation fit to enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fit_distributions.__kwdefaults__, "n_simulated", 100)
        yield


@pytest.fixture(scope="module")
def finished(shared_project):
    """A finished run and what it printed."""
    configure(shared_project)
    return shared_project, run(shared_project, ".simulation", "")


def reported(project, name, folder=""):
    return pd.read_csv(project / "data/08_reporting" / STUDY / folder / name)


def test_the_run_ends_with_a_table_and_the_paths(finished):
    project, shown = finished
    for words in ("success rate (95 %)", "image moments baseline", *ARMS, *BASELINES):
        assert words in shown
    assert "Bending angle, mean absolute error (deg): " in shown
    assert f"data/08_reporting/{STUDY}/report.html" in shown
    page = (project / f"data/08_reporting/{STUDY}/report.html").read_text()
    info = json.loads((project / f"data/08_reporting/{STUDY}/model_info.json").read_text())
    assert info["Bending angles"].startswith("Known of ")
    assert "0 of them have no class" in info["Bending angles"]
    for title in ("Recall of each class", "Quality of the synthetic images", "Bending angle",
                  "Model info sheet", "Networks that make images"):  # fmt: skip
        assert title in page
    assert page.count("data:image/png;base64,") == 10  # no sweep along an axis, all angles known


def test_every_arm_and_baseline_is_scored_on_the_same_sources(finished):
    project, _ = finished
    scores = reported(project, "success_rates.csv")
    assert scores["configuration"].tolist()[1:] == ARMS + BASELINES
    assert set(scores["n_objects"]) == {scores["n_objects"].iloc[0]}
    assert scores["n_seeds"].eq(2).all()
    for k in range(4):
        assert (scores[f"recall_{k}_low"] <= scores[f"recall_{k}"] + 1e-12).all()
        assert (scores[f"recall_{k}"] <= scores[f"recall_{k}_high"] + 1e-12).all()
    arms = reported(project, "arms.csv").set_index("configuration")
    assert arms.loc[ARMS[0], ["difference", "difference_low", "difference_high"]].eq(0).all()
    for name in ("success_rate", "macro_f1", "difference"):
        assert (arms[f"{name}_low"] <= arms[name] + 1e-12).all(), name
        assert (arms[name] <= arms[f"{name}_high"] + 1e-12).all(), name


def test_synthetic_images_are_of_the_training_part_and_labelled(finished):
    project, _ = finished
    folder = project / f"data/05_model_input/{STUDY}"
    synthetic = pd.read_csv(folder / "synthetic.csv")
    kinds = synthetic["pool"].str.partition("_")[0]
    assert kinds.value_counts().to_dict() == {"geometric": 40, "dcgan": 40, "vae": 40}
    for pool, part in synthetic.groupby("pool"):
        images = np.load(folder / f"synthetic_images/{pool}.npy")
        assert images.shape == (len(part), 24, 24, 1)
        np.testing.assert_allclose(images.max(axis=(1, 2, 3)), 1, atol=1e-6)
    geometric = synthetic[kinds == "geometric"]
    assert geometric["bending_angle"].notna().sum() == (geometric["class"] != 3).sum()
    assert synthetic.loc[kinds != "geometric", "bending_angle"].isna().all()


def test_generators_see_nothing_of_what_is_tested(finished):
    """Other test images: every piece of their training is found again, and none is made anew."""
    project, _ = finished
    before = {file.name for file in pieces(project)}
    path = project / f"data/02_intermediate/{STUDY}/cutouts.npy"
    cutouts = np.load(path)
    manifest = pd.read_csv(project / f"data/05_model_input/{STUDY}/split_manifest.csv")
    sample = pd.read_csv(project / f"data/03_primary/{STUDY}/sample.csv")
    learnt = set(manifest.loc[manifest["role"] == "train", "id"])
    changed = cutouts.copy()
    changed[~sample["id"].isin(learnt).to_numpy()] = 7.0
    np.save(path, changed)
    run(project, ".augmentation")
    np.save(path, cutouts)
    assert {file.name for file in pieces(project)} == before


def test_generators_leave_a_film_a_sheet_a_history_and_a_verdict(finished):
    project, _ = finished
    folder = project / f"data/08_reporting/{STUDY}"
    history = pd.read_csv(project / f"data/06_models/{STUDY}/generator_history.csv")
    assert history.groupby("kind")["epoch"].max().to_dict() == {"dcgan": 3, "vae": 2}
    assert history.groupby("kind")["chosen"].sum().to_dict() == {"dcgan": 1, "vae": 1}
    for name, n_checkpoints in (("dcgan_fold_0", 3), ("vae_fold_0", 2)):
        with Image.open(folder / f"generator_films/{name}.gif") as film:
            assert film.n_frames == n_checkpoints
        with Image.open(folder / f"generator_sheets/{name}.png") as sheet:
            assert min(sheet.size) > 300
    quality = reported(project, "synthetic_quality.csv")
    assert quality["pool"].tolist() == ["observed, held out", "geometric", "dcgan", "vae"]
    histograms = reported(project, "synthetic_histograms.csv")
    assert histograms["images"].unique().tolist() == ["training", *quality["pool"]]
    # After so few epochs they make no sources, and the report says so.
    assert history.loc[history["chosen"], "verdict"].notna().any()
    info = json.loads((folder / "model_info.json").read_text())
    assert "Warning: " in info["Synthetic images"]


def test_angles_are_predicted_for_every_tested_source_that_has_one(finished):
    project, _ = finished
    table = pd.read_csv(project / f"data/07_model_output/{STUDY}/angle_predictions.csv")
    manifest = pd.read_csv(project / f"data/05_model_input/{STUDY}/split_manifest.csv")
    sample = pd.read_csv(project / f"data/03_primary/{STUDY}/sample.csv")
    tested = manifest.loc[manifest["role"] == "test", "id"].unique()
    expected = sample[sample["id"].isin(tested) & sample["bending_angle"].notna()]["id"]
    for (_, _), part in table.groupby(["configuration", "seed"]):
        assert sorted(part["id"]) == sorted(expected)
    scores = reported(project, "angle_scores.csv").set_index("configuration")
    assert scores["kind"].tolist() == ["nested", *["network"] * 3, *["baseline"] * 2]
    assert sorted(scores.index[1:]) == sorted(
        ["real", "real + geometric", "geometric", "predict the mean", "image moments"]
    )
    baselines = pd.read_csv(
        project / f"data/07_model_output/{STUDY}/angle_baseline_predictions.csv"
    )
    for _, part in baselines.groupby(["configuration", "seed"]):
        assert sorted(part["id"]) == sorted(expected)
    own = table[table["configuration"] == "real"]
    error = (own["predicted"] - own["target"]).abs()
    assert scores.loc["real", "mae"] == pytest.approx(error.groupby(own["id"]).mean().mean())


def test_mlflow_has_a_child_for_each_configuration(finished):
    from mlflow import MlflowClient

    project, _ = finished
    client = MlflowClient(tracking_uri=f"sqlite:///{project}/mlflow.db")
    experiment = client.get_experiment_by_name(STUDY)
    runs = client.search_runs([experiment.experiment_id])
    children = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    names = {run.data.tags["mlflow.runName"] for run in children}
    angles = {
        f"bending angle: {name}" for name in reported(project, "angle_scores.csv")["configuration"]
    }
    assert names == {*ARMS, *BASELINES, *angles, "nested: best of the inner folds"}
    (regression,) = (r for r in children if r.data.tags["mlflow.runName"] == "bending angle: real")
    scores = reported(project, "angle_scores.csv").set_index("configuration")
    assert regression.data.metrics["bending_mae"] == pytest.approx(scores.loc["real", "mae"])
    trained = SMALL["bending"] | {"n_copies": "None"}
    for key in ("epochs", "steps_per_epoch", "n_copies"):
        assert regression.data.params[key] == str(trained[key])
    assert regression.data.params["arm"] == "real"
    history = client.get_metric_history(regression.info.run_id, "epoch_bending_val_mae")
    assert len(history) == SMALL["bending"]["epochs"]
    keys = {frozenset(run.data.params) for run in children}
    assert len(keys) == 1
    assert client.get_model_version_by_alias(STUDY, "selected").version == 1


def test_new_cut_outs_are_classified(finished, tmp_path):
    project, _ = finished
    folder = tmp_path / "new"
    shutil.copytree(project / f"data/01_raw/{STUDY}/observations", folder)
    for path in sorted(folder.iterdir())[10:]:
        path.unlink()
    (folder / "notes.txt").write_text("no image")
    population = {"FRI": 0.4, "FRII": 0.4, "bent": 0.05, "compact": 0.15}
    asked = {STUDY: {"prediction": {"population": population}}}
    shown = run(project, ".prediction", folder=str(folder), **asked)
    assert "the population that was given (FRI 0.4, FRII 0.4, bent 0.05, compact 0.15)" in shown
    assert "11 files: 10 classified, 0 without a usable fit, 1 rejected" in shown
    table = reported(project, "classes.csv", "prediction")
    shares = table.filter(like="probability_")
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert table.filter(like="scatter_").notna().all(axis=None)
    named = shares.idxmax(axis=1).str.removeprefix("probability_")
    assert (named == table["class"]).all()
    compact = table["class"] == "compact"
    assert table.loc[compact, "bending_angle"].isna().all()
    assert table.loc[~compact, "bending_angle"].between(0, 180).all()
    assert (project / f"data/08_reporting/{STUDY}/prediction/classes.pdf").stat().st_size > 1000
    book = pd.read_excel(
        project / f"data/08_reporting/{STUDY}/prediction/classes.xlsx", sheet_name=None
    )
    assert list(book) == ["classes", "rejected"]


def test_another_sweep_of_the_same_sample_is_one_command(finished):
    project, _ = finished
    before = (project / f"data/08_reporting/{STUDY}/success_rates.csv").read_bytes()
    changed = {STUDY: {"sweeps": {"named": {"image_size": {"grid": {"features.size": [16, 24]}}}}}}
    run(project, "", sweep="image_size", **changed)
    scores = reported(project, "success_rates.csv", "image_size")
    assert scores["configuration"].tolist()[1:3] == ["01 size 16", "02 size 24"]
    page = (project / f"data/08_reporting/{STUDY}/image_size/report.html").read_text()
    assert "Along the axis of the sweep" in page
    assert (project / f"data/08_reporting/{STUDY}/success_rates.csv").read_bytes() == before


def test_the_network_is_searched_for_in_every_fold(finished):
    project, _ = finished
    search = {"n_trials": 2, "n_startup": 1, "space": {"network.widths": [[4], [4, 8]]}}
    changed = {"sweeps": {"named": {"network": {"search": search}}}}
    run(project, "", sweep="network", **{STUDY: changed})
    scores = reported(project, "success_rates.csv", "network")
    networks = scores[scores["kind"] == "network"]
    assert len(networks) == 4  # two trials for each of two seeds
    assert networks["n_seeds"].eq(1).all()
    assert scores.loc[0, "n_seeds"] == 2  # what was selected


def test_each_class_may_have_generators_of_its_own(finished):
    project, _ = finished
    own = {STUDY: {"generators": {"conditional": False}}}
    run(project, ".ingestion", ".features", ".augmentation", sweep="arms", **own)
    folder = project / f"data/06_models/{STUDY}/arms/generators"
    kinds = ("FRI", "FRII", "bent", "compact")
    expected = {f"{k}_fold_0_{name}.keras" for k in ("dcgan", "vae") for name in kinds}
    assert {path.name for path in folder.iterdir()} == expected
    synthetic = pd.read_csv(project / f"data/05_model_input/{STUDY}/arms/synthetic.csv")
    for kind in ("dcgan", "vae"):
        part = synthetic[synthetic["pool"].str.startswith(kind)]
        assert part["class"].value_counts().to_dict() == dict.fromkeys(range(4), 10)
        assert part["row"].tolist() == list(range(40))


def test_a_review_changes_the_sample(finished, tmp_path):
    project, _ = finished
    table = pd.read_csv(project / f"data/03_primary/{STUDY}/review.csv")
    dropped = table["id"].iloc[0]
    table.loc[0, "keep"] = "no"
    table.to_csv(tmp_path / "review.csv", index=False)
    run(project, ".ingestion", review=str(tmp_path / "review.csv"))
    sample = pd.read_csv(project / f"data/03_primary/{STUDY}/sample.csv").set_index("id")
    assert sample.loc[dropped, ["keep", "reason"]].tolist() == [False, "reviewed"]


def test_a_folder_without_labels_is_measured_and_drawn_all_the_same(finished):
    project, _ = finished
    small = {name: values for name, values in SMALL.items() if name != "simulation"}
    del small["augmentation"]
    folder = str(project / f"data/01_raw/{STUDY}/observations")
    shown = run(project, "", env="real", folder=folder, **{STUDY: small})
    assert "too few labelled sources to train and test a classifier" in shown
    root = project / "data/real"
    sample = pd.read_csv(root / f"03_primary/{STUDY}/sample.csv")
    assert len(sample) == 72
    (images,) = (root / f"04_feature/{STUDY}/images").iterdir()
    assert len(np.load(images)) == 72
    page = (root / f"08_reporting/{STUDY}/report.html").read_text()
    assert "Too few labelled sources" in page


def test_a_catalogue_of_angles_without_classes_teaches_the_regressor(finished, tmp_path):
    project, _ = finished
    sample = pd.read_csv(project / f"data/03_primary/{STUDY}/sample.csv")
    known = sample[sample["bending_angle"].notna()]
    known[["id", "bending_angle"]].to_csv(tmp_path / "angles.csv", index=False)
    small = {name: values for name, values in SMALL.items() if name != "simulation"}
    folder, labels = (
        str(project / f"data/01_raw/{STUDY}/observations"),
        str(tmp_path / "angles.csv"),
    )
    shown = run(project, "", env="real", folder=folder, labels=labels, **{STUDY: small})
    assert "too few labelled sources to train and test a classifier" in shown
    assert "Bending angle, mean absolute error (deg): " in shown
    root = project / "data/real"
    scores = pd.read_csv(root / f"08_reporting/{STUDY}/angle_scores.csv").set_index("configuration")
    assert scores["n_objects"].between(len(known) // 4, len(known) // 2).all()
    assert {"real", "real + geometric", "geometric"} <= set(scores.index)
    split = pd.read_csv(root / f"05_model_input/{STUDY}/angle_split_manifest.csv")
    kept = pd.read_csv(root / f"03_primary/{STUDY}/sample.csv").query("keep")["id"]
    assert set(split["id"]) == set(known["id"]) & set(kept)
    assert (
        "Bending angles of test sources" in (root / f"08_reporting/{STUDY}/report.html").read_text()
    )


# --- download -------------------------------------------------------------------------------------


class Survey(BaseHTTPRequestHandler):
    """Gives the file of a simulated source, but of the southern one."""

    asked: ClassVar[list[str]] = []

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        place = parse_qs(urlsplit(self.path).query)["RA"][0]
        self.asked.append(place)
        truth = draw_truth(1, np.random.default_rng(0))
        image = observe(truth, np.random.default_rng(0), size=40)[0]
        stream = io.BytesIO()
        fits.HDUList([to_hdu(truth.iloc[0], image)]).writeto(stream)
        content = stream.getvalue() if " +" in place else b"<html>no coverage</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def test_the_cut_outs_of_a_source_list_are_fetched_once(project, tmp_path):
    configure(project)
    (tmp_path / "list.csv").write_text(
        "name,ra,dec,kind\nA,150.1,20.5,FRI\nB,10 20 30,+30 00 00,FRII\nC,99.5,-70,FRI\nD,,,FRI\n"
    )
    folder = tmp_path / "cut_outs"
    with ThreadingHTTPServer(("127.0.0.1", 0), Survey) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        archive = {
            "address": f"http://127.0.0.1:{server.server_port}/", "interval": 0, "retries": 1,
            "backoff": 0, "id_column": "name", "class_column": "kind",
        }  # fmt: skip
        options = {"sources": str(tmp_path / "list.csv"), "folder": str(folder)}
        options[STUDY] = {"archive": archive}
        run(project, ".download", **options)
        manifest = pd.read_csv(project / f"data/01_raw/{STUDY}/downloads/list_manifest.csv")
        assert manifest["status"].tolist() == ["fetched", "fetched", "failed", "failed"]
        assert manifest["file"].tolist() == ["A.fits", "B.fits", "C.fits", "row 4"]
        assert sorted(path.name for path in folder.iterdir()) == ["A.fits", "B.fits"]
        assert len(Survey.asked) == 4
        run(project, ".download", **options)  # only what is missing is asked for again
        assert len(Survey.asked) == 6
        server.shutdown()
    labels = pd.read_csv(project / f"data/01_raw/{STUDY}/downloads/list_labels.csv")
    assert labels["class"].tolist() == ["FRI", "FRII", "FRI"]
    assert labels["ra"].round(3).tolist() == [150.1, 155.125, 99.5]


# --- kill and resume ------------------------------------------------------------------------------


def pieces(project):
    return list((project / f"data/06_models/{STUDY}/finished_fits").rglob("*.npz"))


def test_a_killed_training_of_generators_goes_on_from_its_checkpoint(project):
    """Killed as by the kernel, in the middle: the finished pieces are as they were."""
    configure(project)
    path = project / f"conf/base/{STUDY}/parameters.yml"
    content = yaml.safe_load(path.read_text())
    content[STUDY]["generators"]["epochs"] = {"dcgan": 40, "vae": 1}
    path.write_text(yaml.safe_dump(content))
    run(project, ".simulation", ".ingestion", ".features")
    split = f"{STUDY}.make_split"
    command = [sys.executable, "-m", "skyloom", "--pipelines", f"{STUDY}.augmentation"]
    command += ["--params", "cluster.n_workers=0"]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    end = time.monotonic() + 240
    while len(pieces(project)) < 3:
        assert process.poll() is None, f"it ended by itself, before or after {split}"
        assert time.monotonic() < end
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {file.name: file.stat().st_mtime_ns for file in pieces(project)}
    assert 3 <= len(before) < 41
    content[STUDY]["generators"]["epochs"]["dcgan"] = len(before) + 1
    path.write_text(yaml.safe_dump(content))
    run(project, ".augmentation")
    after = {file.name: file.stat().st_mtime_ns for file in pieces(project)}
    assert {name: after[name] for name in before} == before
    # With another number of epochs, yet the pieces before are the same work.
    assert len(after) - len(before) <= 2
    history = pd.read_csv(project / f"data/06_models/{STUDY}/generator_history.csv")
    assert history.loc[history["kind"] == "dcgan", "epoch"].tolist() == list(
        range(1, len(before) + 2)
    )
