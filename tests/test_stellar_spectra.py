"""The study of stellar spectra on tiny samples, through Kedro, with the real catalog."""

import contextlib
import gzip
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

import numpy as np
import pandas as pd
import pytest
import yaml
from astropy.io import fits
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from PIL import Image

from skyloom.simulate.lamost_catalogue import write_catalogue
from skyloom.simulate.stellar_spectra import draw_truth, observe, to_hdu
from skyloom.spectra.optical.readers import read_spectrum
from skyloom.spectra.optical.spectral_types import CLASSES

STUDY = "stellar_spectra"
SMALL = {
    "simulation": {"n_stars": 90, "stars": {"snr": [40, 100], "class_shares": [0.5] + [1.0] * 6}},
    "features": {"low": 4000, "high": 6800, "step": 1e-3, "height": 8},
    "augmentation": {"n_folds": 3, "seeds": [0, 1]},
    "synthetic": {"n_spectra": 12},
    "generators": {"latent": 4, "width": 16, "epochs": 3, "checkpoint_every": 1},
    "generation": {"n_spectra": 5},
    "network": {"widths": [4, 8], "dense": 8},
    "training": {"epochs": 2, "steps_per_epoch": 3},
    "audit": {
        "kernel_sizes": [2, 3], "epochs": 1, "n_repeats": 1, "n_per_class": 14,
        "generator_epochs": 1, "latent": 8,
    },
    "reporting": {"n_occluded": 2, "occlusion_width": 400, "n_snr_bins": 2},
}  # fmt: skip
ARMS = [
    "01 none", "02 class weights", "03 repeats", "04 jitter", "05 simulated", "06 gan"
]  # fmt: skip
NESTED = "nested: best of the inner folds"
BASELINES = ["line indices, random forest", "indices, logistic regression", "majority class"]

# Third-party libraries warn about each other.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]


def configure(project, **changes):
    """Write the small settings into the project, as its user would."""
    path = project / f"conf/base/{STUDY}/parameters.yml"
    content = yaml.safe_load(path.read_text())
    for section, values in (SMALL | changes).items():
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


@pytest.fixture(scope="module")
def finished(shared_project):
    """A finished run and what it printed."""
    configure(shared_project)
    return shared_project, run(shared_project, ".simulation", "")


def reported(project, name, folder=""):
    return pd.read_csv(project / "data/08_reporting" / STUDY / folder / name)


def test_the_run_ends_with_a_table_and_the_paths(finished):
    project, shown = finished
    for words in ("success rate (95 %)", "line indices baseline", *ARMS, *BASELINES, "Audit. "):
        assert words in shown
    assert "Recall of observed O spectra (95 %): nested" in " ".join(shown.split())
    assert f"data/08_reporting/{STUDY}/report.html" in shown
    page = (project / f"data/08_reporting/{STUDY}/report.html").read_text()
    for title in ("The rare class O, on observed stars only", "Audit: the published recipe",
                  "Recall and precision of each class", "Quality of the synthetic spectra of O",
                  "normalised by predicted class", "Which wavelengths decide",
                  "Model info sheet"):  # fmt: skip
        assert title in page
    assert page.count("data:image/png;base64,") == 12  # no sweep along an axis


def test_spectra_of_one_star_are_on_one_side_and_every_star_is_tested(finished):
    project, _ = finished
    manifest = pd.read_csv(project / f"data/05_model_input/{STUDY}/split_manifest.csv")
    sample = pd.read_csv(project / f"data/03_primary/{STUDY}/sample.csv")
    truth = pd.read_csv(project / f"data/01_raw/{STUDY}/truth.csv").set_index("id")["star"]
    assert sample["group"].nunique() == 90 < len(sample)
    # What the positions tell of the stars is the truth.
    assert (sample["group"].map(truth) == sample["id"].map(truth)).all()
    sides = manifest.groupby(["seed", "fold", "group"])["role"].nunique()
    assert sides.eq(1).all()
    tested = manifest[manifest["role"] == "test"].groupby("seed")["id"]
    assert tested.nunique().eq(len(sample)).all()


def test_every_arm_and_baseline_is_scored_on_the_same_stars(finished):
    project, _ = finished
    scores = reported(project, "success_rates.csv")
    assert scores["configuration"].tolist()[1:] == ARMS + BASELINES
    assert set(scores["n_objects"]) == {scores["n_objects"].iloc[0]}
    classes = reported(project, "class_scores.csv")
    assert set(classes["class"]) == set(CLASSES)
    rare = reported(project, "rare_class.csv").set_index("configuration")
    assert rare.index.tolist() == [NESTED, *ARMS, *BASELINES]
    assert rare["class"].eq("O").all()
    assert rare.loc[ARMS[0], ["difference", "difference_low", "difference_high"]].eq(0).all()
    predictions = pd.read_csv(project / f"data/07_model_output/{STUDY}/predictions.csv")
    own = predictions[(predictions["configuration"] == ARMS[1]) & (predictions["class"] == 0)]
    assert rare.loc[ARMS[1], "recall"] == pytest.approx(own["predicted"].eq(0).mean())
    named = predictions[(predictions["configuration"] == BASELINES[0])
                        & (predictions["predicted"] == 0)]  # fmt: skip
    assert rare.loc[BASELINES[0], "precision"] == pytest.approx(named["class"].eq(0).mean())
    # Few of what is named O would be, where one star in a hundred thousand is.
    assert (rare["purity_low"].dropna() < 0.05).all()
    bins = reported(project, "success_by_snr.csv")
    assert bins.groupby("configuration")["n_spectra"].sum().eq(scores["n_objects"][0]).all()


def test_made_spectra_are_of_the_training_part(finished):
    project, _ = finished
    folder = project / f"data/05_model_input/{STUDY}"
    synthetic = pd.read_csv(folder / "synthetic.csv")
    assert synthetic["arm"].value_counts().to_dict() == dict.fromkeys(
        ("repeats", "jitter", "simulated", "gan"), 3
    )
    for row in synthetic.itertuples():
        shape = np.load(folder / f"synthetic_spectra/{row.pool}.npy").shape
        assert shape == (row.n_trained_on if row.arm == "repeats" else 12, 231)
    history = pd.read_csv(project / f"data/06_models/{STUDY}/generator_history.csv")
    assert history.groupby("fold")["epoch"].max().eq(3).all()
    assert history.groupby("fold")["chosen"].sum().eq(1).all()
    films = project / f"data/08_reporting/{STUDY}/generator_films"
    for fold in range(3):
        with Image.open(films / f"fold_{fold}.gif") as film:
            assert film.n_frames == 3
    quality = reported(project, "synthetic_quality.csv")
    assert set(quality["spectra"]) == {
        "observed, held out",
        "repeats",
        "jitter",
        "simulated",
        "gan",
    }
    lines = reported(project, "synthetic_lines.csv")
    assert {"He II 4542", "He II 4686", "H beta"} <= set(lines["line"])


def test_generators_see_nothing_of_what_is_tested(finished):
    """Other spectra outside of the training part: no piece of a training is made anew."""
    project, _ = finished
    before = {file.name for file in pieces(project)}
    (path,) = (project / f"data/04_feature/{STUDY}/prepared_spectra").iterdir()
    flux = np.load(path)
    manifest = pd.read_csv(project / f"data/05_model_input/{STUDY}/split_manifest.csv")
    sample = pd.read_csv(project / f"data/03_primary/{STUDY}/sample.csv")
    first = manifest[(manifest["fold"] == 0) & (manifest["role"] == "train")]
    changed = flux.copy()
    changed[~sample["id"].isin(first["id"]).to_numpy()] = 1.5
    np.save(path, changed)
    run(project, ".augmentation")
    made = {file.name for file in pieces(project)} - before
    np.save(path, flux)
    run(project, ".augmentation")
    # The two other folds have other training spectra now, with three pieces each.
    assert len(made) == 6
    assert {file.name for file in pieces(project)} == before | made


def test_the_audit_tells_made_from_observed(finished):
    project, _ = finished
    audit = pd.read_csv(project / f"data/07_model_output/{STUDY}/audit.csv")
    assert audit[["labels", "kernel_size"]].to_numpy().tolist() == [
        ["true", 2], ["true", 3], ["shuffled", 3]
    ]  # fmt: skip
    assert audit["taps_used"].eq(1).all()
    assert audit["n_made_in_test"].sum() > 0
    for name in ("success_rate", "success_rate_of_real"):
        assert audit[name].between(0, 1).all()


def test_mlflow_has_a_child_for_each_configuration(finished):
    from mlflow import MlflowClient

    project, _ = finished
    client = MlflowClient(tracking_uri=f"sqlite:///{project}/mlflow.db")
    experiment = client.get_experiment_by_name(STUDY)
    runs = client.search_runs([experiment.experiment_id])
    children = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    names = {run.data.tags["mlflow.runName"] for run in children}
    audits = {f"audit, {labels} classes, kernel {kernel}"
              for labels, kernel in (("true", 2), ("true", 3), ("shuffled", 3))}  # fmt: skip
    assert names == {*ARMS, *BASELINES, *audits, NESTED}
    rare = reported(project, "rare_class.csv").set_index("configuration")
    (weights,) = (r for r in children if r.data.tags["mlflow.runName"] == ARMS[1])
    assert weights.data.metrics["rare_recall"] == pytest.approx(rare.loc[ARMS[1], "recall"])
    assert len({frozenset(run.data.params) for run in children}) == 1
    assert client.get_model_version_by_alias(STUDY, "selected").version == 1


def test_new_spectra_are_classified(finished, tmp_path):
    project, _ = finished
    folder = tmp_path / "new"
    shutil.copytree(project / f"data/01_raw/{STUDY}/observations", folder)
    for path in sorted(folder.iterdir())[8:]:
        path.unlink()
    first = sorted(folder.iterdir())[0]
    with fits.open(first, mode="update") as hdus:
        hdus[0].data[1, 400:] = 0  # most of it was not observed
    last = sorted(folder.iterdir())[-1]
    with fits.open(last, mode="update") as hdus:
        hdus[0].header["SUBCLASS"] = "GALAXY"
    (folder / "notes.txt").write_text("no spectrum")
    shown = run(project, ".prediction", folder=str(folder))
    assert "9 files: 7 classified" in shown
    assert "1 rejected" in shown
    table = reported(project, "classes.csv", "prediction").set_index("id")
    shares = table.drop(index=first.stem).filter(like="probability_")
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert pd.isna(table.loc[first.stem, "class"])
    assert table.loc[first.stem, "warning"].startswith("covers too little")
    assert table.loc[last.stem, "warning"] == "no star: GALAXY"
    pages = project / f"data/08_reporting/{STUDY}/prediction/classes.pdf"
    assert pages.stat().st_size > 1000
    book = pd.read_excel(pages.with_suffix(".xlsx"), sheet_name=None)
    assert list(book) == ["classes", "rejected"]


def test_made_spectra_are_written_as_files_that_are_read_again(finished):
    project, _ = finished
    shown = run(project, ".generation")
    folder = project / f"data/08_reporting/{STUDY}/generation"
    assert f"data/08_reporting/{STUDY}/generation/spectra" in shown
    table = pd.read_csv(folder / "spectra.csv")
    files = sorted((folder / "spectra").iterdir())
    assert [file.stem for file in files] == table.columns[1:].tolist()
    assert len(files) == 5
    spectrum = read_spectrum(files[0].name, files[0].read_bytes())
    np.testing.assert_allclose(spectrum.wavelength, table["wavelength"], rtol=1e-6)
    np.testing.assert_allclose(spectrum.flux, table[files[0].stem], rtol=1e-5)
    assert (spectrum.medium, spectrum.spectral_type) == ("vacuum", "O")


@pytest.mark.parametrize(
    ("sweep", "grid", "expected"),
    [
        ("kernel_size", {"network.kernel_size": [3, 5]}, ["01 kernel_size 3", "02 kernel_size 5"]),
        ("form", None, ["01 spectrum", "02 published", "03 wrapped", "04 scalogram"]),
    ],
)
def test_another_sweep_of_the_same_sample_is_one_command(finished, sweep, grid, expected):
    project, _ = finished
    before = (project / f"data/08_reporting/{STUDY}/success_rates.csv").read_bytes()
    changed = {"augmentation": {"seeds": [0]}}
    if grid:
        changed["sweeps"] = {"named": {sweep: {"grid": grid}}}
    run(project, "", sweep=sweep, **{STUDY: changed})
    scores = reported(project, "success_rates.csv", sweep)
    networks = scores.loc[scores["kind"] == "network", "configuration"]
    assert networks.tolist() == expected
    page = (project / f"data/08_reporting/{STUDY}/{sweep}/report.html").read_text()
    assert ("Along the axis of the sweep" in page) == (sweep == "kernel_size")
    assert (project / f"data/08_reporting/{STUDY}/success_rates.csv").read_bytes() == before


def test_surveys_are_tested_on_networks_that_saw_others_only(finished, tmp_path):
    project, _ = finished
    tested = "20111024"
    for number, file in enumerate(
        sorted((project / f"data/01_raw/{STUDY}/observations").iterdir())
    ):
        folder = tmp_path / ("20111024" if number % 3 else "south")  # numbers are names, too
        folder.mkdir(exist_ok=True)
        shutil.copy(file, folder)
    small = {name: values for name, values in SMALL.items() if name != "simulation"}
    small["augmentation"] = {"seeds": [0]}
    small["audit"] = {"enabled": False}
    small["sweeps"] = {
        "named": {"across": {"test_surveys": [tested], "grid": {"augmentation.arm": ["none"]}}}
    }
    run(project, "", env="real", folder=str(tmp_path), sweep="across", **{STUDY: small})
    root = project / "data/real"
    split = pd.read_csv(root / f"05_model_input/{STUDY}/across/split_manifest.csv")
    table = pd.read_csv(root / f"03_primary/{STUDY}/across/sample.csv", dtype={"survey": str})
    sample = table.set_index("id")
    survey = split["id"].map(sample["survey"])
    assert (survey == tested).equals(split["role"] == "test")
    assert not set(split.loc[split["role"] == "test", "group"]) & set(
        split.loc[split["role"] != "test", "group"]
    )
    scores = pd.read_csv(root / f"08_reporting/{STUDY}/across/success_rates.csv")
    assert scores["n_objects"].eq((split["role"] == "test").sum()).all()
    info = json.loads((root / f"08_reporting/{STUDY}/across/model_info.json").read_text())
    assert info["Split"].startswith(f"tested on {tested}, ")


def test_a_folder_without_classes_is_measured_all_the_same(finished, tmp_path):
    project, _ = finished
    for file in sorted((project / f"data/01_raw/{STUDY}/observations").iterdir())[:6]:
        shutil.copy(file, tmp_path)
        with fits.open(tmp_path / file.name, mode="update") as hdus:
            hdus[0].header["SUBCLASS"] = "Non"
    small = {name: values for name, values in SMALL.items() if name != "simulation"}
    shown = run(project, "", env="real", folder=str(tmp_path), **{STUDY: small})
    assert "too few labelled spectra to train and test a classifier" in shown
    root = project / "data/real"
    assert len(pd.read_csv(root / f"04_feature/{STUDY}/measurements.csv")) == 6
    sample = pd.read_csv(root / f"03_primary/{STUDY}/sample.csv")
    assert sample["reason"].eq("no class").all()
    assert "Too few stars" in (root / f"08_reporting/{STUDY}/report.html").read_text()


def test_the_published_sizes_run_at_a_tiny_scale(finished):
    project, _ = finished
    tiny = {
        "simulation": SMALL["simulation"], "augmentation": {"n_folds": 2, "seeds": [0]},
        "synthetic": {"n_spectra": 6}, "network": {"dense": 16}, "audit": {"enabled": False},
        "generators": {"latent": 4, "epochs": 1, "checkpoint_every": 1, "batch_size": 2},
        "training": {"epochs": 1, "steps_per_epoch": 2}, "reporting": SMALL["reporting"],
    }  # fmt: skip
    run(project, ".simulation", "", env="paper", **{STUDY: tiny})
    root = project / "data/paper"
    scores = pd.read_csv(root / f"08_reporting/{STUDY}/success_rates.csv")
    assert scores["configuration"].tolist()[1:] == ARMS + BASELINES
    (inputs,) = (root / f"04_feature/{STUDY}/inputs").iterdir()
    assert np.load(inputs).shape[1:] == (1, 3500)
    description = json.loads((root / f"06_models/{STUDY}/classifier.json").read_text())
    assert description["configuration"]["network"]["pool"] == 2


# --- archive --------------------------------------------------------------------------------------


class Archive(BaseHTTPRequestHandler):
    """Gives a simulated spectrum for every id but one."""

    asked: ClassVar[list[str]] = []

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        self.asked.append(name)
        truth = draw_truth(1, np.random.default_rng(0))
        flux, inverse_variance = observe(truth, np.random.default_rng(0))
        stream = io.BytesIO()
        hdu = to_hdu(truth.iloc[0], flux[0], inverse_variance[0])
        fits.HDUList([hdu]).writeto(stream)
        content = gzip.compress(stream.getvalue())
        if name == self.asked[0]:
            content = b"<html>no such spectrum</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def test_a_catalogue_is_sampled_and_the_sample_fetched(project, tmp_path):
    configure(project)
    write_catalogue(tmp_path / "dr.csv.gz", 3000, np.random.default_rng(0))
    parts, folder = tmp_path / "parts", tmp_path / "spectra"
    shown = run(
        project, ".catalogue", sources=str(tmp_path / "dr.csv.gz"), folder=str(parts),
        **{STUDY: {"catalogue": {"n_sampled": 3}}},
    )  # fmt: skip
    assert "catalogue_counts.csv" in shown
    counts = pd.read_csv(project / f"data/01_raw/{STUDY}/downloads/catalogue_counts.csv")
    assert counts["n"].sum() == 3000
    ids = (parts / "G_sample.txt").read_text().split()
    assert len(ids) == 3
    with ThreadingHTTPServer(("127.0.0.1", 0), Archive) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        archive = {
            "address": f"http://127.0.0.1:{server.server_port}/fits/{{obsid}}", "interval": 0,
            "retries": 0, "backoff": 0,
        }  # fmt: skip
        run(
            project, ".download", sources=str(parts / "G_sample.txt"), folder=str(folder),
            **{STUDY: {"archive": archive}},
        )  # fmt: skip
        server.shutdown()
    manifest = pd.read_csv(project / f"data/01_raw/{STUDY}/downloads/G_sample_manifest.csv")
    assert manifest["status"].value_counts().to_dict() == {"fetched": 2, "failed": 1}
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{name}.fits.gz" for name in ids if name != Archive.asked[0]
    )


# --- kill and resume ------------------------------------------------------------------------------


def pieces(project):
    return list((project / f"data/06_models/{STUDY}/finished_fits").rglob("*.npz"))


def test_a_killed_run_goes_on_where_it_stopped(project):
    """Killed as by the kernel, while generators are trained and again while networks are fitted."""
    configure(project, audit={"enabled": False})
    run(project, ".simulation", ".ingestion", ".features")
    command = [sys.executable, "-m", "skyloom", "--params", "cluster.n_workers=0", "--pipelines",
               f"{STUDY}.augmentation,{STUDY}.training"]  # fmt: skip
    # Nine pieces of generators, then 36 fits.
    for enough in (2, 14):
        process = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        end = time.monotonic() + 240
        while len(pieces(project)) < enough:
            assert process.poll() is None, "it ended by itself"
            assert time.monotonic() < end
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = {file.name: file.stat().st_mtime_ns for file in pieces(project)}
    assert 14 <= len(before) < 45
    run(project, ".augmentation", ".training")
    after = {file.name: file.stat().st_mtime_ns for file in pieces(project)}
    assert {name: after[name] for name in before} == before
    assert len(after) == 45
