"""MLflow runs in a real store."""

import re
import subprocess

import pytest

from skyloom.tracking import ParentRun

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
    for run in children_of(logged).values():
        assert run.data.tags["data_fingerprint"] == "f" * 64


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


def test_an_interrupted_run_does_not_stay_open(tmp_path):
    import subprocess
    import sys

    from mlflow import MlflowClient

    code = (
        "import sys; from pathlib import Path; from skyloom.tracking import ParentRun\n"
        "config = {'tracking_uri': 'sqlite:///mlflow.db', 'artefacts': 'files'}\n"
        "config['experiment'] = 'x'\n"
        "print(ParentRun.start(config, Path(sys.argv[1]), tags={}).run_id)\n"
        "raise KeyboardInterrupt\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert client.get_run(done.stdout.split()[-1]).info.status == "KILLED"
