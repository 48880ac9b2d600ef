"""MLflow runs in a real store, and at a real server."""

import contextlib
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from skyloom import tracking
from skyloom.tracking import ParentRun, how_to_open, store_address

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ..noload.. loader:DeprecationWarning")

CONFIG = {"tracking_uri": "sqlite:///store.db", "artefacts": "files", "experiment": "study"}


def child(name, **changes):
    return {
        "name": name,
        "file": name.replace(" ", "_"),
        "params": {"configuration": name, "widths": [4, 8], "n_objects": 24},
        "metrics": {"success_rate": 0.75, "p_value": 0.01},
        "curves": {"epoch_loss": [0.9, 0.5, 0.4], "epoch_val_loss": [1.0, 0.7, 0.8]},
    } | changes


RUNS = {
    "tags": {"data_fingerprint": "f" * 64, "label_source": "label table"},
    "params": {"n_objects": 24, "n_folds": 5},
    "children": [
        child("narrow"),
        child("majority class", curves={"epoch_loss": []}),
    ],
}


# A new store takes seconds to create; the tests share one and differ by their experiments.
@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("project")


@pytest.fixture(autouse=True)
def _no_address_from_outside(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture(scope="module")
def logged(root):
    """A finished parent run with two children, workbooks and artefacts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        git(root, "init", "-q")
        (root / ".gitignore").write_text("store.db*\nfiles\nbooks\nreport.html\n")
        git(root, "add", ".gitignore")
        git(root, "commit", "-qm", "first")
        books = root / "books"
        books.mkdir()
        for name in ("narrow.xlsx", "majority_class.xlsx", "narrower.xlsx"):
            (books / name).write_text(name)
        (root / "report.html").write_text("report")
        parent = ParentRun.start(CONFIG, root, tags={"kedro.env": "base"})
        parent.log_runs(RUNS, [books])
        parent.log_artefacts([root / "report.html", books])
        parent.finish("FINISHED")
        return parent


def children_of(parent):
    found = parent.client.search_runs(
        [parent.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.run_id}'"
    )
    return {run.info.run_name: run for run in found}


def test_children_belong_to_their_parent_and_all_are_finished(logged):
    children = children_of(logged)
    assert set(children) == {"narrow", "majority class"}
    parent = logged.client.get_run(logged.run_id)
    assert {run.info.status for run in (parent, *children.values())} == {"FINISHED"}
    assert "mlflow.parentRunId" not in parent.data.tags


def test_children_have_the_same_keys(logged):
    narrow, majority = (children_of(logged)[name] for name in ("narrow", "majority class"))
    assert set(narrow.data.params) == set(majority.data.params)
    assert {"success_rate", "p_value"} <= set(narrow.data.metrics) & set(majority.data.metrics)
    assert narrow.data.params == {
        "configuration": "narrow", "widths": "[4, 8]", "n_objects": "24",
    }  # fmt: skip
    assert narrow.data.metrics["success_rate"] == 0.75


def test_curves_are_steps_from_the_first_epoch_on(logged):
    run_id = children_of(logged)["narrow"].info.run_id
    history = logged.client.get_metric_history(run_id, "epoch_loss")
    assert sorted((m.step, m.value) for m in history) == [(1, 0.9), (2, 0.5), (3, 0.4)]
    assert len(logged.client.get_metric_history(run_id, "success_rate")) == 1


def test_the_parent_has_parameters_and_says_which_data_and_which_code(logged, root):
    data = logged.client.get_run(logged.run_id).data
    assert data.params == {"n_objects": "24", "n_folds": "5"}
    assert data.tags["data_fingerprint"] == "f" * 64
    assert data.tags["kedro.env"] == "base"
    assert data.tags["mlflow.source.git.commit"] == git(root, "rev-parse", "HEAD")
    assert data.tags["git_dirty"] == "False"
    assert re.fullmatch(r"study \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", data.tags["mlflow.runName"])


def test_artefacts_are_at_the_parent_and_each_workbook_at_its_child(logged, root):
    def names(run_id, folder=None):
        return sorted(f.path for f in logged.client.list_artifacts(run_id, folder))

    assert names(logged.run_id) == ["books", "report.html"]
    assert len(names(logged.run_id, "books")) == 3
    children = children_of(logged)
    assert names(children["narrow"].info.run_id) == ["narrow.xlsx"]
    assert names(children["majority class"].info.run_id) == ["majority_class.xlsx"]
    assert len(list((root / "files").rglob("report.html"))) == 1


def test_a_second_run_joins_the_experiment_and_notices_changed_code(logged, root):
    (root / "changed.py").write_text("1")
    second = ParentRun.start(CONFIG, root, tags={})
    try:
        assert second.experiment_id == logged.experiment_id
        assert second.run_id != logged.run_id
        tags = second.client.get_run(second.run_id).data.tags
        assert tags["git_dirty"] == "True"
    finally:
        second.finish("FAILED")
        (root / "changed.py").unlink()
    assert second.client.get_run(second.run_id).info.status == "FAILED"


def test_long_learning_curves_are_logged_whole(logged, root):
    """A request to MLflow may hold 1000 items, parameters and tags included."""
    parent = ParentRun.start(CONFIG | {"experiment": "long"}, root, tags={})
    curves = {f"epoch_{k}": [1 / (i + 1) for i in range(520)] for k in ("loss", "val_loss")}
    params = {f"p{i}": i for i in range(20)}
    parent.log_runs(RUNS | {"children": [child("long", curves=curves, params=params)]}, [])
    run = children_of(parent)["long"]
    assert len(run.data.params) == 20
    for key in curves:
        history = parent.client.get_metric_history(run.info.run_id, key)
        assert sorted(m.step for m in history) == list(range(1, 521))
    parent.finish("FINISHED")


def test_a_diverged_metric_is_logged_and_not_a_crash(logged, root):
    parent = ParentRun.start(CONFIG | {"experiment": "diverged"}, root, tags={})
    diverged = child("diverged", curves={"epoch_loss": [float("nan"), float("inf")]})
    parent.log_runs(RUNS | {"children": [diverged]}, [])
    run = children_of(parent)["diverged"]
    assert len(parent.client.get_metric_history(run.info.run_id, "epoch_loss")) == 2
    parent.finish("FINISHED")


def test_the_address_is_relative_to_the_project_and_not_to_where_one_stands(
    logged, root, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    parent = ParentRun.start(CONFIG, root, tags={})
    parent.finish("FINISHED")
    assert parent.address == f"sqlite:///{root}/store.db"
    assert parent.experiment_id == logged.experiment_id
    assert list(tmp_path.iterdir()) == []


def test_the_environment_variable_wins_over_the_configuration(logged, root, tmp_path, monkeypatch):
    address = f"sqlite:///{root}/store.db"  # absolute: not below the project folder given
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    config = CONFIG | {"tracking_uri": "sqlite:///never.db", "experiment": "elsewhere"}
    # Files of a store that is not the project's own go where that store says.
    monkeypatch.chdir(tmp_path)
    parent = ParentRun.start(config, tmp_path, tags={})
    parent.finish("FINISHED")
    assert parent.address == address
    assert not (tmp_path / "never.db").exists()
    assert logged.client.get_experiment_by_name("elsewhere").experiment_id == parent.experiment_id


def test_outside_a_repository_the_run_has_no_commit(logged, root, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", logged.address)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    parent = ParentRun.start(CONFIG, tmp_path, tags={})
    parent.finish("FINISHED")
    tags = parent.client.get_run(parent.run_id).data.tags
    assert "mlflow.source.git.commit" not in tags
    assert "git_dirty" not in tags


# --- what runs are compared by --------------------------------------------------------------------

COMPARED = RUNS | {
    "metrics": {"success_rate": 0.75, "success_low": 0.6, "n_objects": 24},
    "dataset": {"name": "spectra", "source": "/home/me/spectra", "digest": "0123456789" * 7},
    "description": "| configuration | success rate |\n|---|---|\n| narrow | 0.75 |",
    "columns": ["success_rate", "p_value", "n_folds"],
}


@pytest.fixture(scope="module")
def compared(logged, root):
    """A finished run whose results say what it is compared by."""
    config = CONFIG | {"tracking_uri": logged.address, "experiment": "compared"}
    parent = ParentRun.start(config, root, tags={"mlflow.source.name": "kedro run"})
    parent.log_runs(COMPARED, [])
    parent.finish("FINISHED")
    return parent


def test_the_parent_has_metrics_and_a_description(compared):
    data = compared.client.get_run(compared.run_id).data
    assert data.metrics == {"success_rate": 0.75, "success_low": 0.6, "n_objects": 24.0}
    assert data.tags["mlflow.note.content"] == COMPARED["description"]
    assert data.tags["mlflow.source.name"] == "kedro run"
    assert data.tags["data_fingerprint"] == "f" * 64


def test_the_parent_names_its_dataset_with_a_digest_as_long_as_those_of_mlflow(compared):
    (used,) = compared.client.get_run(compared.run_id).inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("spectra", "01234567")
    assert json.loads(used.dataset.source) == {"uri": "/home/me/spectra"}


def test_two_runs_of_the_same_data_name_one_dataset(compared, root):
    config = CONFIG | {"tracking_uri": compared.address, "experiment": "compared"}
    second = ParentRun.start(config, root, tags={})
    second.log_runs(COMPARED, [])
    second.finish("FINISHED")
    digests = {
        run.inputs.dataset_inputs[0].dataset.digest
        for run in (compared.client.get_run(parent.run_id) for parent in (compared, second))
    }
    assert digests == {"01234567"}


def test_links_open_the_run_all_runs_and_its_children_with_their_columns(compared):
    page = f"http://127.0.0.1:5000/#/experiments/{compared.experiment_id}/runs"
    assert compared.links == {
        f"{page}/{compared.run_id}": "this run",
        f"{page}?viewStateShareKey=runs": "all runs",
        f"{page}?viewStateShareKey={compared.run_id}": "its children",
    }
    tags = compared.client.get_experiment(compared.experiment_id).tags
    every_run, children = (
        json.loads(tags[f"mlflow.sharedViewState.{key}"]) for key in ("runs", compared.run_id)
    )
    columns = ["metrics.`success_rate`", "metrics.`p_value`", "params.`n_folds`"]
    assert every_run["selectedColumns"][:3] == children["selectedColumns"] == columns
    assert children["searchFilter"] == f"tags.`mlflow.parentRunId` = '{compared.run_id}'"
    found = compared.client.search_runs([compared.experiment_id], children["searchFilter"])
    assert {run.info.run_name for run in found} == {"narrow", "majority class"}
    assert (children["orderByKey"], children["orderByAsc"]) == (columns[0], False)


def test_results_without_columns_have_a_link_to_the_run_only(logged):
    assert list(logged.links.values()) == ["this run"]


# --- children as they finish ----------------------------------------------------------------------


@pytest.fixture
def parent(logged, root):
    """An open run of a test's own in the shared store."""
    opened = ParentRun.start(CONFIG | {"experiment": "open"}, root, tags={})
    yield opened
    opened.finish("FINISHED")


def test_a_child_that_was_logged_before_the_end_is_not_logged_again(parent, root):
    parent.log_child(child("narrow"))
    early = children_of(parent)["narrow"].info
    parent.log_child(child("narrow", metrics={"success_rate": 0.1}))
    parent.log_runs(RUNS, [root / "books"])
    children = children_of(parent)
    assert set(children) == {"narrow", "majority class"}
    assert children["narrow"].info.run_id == early.run_id
    history = parent.client.get_metric_history(early.run_id, "success_rate")
    assert [metric.value for metric in history] == [0.75]
    # Its workbook is written after it was logged.
    assert [f.path for f in parent.client.list_artifacts(early.run_id)] == ["narrow.xlsx"]


def test_whoever_fits_reaches_the_open_run_without_knowing_it(parent):
    tracking.log_child(child("found"))
    assert children_of(parent)["found"].info.status == "FINISHED"


def test_after_the_end_and_without_a_run_nothing_is_logged(logged, root):
    parent = ParentRun.start(CONFIG | {"experiment": "closed"}, root, tags={})
    parent.finish("FINISHED")
    tracking.log_child(child("late"))
    assert children_of(parent) == {}


def test_a_child_that_failed_says_so_and_why_however_long_the_reason(parent):
    # TensorFlow's errors hold the whole graph; MLflow limits a tag to 8000 characters.
    error = "InvalidArgumentError: " + "x" * 20000
    failed = child("failed", metrics={}, curves={}, tags={"error": error}, status="FAILED")
    parent.log_child(failed)
    run = children_of(parent)["failed"]
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("InvalidArgumentError: xxx")
    assert run.data.params["configuration"] == "failed"
    assert run.data.metrics == {}
    assert parent.client.get_run(parent.run_id).info.status == "RUNNING"


# --- where the store is ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configured", "variable", "address", "in_project"),
    [
        ("sqlite:///mlflow.db", None, "sqlite:////project/mlflow.db", True),
        ("sqlite:///runs/mlflow.db", "", "sqlite:////project/runs/mlflow.db", True),
        ("sqlite:////elsewhere/mlflow.db", None, "sqlite:////elsewhere/mlflow.db", False),
        ("http://127.0.0.1:5000", None, "http://127.0.0.1:5000", False),
        ("sqlite:///mlflow.db", "http://127.0.0.1:5000", "http://127.0.0.1:5000", False),
        ("http://127.0.0.1:5000", "sqlite:///own.db", "sqlite:////project/own.db", True),
    ],
)
def test_only_a_relative_file_is_the_projects_own(
    monkeypatch, configured, variable, address, in_project
):
    if variable is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
    assert store_address(configured, Path("/project")) == (address, in_project)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("sqlite:////project/mlflow.db", "make ui"),
        ("sqlite:////elsewhere/mlflow.db", "make ui STORE=sqlite:////elsewhere/mlflow.db"),
        ("sqlite:////a b/mlflow.db", "make ui 'STORE=sqlite:////a b/mlflow.db'"),
        ("http://127.0.0.1:8080", "open http://127.0.0.1:8080"),
    ],
)
def test_a_store_that_make_ui_does_not_open_by_itself_has_a_command(address, words):
    assert how_to_open(address, Path("/project")) == words


def test_make_ui_opens_the_store_of_the_project_or_another(pytestconfig):
    project_root = pytestconfig.rootpath

    def command(*arguments):
        return subprocess.run(
            ["make", "--just-print", "ui", *arguments],
            cwd=project_root, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    configured = yaml.safe_load((project_root / "conf/base/globals.yml").read_text())
    assert f"--backend-store-uri '{configured['tracking_uri']}'\n" in command()
    assert how_to_open(f"sqlite:///{project_root}/mlflow.db", project_root) == "make ui"
    assert "--backend-store-uri 'sqlite:////a b.db'\n" in command("STORE=sqlite:////a b.db")


# --- experiments that were deleted ----------------------------------------------------------------


def test_a_deleted_experiment_is_restored_with_its_runs_and_named(logged, root, caplog):
    config = CONFIG | {"experiment": "deleted"}
    first = ParentRun.start(config, root, tags={})
    first.finish("FINISHED")
    first.client.delete_experiment(first.experiment_id)
    second = ParentRun.start(config, root, tags={})
    second.finish("FINISHED")
    assert second.experiment_id == first.experiment_id
    runs = first.client.search_runs([first.experiment_id])
    assert {run.info.run_id for run in runs} == {first.run_id, second.run_id}
    assert "the experiment 'deleted' had been deleted in MLflow" in caplog.text
    ParentRun.start(config, root, tags={}).finish("FINISHED")
    assert caplog.text.count("had been deleted") == 1


# --- runs that nobody closed ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def dead_process():
    """Identifier of a process that has ended and been waited for."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


@pytest.fixture(scope="module")
def zombie_process():
    """Identifier of a process that was killed and nobody has asked for its exit status."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process.pid
    process.wait()


def status_after_the_next_run(root, tags):
    """What becomes of a run that is open when another one starts."""
    config = CONFIG | {"experiment": "abandoned"}
    first = ParentRun.start(config, root, tags={})
    first.finish("FINISHED")
    left = first.client.create_run(first.experiment_id, tags=tags).info.run_id
    second = ParentRun.start(config, root, tags={})
    try:
        return first.client.get_run(left).info.status
    finally:
        second.finish("FINISHED")
        first.client.set_terminated(left)


def process_tag(process, host=None):
    return {"skyloom.process": f"{host or socket.gethostname()}:{process}"}


def test_a_run_whose_process_is_gone_is_closed_as_killed(logged, root, dead_process):
    assert status_after_the_next_run(root, process_tag(dead_process)) == "KILLED"


def test_so_is_a_child_that_was_being_logged(logged, root, dead_process):
    tags = process_tag(dead_process) | {"mlflow.parentRunId": logged.run_id}
    assert status_after_the_next_run(root, tags) == "KILLED"


def test_a_killed_process_that_nobody_waits_for_is_gone_too(logged, root, zombie_process):
    """As in a container, whose first process is no init."""
    assert status_after_the_next_run(root, process_tag(zombie_process)) == "KILLED"


def test_a_run_whose_process_lives_stays_open(logged, root):
    assert status_after_the_next_run(root, process_tag(os.getpid())) == "RUNNING"


def test_a_run_on_another_machine_stays_open(logged, root, dead_process):
    tags = process_tag(dead_process, host="elsewhere")
    assert status_after_the_next_run(root, tags) == "RUNNING"


def test_a_run_of_something_else_stays_open(logged, root):
    assert status_after_the_next_run(root, {}) == "RUNNING"


def test_runs_and_children_say_which_process_they_are_of(parent):
    parent.log_child(child("narrow"))
    tags = parent.client.get_run(parent.run_id).data.tags
    assert process_tag(os.getpid()).items() <= tags.items()
    assert process_tag(os.getpid()).items() <= children_of(parent)["narrow"].data.tags.items()


# --- several processes, one file ------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from skyloom.tracking import ParentRun
config = {"tracking_uri": "sqlite:///store.db", "artefacts": "files", "experiment": sys.argv[2]}
print("ready", flush=True)
sys.stdin.readline()
parent = ParentRun.start(config, Path(sys.argv[1]), tags={})
print(parent.run_id, flush=True)
if sys.argv[3] == "interrupted":
    raise KeyboardInterrupt
for number in range(15):
    curves = {"epoch_loss": [1 / step for step in range(1, 41)]}
    content = {"params": {"number": number}, "metrics": {"score": 0.5}, "curves": curves}
    parent.log_child({"name": f"child {number}", **content})
parent.finish("FINISHED")
"""


def run_at_once(folder, experiment, *endings):
    """Processes that begin together: identifier of the run and errors of each."""
    with contextlib.ExitStack() as stack:
        processes = []
        for ending in endings:
            command = [sys.executable, "-c", PROGRAM, str(folder), experiment, ending]
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            processes.append(stack.enter_context(subprocess.Popen(command, **pipes, text=True)))
            stack.callback(processes[-1].kill)
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        return [
            (out.strip(), errors if process.returncode else "")
            for process in processes
            for out, errors in [process.communicate(timeout=120)]
        ]


def test_two_processes_write_to_the_same_file_at_once(logged, root):
    (first, errors), (second, more_errors) = run_at_once(root, "study", "finished", "finished")
    assert (errors, more_errors) == ("", "")
    for run_id in (first, second):
        run = logged.client.get_run(run_id)
        assert run.info.status == "FINISHED"
        children = children_of(ParentRun(logged.client, logged.experiment_id, run_id, ""))
        assert len(children) == 15
        assert {len(c.data.metrics) for c in children.values()} == {2}
        assert {c.info.status for c in children.values()} == {"FINISHED"}


def test_two_processes_may_be_the_first_to_use_a_file(tmp_path):
    """Else both fail, and so does every later run: the tables are half made."""
    done = run_at_once(tmp_path, "study", "finished", "finished")
    assert [errors[-300:] for _, errors in done] == ["", ""]


def test_an_experiment_that_another_process_has_just_made_is_used(logged, root, monkeypatch):
    from mlflow import MlflowClient

    name = "just made"
    made = logged.client.create_experiment(name)
    ask = MlflowClient.get_experiment_by_name
    answers = iter([None])  # the other process makes it between our question and our own attempt
    monkeypatch.setattr(
        MlflowClient, "get_experiment_by_name", lambda self, n: next(answers, ask(self, n))
    )
    parent = ParentRun.start(CONFIG | {"experiment": name}, root, tags={})
    parent.finish("FINISHED")
    assert parent.experiment_id == made


def test_an_interrupted_process_leaves_no_run_open(logged, root):
    ((run_id, errors),) = run_at_once(root, "study", "interrupted")
    assert "KeyboardInterrupt" in errors
    assert logged.client.get_run(run_id).info.status == "KILLED"


# --- a server -------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def is_healthy(address):
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@contextlib.contextmanager
def serving(folder, port):
    """A server process; whether it answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", str(folder / "artefacts")]
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    with (folder / "server.log").open("a") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        healthy = False
        while not healthy and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
            healthy = is_healthy(f"http://127.0.0.1:{port}")
        yield healthy
    finally:
        # It has children of its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of an MLflow server on this machine, with a store of its own."""
    folder = tmp_path_factory.mktemp("server")
    # Somebody else may take a port between our asking for a free one and the server's start.
    for _ in range(3):
        port = free_port()
        with serving(folder, port) as healthy:
            if healthy:
                yield f"http://127.0.0.1:{port}"
                return
    pytest.fail(f"MLflow's server does not start: {(folder / 'server.log').read_text()[-3000:]}")


@pytest.fixture(scope="module")
def at_server(server, root, logged):
    """A finished run at the server, two of whose children were logged while it lasted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        curves = {"epoch_loss": [1 / step for step in range(1, 1501)]}
        curves |= {f"fold_0.{fold}_val_accuracy": [0.1 * fold, 0.5] for fold in range(3)}
        parent = ParentRun.start(CONFIG | {"tracking_uri": server}, root, tags={})
        tracking.log_child(child("narrow", curves=curves))
        tracking.log_child(
            child("broken", metrics={}, curves={}, tags={"error": "ValueError: 0"}, status="FAILED")
        )
        children = [*RUNS["children"], child("broken", metrics={}, curves={})]
        parent.log_runs(RUNS | {"children": children}, [root / "books"])
        parent.log_artefacts([root / "report.html", root / "books"])
        parent.finish("FINISHED")
        return parent


def test_a_server_knows_the_run_and_its_children_by_the_same_keys(at_server, server):
    parent = at_server.client.get_run(at_server.run_id)
    children = children_of(at_server)
    assert at_server.address == server
    assert set(children) == {"narrow", "majority class", "broken"}
    assert parent.data.params == {"n_objects": "24", "n_folds": "5"}
    assert parent.data.tags["data_fingerprint"] == "f" * 64
    assert len({frozenset(run.data.params) for run in children.values()}) == 1
    for name in ("narrow", "majority class"):
        assert {"success_rate", "p_value"} <= set(children[name].data.metrics)
    assert {run.info.status for run in (parent, children["narrow"])} == {"FINISHED"}


def test_a_server_has_the_curves_of_each_fold_and_those_of_more_than_a_thousand_steps(at_server):
    run_id = children_of(at_server)["narrow"].info.run_id

    def steps(key):
        history = at_server.client.get_metric_history(run_id, key)
        return sorted((metric.step, metric.value) for metric in history)

    assert steps("fold_0.2_val_accuracy") == [(1, 0.2), (2, 0.5)]
    assert steps("epoch_loss") == [(step, 1 / step) for step in range(1, 1501)]


def test_a_server_shows_what_failed_and_why(at_server):
    broken = children_of(at_server)["broken"]
    assert broken.info.status == "FAILED"
    assert broken.data.tags["error"] == "ValueError: 0"


def test_a_server_keeps_the_files(at_server, root, tmp_path):
    client = at_server.client
    names = [file.path for file in client.list_artifacts(at_server.run_id)]
    assert names == ["books", "report.html"]
    child_id = children_of(at_server)["narrow"].info.run_id
    path = client.download_artifacts(child_id, "narrow.xlsx", str(tmp_path))
    assert Path(path).read_text() == "narrow.xlsx"
    # Not into the project, where a local store has them.
    assert at_server.run_id not in {path.name for path in (root / "files").rglob("*")}


# --- the registry ---------------------------------------------------------------------------------

DESCRIPTION = {
    "trained": True,
    "class_names": ["symmetric", "lopsided"],
    "temperature": 1.5,
    "configuration": {"network": {"widths": [4]}},
}


def tiny_network():
    import keras

    layers = [
        keras.layers.Input((4, 4, 1)),
        keras.layers.Flatten(),
        keras.layers.Dense(2, activation="softmax"),
    ]
    return keras.Sequential(layers)


@pytest.fixture(scope="module")
def registered(server, root, logged):
    """A run at the server with a network in the registry, and what the environment was then."""
    shown = io.StringIO()
    logging.getLogger("mlflow").setLevel("WARNING")  # as in a run
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        parent = ParentRun.start(CONFIG | {"tracking_uri": server}, root, tags={})
        network = tiny_network()
        example = np.random.default_rng(0).random((1, 4, 4, 1), dtype=np.float32)
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            for _ in range(2):
                address = parent.register_model(
                    network, DESCRIPTION, example, name="profiles", alias="selected"
                )
        parent.finish("FINISHED")
        left_behind = os.environ.get("MLFLOW_TRACKING_URI")
    return SimpleNamespace(
        parent=parent, network=network, example=example, address=address, left_behind=left_behind,
        shown=shown.getvalue(),
    )  # fmt: skip


def test_registering_prints_nothing(registered):
    assert registered.shown == ""


def test_a_file_has_a_registry_too(logged, root, registered):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parent = ParentRun.start(CONFIG | {"experiment": "registry"}, root, tags={})
        parent.register_model(
            registered.network, DESCRIPTION, registered.example, name="profiles", alias="selected"
        )
        parent.finish("FINISHED")
    version = logged.client.get_model_version_by_alias("profiles", "selected")
    assert (version.run_id, str(version.version)) == (parent.run_id, "1")


def test_registering_again_makes_another_version(registered):
    found = registered.parent.client.search_model_versions("name = 'profiles'")
    assert {version.version for version in found} == {"1", "2"}
    version = registered.parent.client.get_model_version_by_alias("profiles", "selected")
    assert version.version == "2"


def test_the_registry_has_the_network_with_its_classes_under_its_alias(registered):
    client = registered.parent.client
    version = client.get_model_version_by_alias("profiles", "selected")
    assert registered.address == "models:/profiles@selected"
    assert version.run_id == registered.parent.run_id
    assert version.tags == {"class_names": "symmetric, lopsided"}
    assert client.get_run(registered.parent.run_id).info.status == "FINISHED"


def test_the_network_has_a_signature_an_example_and_its_description(registered, server):
    import mlflow

    mlflow.set_tracking_uri(server)
    info = mlflow.models.get_model_info(registered.address)
    assert info.signature.inputs.input_types() == [np.dtype("float32")]
    assert info.signature.inputs.inputs[0].shape == (-1, 4, 4, 1)
    assert info.signature.outputs.inputs[0].shape == (-1, 2)
    assert info.metadata == DESCRIPTION
    folder = Path(mlflow.artifacts.download_artifacts(registered.address))
    example = mlflow.models.Model.load(folder).load_input_example(str(folder))
    np.testing.assert_allclose(example, registered.example, rtol=1e-6)


def test_the_registered_network_comes_back_as_it_was(registered, server):
    from skyloom.datasets import RegisteredModelDataset

    dataset = RegisteredModelDataset(model=registered.address, tracking_uri=server)
    network, description = dataset.load()
    assert description == DESCRIPTION
    np.testing.assert_array_equal(
        network.predict_on_batch(registered.example),
        registered.network.predict_on_batch(registered.example),
    )


def test_registering_does_not_decide_where_later_runs_are_logged(registered):
    """MLflow writes the address into the environment, which wins over the configuration."""
    assert registered.left_behind is None
