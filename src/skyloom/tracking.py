"""MLflow: a parent run for a pipeline run, a child for each configuration."""

from __future__ import annotations

import atexit
import json
import logging
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any


def store_address(configured: str, project_path: Path) -> tuple[str, bool]:
    """Address of the tracking store.

    Parameters
    ----------
    configured : str
        The environment variable ``MLFLOW_TRACKING_URI`` wins over it.
    project_path : pathlib.Path
        Root for a relative SQLite file.

    Returns
    -------
    address : str
    in_project : bool
        Whether it is a file of the project.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI") or configured
    local = address.startswith("sqlite:///") and not address.startswith("sqlite:////")
    if local:
        address = f"sqlite:///{project_path / address.removeprefix('sqlite:///')}"
    return address, local


def how_to_open(address: str, project_path: Path) -> str:
    """Say how MLflow's interface shows a tracking store.

    Parameters
    ----------
    address : str
        From `store_address`.
    project_path : pathlib.Path
        Where ``make`` is called.

    Returns
    -------
    str
        A command, or the address of a server.
    """
    if address.startswith("http"):
        return f"open {address}"
    if address == f"sqlite:///{project_path / _OF_UI.removeprefix('sqlite:///')}":
        return "make ui"
    return shlex.join(["make", "ui", f"STORE={address}"])


_PROCESS_TAG = "skyloom.process"
_UI = "http://127.0.0.1:5000"  # of `make ui`, where the store is a file
_OF_UI = "sqlite:///mlflow.db"  # what `make ui` opens by itself
logger = logging.getLogger(__name__)
_open_parents: list[ParentRun] = []


def log_child(child: dict[str, Any]) -> None:
    """Log a finished configuration under the run that is open; does nothing where there is none.

    Parameters
    ----------
    child : dict
        As in `ParentRun.log_child`.
    """
    for parent in _open_parents:
        parent.log_child(child)


class ParentRun:
    """An open MLflow run and its children.

    Parameters
    ----------
    client : mlflow.MlflowClient
        Connection to the tracking store.
    experiment_id, run_id, address : str
        Where the run is.

    Attributes
    ----------
    links : dict of str to str
        Pages of MLflow's interface, and what each of them shows.
    """

    def __init__(self, client: Any, experiment_id: str, run_id: str, address: str) -> None:
        self.client = client
        self.experiment_id = experiment_id
        self.run_id = run_id
        self.address = address
        self._children: dict[str, str] = {}
        server = address if address.startswith("http") else _UI
        self._runs_page = f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs"
        self.links = {f"{self._runs_page}/{run_id}": "this run"}

    @classmethod
    def start(cls, config: dict[str, Any], project_path: Path, tags: dict[str, str]) -> ParentRun:
        """Open a run.

        Parameters
        ----------
        config : dict
            ``tracking_uri``, ``experiment`` and ``artefacts`` (folder for the files of a local
            store). The environment variable ``MLFLOW_TRACKING_URI`` wins over the first.
        project_path : pathlib.Path
            Root for relative addresses, and the git repository.
        tags : dict of str to str
            More tags of the run.

        Returns
        -------
        ParentRun
        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        address, local = store_address(config["tracking_uri"], project_path)
        from locket import lock_file

        name = config["experiment"]
        files = (project_path / config["artefacts"]).as_uri() if local else None
        # The tables of a new file are made at the first connection: by one process at a time.
        lock = lock_file(f"{address.removeprefix('sqlite:///')}.lock") if local else nullcontext()
        with lock:
            client = MlflowClient(tracking_uri=address)
            experiment = client.get_experiment_by_name(name)
            experiment_id = (
                _new_experiment(client, name, files)
                if experiment is None
                else experiment.experiment_id
            )
            if experiment is not None and experiment.lifecycle_stage == "deleted":
                client.restore_experiment(experiment_id)
                logger.warning(
                    "the experiment %r had been deleted in MLflow, which keeps its name: it is "
                    "restored with its runs (`mlflow gc` removes deleted ones for good)", name,
                )  # fmt: skip
        _close_abandoned(client, experiment_id)
        commit = _git(project_path, "rev-parse", "HEAD")
        own = {
            "mlflow.runName": f"{name} {time.strftime('%Y-%m-%d %H:%M:%S')}",
            _PROCESS_TAG: _process(),
        }
        if commit:
            own["mlflow.source.git.commit"] = commit
            own["git_dirty"] = str(bool(_git(project_path, "status", "--porcelain")))
        run = client.create_run(experiment_id, tags=own | tags)
        parent = cls(client, experiment_id, run.info.run_id, address)
        # Kedro tells hooks of errors, not of Ctrl-C; no run stays open in the store.
        atexit.register(parent.finish, "KILLED")
        _open_parents.append(parent)
        return parent

    def log_child(self, child: dict[str, Any]) -> None:
        """Log one child, once.

        Parameters
        ----------
        child : dict
            ``name``, ``params``, ``metrics``, ``curves`` (metric name to values by step) and, where
            it failed, ``tags`` and ``status``.
        """
        if child["name"] in self._children:
            return
        tags = {
            "mlflow.runName": child["name"],
            "mlflow.parentRunId": self.run_id,
            _PROCESS_TAG: _process(),
        }
        run = self.client.create_run(self.experiment_id, tags=tags | child.get("tags", {}))
        run_id = self._children[child["name"]] = run.info.run_id
        self._batch(
            run_id, params=child["params"], metrics=child["metrics"], curves=child["curves"]
        )
        self.client.set_terminated(run_id, child.get("status", "FINISHED"))

    def log_runs(self, runs: dict[str, Any], workbooks: list[Path]) -> None:
        """Log what the parent is compared by, and all children that are not logged yet.

        Parameters
        ----------
        runs : dict
            ``tags``, ``params`` and ``children`` as made by the reporting stage; a child's
            ``file`` names its workbook. Where they are given: ``metrics``, ``dataset`` (``name``,
            ``source`` and ``digest`` of what was read), ``description`` in Markdown, and
            ``columns``, the metrics and parameters that a table of runs should show, of which the
            first sorts it.
        workbooks : list of pathlib.Path
            Folders with a file for each child, named after it.
        """
        tags = dict(runs["tags"])
        if "description" in runs:
            tags["mlflow.note.content"] = runs["description"]
        self._batch(self.run_id, params=runs["params"], tags=tags, metrics=runs.get("metrics"))
        if "dataset" in runs:
            self._log_dataset(**runs["dataset"])
        if "columns" in runs:
            self._save_views(runs)
        for child in runs["children"]:
            self.log_child(child)
            for folder in workbooks:
                for path in sorted(folder.glob(f"{child['file']}.*")):
                    self.client.log_artifact(self._children[child["name"]], str(path))

    def _log_dataset(self, name: str, source: str, digest: str) -> None:
        from mlflow.entities import Dataset, DatasetInput

        dataset = Dataset(
            name=name,
            digest=digest[:8],  # as long as those of MLflow; more than 36 are refused
            source_type="local",
            source=json.dumps({"uri": source}),
        )
        self.client.log_inputs(self.run_id, datasets=[DatasetInput(dataset)])

    def _save_views(self, runs: dict[str, Any]) -> None:
        """Save two views of the runs page in its own form: a tag of the experiment."""
        measured = set().union(*(run.get("metrics", ()) for run in [runs, *runs["children"]]))
        columns = [
            f"{'metrics' if name in measured else 'params'}.`{name}`" for name in runs["columns"]
        ]
        source, dataset = "attributes.`Source`", "attributes.`Dataset`"
        every_run = {
            "selectedColumns": [*columns, dataset, source],
            "columnOrder": [*columns, dataset, source],
            "columnWidths": {source: 500},
        }
        # Children are folded away under their parents, which no saved view can change; only where
        # the table is sorted by something else than time are there no folds.
        configurations = {
            "selectedColumns": columns,
            "columnOrder": columns,
            "searchFilter": f"tags.`mlflow.parentRunId` = '{self.run_id}'",
            "orderByKey": columns[0],
            "orderByAsc": False,
        }
        views = {"runs": ("all runs", every_run), self.run_id: ("its children", configurations)}
        for key, (content, view) in views.items():
            tag = f"mlflow.sharedViewState.{key}"
            self.client.set_experiment_tag(self.experiment_id, tag, json.dumps(view))
            self.links[f"{self._runs_page}?viewStateShareKey={key}"] = content

    def register_model(
        self, model: Any, description: dict[str, Any], example: Any, *, name: str, alias: str
    ) -> str:
        """Log a Keras model under the run and put it into the registry.

        Parameters
        ----------
        model : keras.Model
            To be used on new objects.
        description : dict
            Kept beside it as its metadata; ``class_names`` also as a tag of its version.
        example : numpy.ndarray
            One input, for the signature.
        name, alias : str
            In the registry.

        Returns
        -------
        str
            Its address there.
        """
        import keras
        import mlflow
        from mlflow.exceptions import MlflowException
        from mlflow.models import infer_signature

        with (
            using_store(self.address),
            mlflow.start_run(run_id=self.run_id),
            _no_step_bars(),  # MLflow tries the example
        ):
            logged = mlflow.tensorflow.log_model(
                model,
                name="classifier",
                signature=infer_signature(example, model.predict_on_batch(example)),
                input_example=example,
                metadata=description,
                # Else MLflow finds out by loading it in a process of its own.
                pip_requirements=[
                    *mlflow.tensorflow.get_default_pip_requirements(),
                    f"keras=={keras.__version__}",
                ],
            )
            # Not by `log_model`, which prints what it registers.
            try:
                self.client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
                    raise
            version = self.client.create_model_version(
                name,
                logged.model_uri,
                self.run_id,
                # Without classes there are no names.
                tags={"class_names": ", ".join(description.get("class_names", []))},
                model_id=logged.model_id,
            ).version
            self.client.set_registered_model_alias(name, alias, version)
            # By which its page leads to the registered version.
            versions = json.dumps([{"name": name, "version": version}])
            self.client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": versions})
        return f"models:/{name}@{alias}"

    def _batch(self, run_id, *, params=None, tags=None, metrics=None, curves=None):
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        points = [Metric(key, value, now, 0) for key, value in (metrics or {}).items()]
        for key, values in (curves or {}).items():
            points += [Metric(key, value, now, step) for step, value in enumerate(values, 1)]
        self.client.log_batch(
            run_id,
            params=[Param(key, str(value)) for key, value in (params or {}).items()],
            tags=[RunTag(key, str(value)) for key, value in (tags or {}).items()],
        )
        for start in range(0, len(points), 1000):  # no request may hold more
            self.client.log_batch(run_id, metrics=points[start : start + 1000])

    def log_artefacts(self, paths: list[Path]) -> None:
        """Attach files and folders to the parent run.

        Parameters
        ----------
        paths : list of pathlib.Path
            What to copy.
        """
        for path in paths:
            if path.is_dir():
                self.client.log_artifacts(self.run_id, str(path), path.name)
            else:
                self.client.log_artifact(self.run_id, str(path))

    def finish(self, status: str) -> None:
        """Close the run.

        Parameters
        ----------
        status : {"FINISHED", "FAILED", "KILLED"}
            How it ended.
        """
        self.client.set_terminated(self.run_id, status)
        atexit.unregister(self.finish)
        if self in _open_parents:
            _open_parents.remove(self)


def _process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _close_abandoned(client: Any, experiment_id: str) -> None:
    """Mark runs whose process on this machine is gone: one that is killed cannot do it itself."""
    for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'"):
        host, _, process = run.data.tags.get(_PROCESS_TAG, "").partition(":")
        if host == socket.gethostname() and not _is_alive(int(process)):
            client.set_terminated(run.info.run_id, "KILLED")


def _is_alive(process: int) -> bool:
    """Whether a process runs; one that ended and that nobody waited for does not."""
    import psutil

    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _new_experiment(client: Any, name: str, files: str | None) -> str:
    """Make an experiment, or take the one another process has just made."""
    from mlflow.exceptions import MlflowException

    try:
        return client.create_experiment(name, artifact_location=files)
    except MlflowException:
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise
        return experiment.experiment_id


@contextmanager
def using_store(address: str) -> Iterator[None]:
    """Make an address MLflow's own for a while; it would otherwise stay so for the process.

    Parameters
    ----------
    address : str
        Of the tracking store and the registry.

    Yields
    ------
    None
    """
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before or "")
        mlflow.set_registry_uri("")
        if before is None:
            os.environ.pop("MLFLOW_TRACKING_URI", None)


@contextmanager
def _no_step_bars() -> Iterator[None]:
    """Predictions of Keras without a progress bar each."""
    import keras

    shown = keras.config.is_interactive_logging_enabled()
    keras.config.disable_interactive_logging()
    try:
        yield
    finally:
        if shown:
            keras.config.enable_interactive_logging()


def _git(folder: Path, *arguments: str) -> str:
    """Output of a git command, or nothing where git or the repository is missing."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
