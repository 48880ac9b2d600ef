"""What happens at the edges of a run: MLflow is told, and the results are shown."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol, DatasetNotFoundError

from skyloom.raw_files import NothingUsableError

logger = logging.getLogger(__name__)

# Parameters of a command line that the catalog looks at, not the pipelines.
RUNTIME_PARAMETERS = frozenset({"folder", "labels", "model", "review", "sources", "sweep"})


class ParameterHooks:
    """Refuse a run with a parameter that nothing looks at: it is misspelt."""

    @hook_impl
    def before_pipeline_run(self, catalog) -> None:
        """Compare what is configured with what the pipelines ask for.

        Raises
        ------
        ValueError
            If a parameter belongs to nothing; names it and the most similar one.
        """
        from kedro.framework.project import pipelines

        names = {name for pipeline in pipelines.values() for name in pipeline.inputs()}
        asked = {name.removeprefix("params:") for name in names if name.startswith("params:")}
        for name in sorted(catalog.keys()):  # the same one is named in every run
            given = name.removeprefix("params:")
            if given == name or given in RUNTIME_PARAMETERS:
                continue
            if not any(_belongs(given, other) or _belongs(other, given) for other in asked):
                (similar,) = get_close_matches(given, asked | RUNTIME_PARAMETERS, n=1, cutoff=0)
                msg = f"there is no parameter {given!r}; did you mean {similar!r}?"
                raise ValueError(msg)


def _belongs(name: str, other: str) -> bool:
    return name == other or name.startswith(f"{other}.")


class RejectionHooks:
    """Write down what was rejected also where that ends the run."""

    @hook_impl
    def on_node_error(self, error, node, catalog) -> None:
        """Save the rejections of `skyloom.raw_files.NothingUsableError` and name their file."""
        if not isinstance(error, NothingUsableError) or error.rejected is None:
            return
        for name in node.outputs:
            if name.endswith(".rejected"):
                catalog.save(name, error.rejected)
                error.args = (f"{error}. All are listed in {catalog.get(name)._filepath}",)


class ResultHooks:
    """Log finished runs to MLflow and print where to look.

    A catalog entry takes part through its metadata, ``skyloom: {result: ...}``:
    ``runs`` holds what MLflow is told, ``configurations`` those it is told of as they finish,
    ``artefact`` is attached to the parent run, ``workbooks``
    to the children by name, ``model`` (with the entries of its ``description`` and ``example``)
    goes into the registry, ``summary`` is printed at the end and ``show`` is named there.
    """

    def __init__(self) -> None:
        self._project_path = Path.cwd()
        self._config: dict[str, Any] = {}
        self._parent = None

    @hook_impl
    def after_context_created(self, context) -> None:
        """Read the address of the tracking server; nothing is imported yet."""
        self._project_path = context.project_path
        self._config = context.config_loader["mlflow"]

    @hook_impl
    def before_pipeline_run(self, run_params, pipeline, catalog) -> None:
        """Open the parent run if this pipeline ends in results."""
        self._close("KILLED")  # a run before it that was interrupted, in a notebook
        kinds = ("configurations", "runs")
        results = [name for kind in kinds for name in self._results(pipeline, catalog, kind)]
        if results:
            from skyloom.tracking import ParentRun

            study = results[0].partition(".")[0]
            self._parent = ParentRun.start(
                {**self._config, "experiment": self._config["experiment"] or study},
                self._project_path,
                tags=_run_tags(run_params),
            )

    @hook_impl
    def after_pipeline_run(self, pipeline, catalog) -> None:
        """Log the children, attach the artefacts, print the table and the paths."""
        if self._parent is not None:
            try:
                for name in self._results(pipeline, catalog, "runs"):
                    workbooks = self._paths(pipeline, catalog, "workbooks")
                    self._parent.log_runs(self._with_source(catalog, name), workbooks)
                self._parent.log_artefacts(self._paths(pipeline, catalog, "artefact"))
                self._parent.log_artefacts(self._paths(pipeline, catalog, "show"))
                for name in self._results(pipeline, catalog, "model"):
                    self._register(catalog, name)
            except BaseException:  # also Ctrl-C: the run must not stay open
                self._close("FAILED")
                raise
            self._parent.finish("FINISHED")
        for name in self._results(pipeline, catalog, "summary"):
            print(f"\n{catalog.load(name)}")
        shown = self._paths(pipeline, catalog, "show")
        if shown:
            print("Look at:")
            for path in shown:
                print(f"  {self._relative(path)}")
        if self._parent is not None:
            from skyloom.tracking import how_to_open

            command = how_to_open(self._parent.address, self._project_path)
            print(f"  MLflow: run {self._parent.run_id} in {self._parent.address} ({command})")
            for link, content in self._parent.links.items():
                print(f"    {content}: {link}")
            print()
        self._parent = None

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Mark the parent run as failed."""
        self._close("FAILED")

    def _close(self, status: str) -> None:
        if self._parent is not None:
            self._parent.finish(status)
            self._parent = None

    def _with_source(self, catalog: CatalogProtocol, name: str) -> dict[str, Any]:
        """What MLflow is told; only the catalog knows in which folder the observations are."""
        runs, raw = catalog.load(name), f"{name.partition('.')[0]}.observations@files"
        if "dataset" in runs and raw in catalog:
            runs["dataset"]["source"] = str(self._relative(Path(str(catalog.get(raw)._path))))
        return runs

    def _register(self, catalog: CatalogProtocol, name: str) -> None:
        """Put a trained network into the registry."""
        entry = _metadata(catalog, name)["skyloom"]
        description = catalog.load(entry["description"])
        if description["trained"]:
            address = self._parent.register_model(
                catalog.load(name),
                description,
                catalog.load(entry["example"]),
                name=entry["name"],
                alias=entry["alias"],
            )
            logger.info("Registered %s", address)

    def _results(self, pipeline, catalog: CatalogProtocol, kind: str) -> list[str]:
        return [
            name
            for name in sorted(pipeline.all_outputs())
            if _metadata(catalog, name).get("skyloom", {}).get("result") == kind
        ]

    def _paths(self, pipeline, catalog: CatalogProtocol, kind: str) -> list[Path]:
        paths = []
        for name in self._results(pipeline, catalog, kind):
            dataset = catalog.get(name)
            path = getattr(dataset, "_filepath", None) or getattr(dataset, "_path", None)
            if path is not None and Path(str(path)).exists():
                paths.append(Path(str(path)))
        return paths

    def _relative(self, path: Path) -> Path:
        return (
            path.relative_to(self._project_path)
            if path.is_relative_to(self._project_path)
            else path
        )


def _metadata(catalog: CatalogProtocol, name: str) -> dict[str, Any]:
    try:
        return getattr(catalog.get(name), "metadata", None) or {}
    except DatasetNotFoundError:
        return {}


def _run_tags(run_params: dict[str, Any]) -> dict[str, str]:
    keys = ("pipeline_names", "pipeline_name", "env", "runtime_params", "kedro_version")
    tags = {f"kedro.{key}": str(run_params[key]) for key in keys if run_params.get(key)}
    # Of every other type the page of runs shows only what follows the last slash.
    return tags | {"mlflow.source.name": _command(run_params), "mlflow.source.type": "JOB"}


def _command(run_params: dict[str, Any]) -> str:
    """What was typed, or would have to be, for this run."""
    words = ["kedro", "run"]
    if run_params.get("env"):
        words += ["--env", run_params["env"]]
    for option in (
        "pipelines", "tags", "nodes", "from-nodes", "to-nodes", "from-inputs", "to-outputs",
        "namespaces",
    ):  # fmt: skip
        key = {"pipelines": "pipeline_names", "nodes": "node_names"}.get(option, option)
        if values := run_params.get(key.replace("-", "_")):
            words += [f"--{option}", ",".join(values)]
    if parameters := run_params.get("runtime_params"):
        words += ["--params", ",".join(f"{key}={value}" for key, value in _flat(parameters))]
    return shlex.join(words)


def _flat(parameters: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names as on the command line, with dots, and values."""
    for key, value in parameters.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
