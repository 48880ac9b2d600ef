"""Studies that are killed or changed between runs: only what is missing is fitted."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from astropy.io import fits
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

SMALL = {
    "simulation": {"n_profiles": 45, "snr_median": 60.0},
    "features": {"size": 8, "n_halves_figures": 1, "n_realisations": 8},
    "augmentation": {"n_folds": 2, "n_inner_folds": 2, "n_copies": 1},
    "training": {"epochs": 3, "min_epochs": 1},
    "audit": {"test_sizes": []},
}
WIDTHS = {"network.widths": [[4], [4, 4], [6]]}
SWEEP = "ingestion.hi_profiles.configure_sweep"
N_FITS = 4  # of a configuration: outer folds times inner folds
SWEPT = "hi_profiles.network_predictions"
SCORED = "hi_profiles.success_rates"
RESULTS = (
    "data/07_model_output/hi_profiles/network_predictions.csv",
    "data/08_reporting/hi_profiles/success_rates.csv",
)
BEFORE_TRAINING = [
    "features.hi_profiles.draw_images",
    "augmentation.hi_profiles.draw_augmented_images",
    "augmentation.hi_profiles.simulate_pretraining_sample",
    "training.hi_profiles.fit_baselines",
]
TRAINING = ["training.hi_profiles.pretrain_networks", "training.hi_profiles.run_sweep"]
PATIENCE = 240  # seconds; a busy machine takes a tenth of it

# Third-party libraries warn about each other.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]


# --- a study in a folder of its own ---------------------------------------------------------------


def configure(project, grid, **sections):
    """Write parameters and a grid into the project, as its user would."""
    sections["sweeps"] = {"named": {"default": {"grid": grid}}}
    path = project / "conf/base/hi_profiles/parameters.yml"
    content = yaml.safe_load(path.read_text())
    for section, values in sections.items():
        content["hi_profiles"][section] = content["hi_profiles"].get(section, {}) | values
    path.write_text(yaml.safe_dump(content))


def run_here(project, pipeline, n_workers=0, **options):
    """Run in this process; without workers TensorFlow is imported once for all tests."""
    cluster = {"n_workers": n_workers}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        bootstrap_project(project)
        with KedroSession.create(project, runtime_params={"cluster": cluster}) as session:
            session.run(pipeline_names=[pipeline], **options)


def stored(project):
    """Every finished fit; another time or inode would mean that it was written again."""
    found = {}
    for path in (project / "data/06_models/hi_profiles/finished_fits").rglob("*.npz"):
        status = path.stat()
        found[path.name] = status.st_mtime_ns, status.st_ino
    return found


def fitted_anew(project, before):
    """Number of new fits; those of before must be as they were."""
    now = stored(project)
    assert {name: now.get(name) for name in before} == before
    return len(now) - len(before)


def results(project):
    return [(project / path).read_bytes() for path in RESULTS]


def logged(project):
    """MLflow's parent runs, oldest first, and the children of each by name."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{project}/mlflow.db")
    experiment = client.get_experiment_by_name("hi_profiles")
    found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    children = {}
    for run in found:
        parent = run.data.tags.get("mlflow.parentRunId")
        children.setdefault(parent, {})[run.info.run_name] = run
    parents = list(children.pop(None).values())
    return parents, [children.get(parent.info.run_id, {}) for parent in parents]


# --- a study in processes of its own --------------------------------------------------------------


@contextlib.contextmanager
def started(project, *command, log="run.log"):
    """A Python module in a process of its own; nothing of it outlives the block."""
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    with (project / log).open("a") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=project, env=environment, stdout=file,
            stderr=file, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def kedro_run(project, **params):
    """``kedro run`` up to the success rates."""
    command = ["kedro", "run", "--to-outputs", SCORED]
    command += ["--pipelines", "hi_profiles.training,hi_profiles.reporting"]
    if params:
        command += ["--params", ",".join(f"{key}={value}" for key, value in params.items())]
    return started(project, *command)


def wait_until(condition, seconds=PATIENCE):
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def wait_for_fits(project, process, count):
    """Wait in the middle of a sweep."""
    wait_until(lambda: len(stored(project)) >= count or process.poll() is not None)
    assert process.poll() is None, (project / "run.log").read_text()[-3000:]


def workers_of(process):
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def is_gone(process):
    """Whether a process has ended; where nobody asks for its exit status, its entry stays."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill_the_driver(project):
    """Start a study and kill it after its first configuration."""
    with kedro_run(project) as process:
        wait_for_fits(project, process, N_FITS + 1)
        workers = workers_of(process)
        process.kill()
        process.wait(30)
        # Else they would go on fitting for nobody.
        wait_until(lambda: all(map(is_gone, workers)), 30)
        left = [worker for worker in workers if not is_gone(worker)]
        return SimpleNamespace(n_workers=len(workers), left=left, fits=stored(project))


def go_on_and_kill_a_worker(project):
    """Start it again, kill its worker after one more fit, and let it end."""
    with kedro_run(project) as process:
        wait_for_fits(project, process, len(stored(project)) + 1)
        (worker,) = workers_of(process)
        worker.kill()
        n_fits = len(stored(project))
        wait_until(lambda: process.poll() is not None)
        return SimpleNamespace(status=process.poll(), n_fits_at_kill=n_fits, worker=worker)


@pytest.fixture(scope="module")
def prepared(shared_project):
    """A study just before its training."""
    configure(shared_project, WIDTHS, **SMALL)
    (shared_project / "conf/base/parameters.yml").write_text("cluster: {n_workers: 1}\n")
    run_here(shared_project, "__default__", to_nodes=BEFORE_TRAINING)
    return shared_project


def kill_and_go_on(project):
    return kill_the_driver(project), go_on_and_kill_a_worker(project)


@pytest.fixture(scope="module")
def copy_of(tmp_path_factory):
    def copy(project):
        return shutil.copytree(project, tmp_path_factory.mktemp("copy"), dirs_exist_ok=True)

    return copy


@pytest.fixture(scope="module")
def interrupted(prepared, copy_of):
    """A study that is killed and started again, beside the other tests; ask for its result late."""
    project = copy_of(prepared)
    with ThreadPoolExecutor(1) as pool:
        yield project, pool.submit(kill_and_go_on, project)


@pytest.fixture(scope="module")
def uninterrupted(interrupted, prepared, copy_of):
    """The same study in one go."""
    project = copy_of(prepared)
    # By a worker, as there: other tests may have let TensorFlow use more threads in this process,
    # and then sums are rounded in another order.
    run_here(project, "__default__", n_workers=1, from_nodes=TRAINING, to_outputs=[SCORED])
    return project


@pytest.fixture
def finished(uninterrupted, copy_of):
    """A finished study for one test to change."""
    return copy_of(uninterrupted)


# --- after a change -------------------------------------------------------------------------------


def test_one_more_configuration_is_fitted_and_no_other_again(finished):
    before = stored(finished)
    configure(finished, {"network.widths": [[8], [4], [6], [4, 4]]})
    run_here(finished, "hi_profiles", from_nodes=[SWEEP], to_outputs=[SWEPT])
    assert fitted_anew(finished, before) == N_FITS
    names = pd.read_csv(finished / RESULTS[0])["configuration"].unique()
    assert list(names) == ["01 8", "02 4", "03 6", "04 4-4"]


def test_another_learning_rate_fits_only_the_configuration_that_has_it(finished):
    before = stored(finished)
    configure(finished, {"network.widths": [[6]], "training.learning_rate": [0.001, 0.003]})
    run_here(finished, "hi_profiles", from_nodes=[SWEEP], to_outputs=[SWEPT])
    assert fitted_anew(finished, before) == N_FITS


def test_files_that_are_as_old_or_new_as_they_like_fit_nothing(finished):
    before, tables = stored(finished), (finished / RESULTS[0]).read_bytes()
    for path in (finished / "data/01_raw").rglob("*.*"):
        os.utime(path)
    run_here(finished, "hi_profiles", to_outputs=[SWEPT])
    assert fitted_anew(finished, before) == 0
    assert (finished / RESULTS[0]).read_bytes() == tables


def test_another_flux_in_one_spectrum_fits_all_that_saw_it(finished):
    before, drawn = stored(finished), images(finished)
    with fits.open(
        finished / "data/01_raw/hi_profiles/observations/CIG000007.fits", "update"
    ) as file:
        data = file[0].data
        file[0].data = data * np.linspace(0.9, 1.1, data.shape[-1])
    configure(finished, {"network.widths": [[4]]})
    run_here(finished, "hi_profiles", to_outputs=[SWEPT])
    assert (images(finished) != drawn).any(axis=(1, 2, 3, 4)).sum() == 1
    assert fitted_anew(finished, before) == N_FITS


def images(project):
    (path,) = (project / "data/04_feature/hi_profiles/images").iterdir()
    return np.load(path)


# --- after a kill ---------------------------------------------------------------------------------


def test_a_killed_study_goes_on_where_it_was_and_ends_with_the_same_table(
    interrupted, uninterrupted
):
    project, story = interrupted
    killed, resumed = story.result()
    assert N_FITS < len(killed.fits) < 3 * N_FITS
    assert resumed.status == 0, (project / "run.log").read_text()[-3000:]
    assert fitted_anew(project, killed.fits) == 3 * N_FITS - len(killed.fits)
    assert results(project) == results(uninterrupted)


def test_no_worker_outlives_a_killed_driver(interrupted):
    killed, _ = interrupted[1].result()
    assert killed.n_workers == 1
    assert killed.left == []


def test_a_killed_worker_is_replaced_and_costs_nothing(interrupted, uninterrupted):
    project, story = interrupted
    killed, resumed = story.result()
    assert len(killed.fits) < resumed.n_fits_at_kill < 3 * N_FITS
    assert is_gone(resumed.worker)
    assert resumed.status == 0, (project / "run.log").read_text()[-3000:]
    assert results(project) == results(uninterrupted)


def test_mlflow_knows_of_the_killed_run_and_of_what_it_had_finished(interrupted):
    project, story = interrupted
    story.result()
    (killed, resumed), (early, late) = logged(project)
    assert (killed.info.status, resumed.info.status) == ("KILLED", "FINISHED")
    # The next configuration had begun, so that the first one had been told of.
    assert "01 4" in early
    assert "03 6" not in early
    assert early["01 4"].info.status == "FINISHED"
    assert set(late) >= {"01 4", "02 4-4", "03 6"}
    assert early["01 4"].data.params == late["01 4"].data.params
    assert early["01 4"].data.metrics == late["01 4"].data.metrics


# --- on a cluster of other processes --------------------------------------------------------------


def test_a_cluster_that_loses_a_worker_gives_the_same_table(prepared, uninterrupted, copy_of):
    project = copy_of(prepared)
    file = project / "scheduler.json"
    where = ["--scheduler-file", str(file), "--no-dashboard"]
    worker = ["dask", "worker", *where, "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1"]
    scheduler = ["dask", "scheduler", *where, "--host", "127.0.0.1", "--port", "0"]
    with (
        started(project, *scheduler, log="scheduler.log"),
        started(project, *worker, log="lost.log") as lost,
        started(project, *worker, log="kept.log") as kept,
    ):
        # It exists before it is written.
        assert wait_until(lambda: file.exists() and file.read_text().endswith("}"), 60), (
            project / "scheduler.log"
        ).read_text()
        address = json.loads(file.read_text())["address"]
        with kedro_run(project, **{"cluster.address": address}) as run:
            wait_for_fits(project, run, 2)
            lost.kill()
            n_fits = len(stored(project))
            wait_until(lambda: run.poll() is not None)
            assert run.poll() == 0, (project / "run.log").read_text()[-3000:]
        assert kept.poll() is None  # it belongs to someone else
    assert n_fits < 3 * N_FITS
    assert results(project) == results(uninterrupted)
