"""What a run tells MLflow and shows at its end, through Kedro's own catalog and runner."""

from types import SimpleNamespace

import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner

from skyloom import tracking
from skyloom.hooks import ParameterHooks, RejectionHooks, ResultHooks
from skyloom.pipelines.wiring import Step, side_pipeline
from skyloom.raw_files import tabulate_rejections

CONFIG = {"tracking_uri": "sqlite:///mlflow.db", "artefacts": "files", "experiment": "study"}


class RecordedRun:
    """Stands for `skyloom.tracking.ParentRun`, whose own tests use a real store."""

    opened = None

    def __init__(self):
        self.run_id, self.address = "run-1", "sqlite:///somewhere"
        self.links = {"http://127.0.0.1:5000/#/experiments/1/runs/run-1": "this run"}
        self.statuses, self.runs, self.artefacts, self.models = [], [], [], []
        self.fails_with = None

    @classmethod
    def start(cls, config, project_path, tags):
        run = cls()
        run.start_arguments = (config, project_path, tags)
        cls.opened.append(run)
        return run

    def log_runs(self, runs, workbooks):
        if self.fails_with is not None:
            raise self.fails_with
        self.runs.append((runs, workbooks))

    def log_artefacts(self, paths):
        self.artefacts += paths

    def register_model(self, model, description, example, *, name, alias):
        assert self.statuses == []
        self.models.append((model, description, example, name, alias))
        return f"models:/{name}@{alias}"

    def finish(self, status):
        self.statuses.append(status)


@pytest.fixture
def opened(monkeypatch):
    monkeypatch.setattr(RecordedRun, "opened", [])
    monkeypatch.setattr(tracking, "ParentRun", RecordedRun)
    return RecordedRun.opened


def entry(kind, dataset, path):
    return {"type": dataset, "filepath": str(path), "metadata": {"skyloom": {"result": kind}}}


@pytest.fixture
def catalog(tmp_path):
    text = "text.TextDataset"
    entries = {
        "runs": entry("runs", "json.JSONDataset", tmp_path / "runs.json"),
        "report": entry("show", text, tmp_path / "report.html"),
        "table": entry("artefact", text, tmp_path / "table.csv"),
        "summary": entry("summary", text, tmp_path / "summary.txt"),
        "plain": {"type": text, "filepath": str(tmp_path / "plain.txt")},
        "books": {
            "type": "partitions.PartitionedDataset",
            "path": str(tmp_path / "books"),
            "dataset": text,
            "filename_suffix": ".txt",
            "metadata": {"skyloom": {"result": "workbooks"}},
        },
        "table_of_configurations": entry("configurations", text, tmp_path / "configurations.csv"),
        "network": entry("model", text, tmp_path / "network.txt"),
        "description": {"type": "json.JSONDataset", "filepath": str(tmp_path / "description.json")},
        "example": {"type": text, "filepath": str(tmp_path / "example.txt")},
    }
    entries["network"]["metadata"]["skyloom"] |= {
        "description": "description", "example": "example", "name": "study", "alias": "selected",
    }  # fmt: skip
    return DataCatalog.from_config(entries)


def results():
    return {"children": []}, "<html>", "a,b", "success rate 0.75", "plain", {"narrow": "book"}, 1


def pipeline(function=results):
    names = ["runs", "report", "table", "summary", "plain", "books", "in_memory"]
    return Pipeline([node(function, None, names, name="make")])


def run(hooks, catalog, tmp_path, chosen=None, run_params=None):
    """As `KedroSession.run` calls hooks."""
    chosen = pipeline() if chosen is None else chosen
    context = SimpleNamespace(project_path=tmp_path, config_loader={"mlflow": CONFIG})
    hooks.after_context_created(context)
    hooks.before_pipeline_run(run_params or {}, chosen, catalog)
    try:
        SequentialRunner().run(chosen, catalog)
    except Exception:
        hooks.on_pipeline_error()
        raise
    hooks.after_pipeline_run(chosen, catalog)


def test_a_finished_run_is_logged_with_its_results_and_closed(opened, catalog, tmp_path):
    run(ResultHooks(), catalog, tmp_path)
    (parent,) = opened
    assert parent.runs == [({"children": []}, [tmp_path / "books"])]
    assert parent.artefacts == [tmp_path / "table.csv", tmp_path / "report.html"]
    assert parent.statuses == ["FINISHED"]
    assert parent.start_arguments[:2] == (CONFIG, tmp_path)


def test_the_terminal_shows_the_table_the_report_and_the_run(opened, catalog, tmp_path, capsys):
    run(ResultHooks(), catalog, tmp_path)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines == [
        "success rate 0.75",
        "Look at:",
        "report.html",
        "MLflow: run run-1 in sqlite:///somewhere (make ui STORE=sqlite:///somewhere)",
        "this run: http://127.0.0.1:5000/#/experiments/1/runs/run-1",
    ]


def test_a_path_outside_the_project_is_shown_in_full(opened, catalog, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(ResultHooks(), catalog, elsewhere)
    assert f"  {tmp_path / 'report.html'}\n" in capsys.readouterr().out


def test_what_the_run_was_asked_for_becomes_tags(opened, catalog, tmp_path):
    asked = {
        "pipeline_names": ["hi_profiles"],
        "env": "real",
        "runtime_params": {"folder": "x"},
        "kedro_version": "1.7.0",
        "tags": (),
        "from_nodes": [],
    }
    run(ResultHooks(), catalog, tmp_path, run_params=asked)
    assert opened[0].start_arguments[2] == {
        "kedro.pipeline_names": "['hi_profiles']",
        "kedro.env": "real",
        "kedro.runtime_params": "{'folder': 'x'}",
        "kedro.kedro_version": "1.7.0",
        "mlflow.source.name": "kedro run --env real --pipelines hi_profiles --params folder=x",
        "mlflow.source.type": "JOB",
    }


@pytest.mark.parametrize(
    ("asked", "command"),
    [
        ({}, "kedro run"),
        ({"env": "paper", "pipeline_names": ["a", "b"]}, "kedro run --env paper --pipelines a,b"),
        (
            {"runtime_params": {"study": {"training": {"epochs": 3}, "seed": 1}, "folder": "a b"}},
            "kedro run --params 'study.training.epochs=3,study.seed=1,folder=a b'",
        ),
        (
            {"from_nodes": ["training.a.fit"], "node_names": ["x"], "to_outputs": ["a.scores"]},
            "kedro run --nodes x --from-nodes training.a.fit --to-outputs a.scores",
        ),
    ],
)
def test_the_source_of_a_run_is_the_command_that_makes_it(
    opened, catalog, tmp_path, asked, command
):
    run(ResultHooks(), catalog, tmp_path, run_params=asked)
    assert opened[0].start_arguments[2]["mlflow.source.name"] == command


def test_a_failed_run_is_marked_failed_and_logs_no_results(opened, catalog, tmp_path, capsys):
    def broken():
        raise ValueError("no usable line")

    with pytest.raises(ValueError, match="no usable line"):
        run(ResultHooks(), catalog, tmp_path, pipeline(broken))
    (parent,) = opened
    assert parent.statuses == ["FAILED"]
    assert parent.runs == []
    assert "Look at" not in capsys.readouterr().out


@pytest.mark.parametrize("error", [ConnectionError("server gone"), KeyboardInterrupt()])
def test_a_run_whose_results_cannot_be_logged_is_marked_failed(opened, catalog, tmp_path, error):
    hooks = ResultHooks()
    original = RecordedRun.start.__func__

    class Failing(RecordedRun):
        @classmethod
        def start(cls, *args, **kwargs):
            parent = original(cls, *args, **kwargs)
            parent.fails_with = error
            return parent

    tracking.ParentRun = Failing
    with pytest.raises(type(error)):
        run(hooks, catalog, tmp_path)
    assert opened[0].statuses == ["FAILED"]


def test_a_pipeline_without_results_opens_no_run_but_still_names_its_files(
    opened, catalog, tmp_path, capsys
):
    only_report = Pipeline([node(lambda: "<html>", None, "report", name="make")])
    run(ResultHooks(), catalog, tmp_path, only_report)
    assert opened == []
    out = capsys.readouterr().out
    assert "report.html" in out
    assert "MLflow" not in out


def test_a_failure_without_an_open_run_is_no_second_failure(opened, catalog, tmp_path):
    def broken():
        raise ValueError("first")

    hooks = ResultHooks()
    with pytest.raises(ValueError, match="first"):
        run(hooks, catalog, tmp_path, Pipeline([node(broken, None, "plain", name="make")]))
    assert opened == []


def test_a_second_run_in_the_same_session_does_not_touch_the_first(opened, catalog, tmp_path):
    hooks = ResultHooks()
    run(hooks, catalog, tmp_path)

    def broken():
        raise ValueError("second")

    with pytest.raises(ValueError, match="second"):
        run(hooks, catalog, tmp_path, Pipeline([node(broken, None, "plain", name="make")]))
    assert [parent.statuses for parent in opened] == [["FINISHED"]]


def test_results_that_were_not_written_are_not_announced(opened, catalog, tmp_path, capsys):
    hooks = ResultHooks()
    chosen = pipeline()
    context = SimpleNamespace(project_path=tmp_path, config_loader={"mlflow": CONFIG})
    hooks.after_context_created(context)
    hooks.before_pipeline_run({}, chosen, catalog)
    SequentialRunner().run(chosen, catalog)
    (tmp_path / "report.html").unlink()
    hooks.after_pipeline_run(chosen, catalog)
    assert opened[0].artefacts == [tmp_path / "table.csv"]
    assert "report.html" not in capsys.readouterr().out


# --- configurations that are logged as they finish ------------------------------------------------


def test_a_sweep_without_its_report_has_a_run_that_is_open_while_it_lasts(
    opened, catalog, tmp_path
):
    def sweep():
        assert [parent.statuses for parent in opened] == [[]]
        return "a,b"

    run(
        ResultHooks(), catalog, tmp_path,
        Pipeline([node(sweep, None, "table_of_configurations", name="sweep")]),
    )  # fmt: skip
    (parent,) = opened
    assert parent.runs == []
    assert parent.statuses == ["FINISHED"]


def test_the_table_of_configurations_is_no_artefact(opened, catalog, tmp_path):
    names = ["table_of_configurations", "table"]
    pair = Pipeline([node(lambda: ("a,b", "c,d"), None, names, name="make")])
    run(ResultHooks(), catalog, tmp_path, pair)
    assert opened[0].artefacts == [tmp_path / "table.csv"]


def test_an_interrupted_run_is_closed_before_the_next_one_in_the_process(opened, catalog, tmp_path):
    """Else children of the next one, in a notebook say, are logged under both."""

    def interrupted():
        raise KeyboardInterrupt

    hooks = ResultHooks()
    with pytest.raises(KeyboardInterrupt):
        run(hooks, catalog, tmp_path, pipeline(interrupted))
    run(hooks, catalog, tmp_path)
    assert [parent.statuses for parent in opened] == [["KILLED"], ["FINISHED"]]


# --- the network ----------------------------------------------------------------------------------


def training(trained, *more):
    """Pipeline that ends in a network, and in results where more are named."""
    made = ["weights", {"trained": trained, "class_names": ["a", "b"]}, "one input", "a,b"]
    names = ["network", "description", "example", "table_of_configurations", *more]
    values = [*made, *({"children": []} for _ in more)]
    return Pipeline([node(lambda: values, None, names, name="train")])


def test_a_trained_network_is_registered_as_its_entry_says(opened, catalog, tmp_path):
    run(ResultHooks(), catalog, tmp_path, training(True, "runs"))
    (parent,) = opened
    description = {"trained": True, "class_names": ["a", "b"]}
    assert parent.models == [("weights", description, "one input", "study", "selected")]
    assert len(parent.runs) == 1
    assert parent.statuses == ["FINISHED"]


def test_a_network_that_had_nothing_to_train_on_is_not_registered(opened, catalog, tmp_path):
    run(ResultHooks(), catalog, tmp_path, training(False))
    assert opened[0].models == []
    assert opened[0].statuses == ["FINISHED"]


def test_the_network_is_registered_under_an_open_run_only(opened, catalog, tmp_path):
    """A pipeline that makes a network and no results opens none."""
    names = ["network", "description", "example"]
    made = "weights", {"trained": True}, "one input"
    run(ResultHooks(), catalog, tmp_path, Pipeline([node(lambda: made, None, names, name="train")]))
    assert opened == []


@pytest.mark.parametrize("error", [ConnectionError("server gone"), KeyboardInterrupt()])
def test_a_run_whose_network_cannot_be_registered_is_marked_failed(
    opened, catalog, tmp_path, monkeypatch, capsys, error
):
    def refuse(self, *args, **kwargs):
        raise error

    monkeypatch.setattr(RecordedRun, "register_model", refuse)
    with pytest.raises(type(error)):
        run(ResultHooks(), catalog, tmp_path, training(True))
    assert opened[0].statuses == ["FAILED"]
    assert "MLflow" not in capsys.readouterr().out


# --- parameters -----------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch):
    """Pipelines that ask for a section and for one value of another."""

    inputs = ["params:study.training", "params:study.network.size", "params:cluster", "data"]
    pipeline = Pipeline([node(lambda *values: values, inputs, "result")])
    monkeypatch.setattr("kedro.framework.project.pipelines", {"study": pipeline})


GIVEN = ["study.training", "study.training.epochs", "study.network.size", "cluster.address"]


def check(*names):
    parents = {name.rpartition(".")[0] for name in names} - {""}
    entries = {f"params:{name}": MemoryDataset(1) for name in {*names, *parents}}
    ParameterHooks().before_pipeline_run(DataCatalog(entries))


def test_parameters_that_are_asked_for_pass(asked):
    check(*GIVEN, "folder", "labels", "model", "sweep")


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("study.trainin", "study.training"),
        ("study.network.sizes", "study.network.size"),
        ("foldr", "folder"),
        ("cluser", "cluster"),
        ("studdy.training", "study.training"),
    ],
)
def test_a_misspelt_parameter_is_refused_with_the_most_similar_one(asked, name, similar):
    with pytest.raises(ValueError, match=f"did you mean '{similar}'"):
        check(*GIVEN, name)


# --- what was rejected ----------------------------------------------------------------------------


def ingest_nothing():
    return "profiles", tabulate_rejections([("a.fits", "empty file", "0 bytes")], 0, "a line")


@pytest.fixture
def rejected(tmp_path):
    """A catalog whose list of rejections is one of an earlier run."""
    path = tmp_path / "rejected.csv"
    path.write_text("file,reason,value\nold.fits,old,old\n")
    table = {"type": "pandas.CSVDataset", "filepath": str(path), "save_args": {"index": False}}
    return DataCatalog.from_config({"study.prediction.rejected": table}), path


def run_with_hooks(function, outputs, catalog):
    """By Kedro's own runner and plug-in manager."""
    manager = _create_hook_manager()
    manager.register(RejectionHooks())
    ingestion = side_pipeline("study", "prediction", [Step(function, "", outputs)])
    SequentialRunner().run(ingestion, catalog, hook_manager=manager)


def test_where_nothing_is_usable_the_new_list_is_written_and_named(rejected):
    catalog, path = rejected
    with pytest.raises(ValueError, match=f"1 empty file.* All are listed in {path}"):
        run_with_hooks(ingest_nothing, "profiles rejected", catalog)
    assert path.read_text() == "file,reason,value\na.fits,empty file,0 bytes\n"


def test_another_error_leaves_the_list_alone(rejected):
    def fail():
        raise ValueError("no label table")

    catalog, path = rejected
    with pytest.raises(ValueError, match=r"^no label table$"):
        run_with_hooks(fail, "profiles rejected", catalog)
    assert "old.fits" in path.read_text()


def test_a_node_without_a_list_fails_with_its_own_words():
    with pytest.raises(ValueError, match=r"0 bytes\)$"):
        run_with_hooks(ingest_nothing, "profiles table", DataCatalog())
