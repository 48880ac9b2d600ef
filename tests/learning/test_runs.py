"""What MLflow is told, of made-up comparisons of classes and of numbers."""

import json

import numpy as np
import pandas as pd
import pytest

import skyloom
from skyloom.evaluation.measures import classification, regression
from skyloom.evaluation.report import data_fingerprint
from skyloom.evaluation.splits import MANIFEST_COLUMNS, split_manifest
from skyloom.learning.comparison import no_comparison
from skyloom.learning.results import NESTED, score_comparison, scorer
from skyloom.learning.runs import (
    base_parameters,
    describe_children,
    describe_run,
    failed_run,
    network_run,
    parent_metrics,
    run_parameters,
)
from skyloom.pipelines.hi_profiles.parameters import Configuration, Sweep, SweepParameters

CLASSES, NUMBERS = classification(2), regression(scale=10.0)
N = 30
IDS = [f"g{i}" for i in range(N)]
OBJECTS = pd.DataFrame({"id": IDS, "group": IDS, "class": np.arange(N) % 2, "sha256": IDS})
SPLIT = split_manifest(OBJECTS, n_folds=2, n_inner_folds=2, seeds=[0, 1])
SWEEP = Sweep.lay_out(
    SweepParameters(grid={"network.widths": [[4], [4, 8]]}),
    Configuration(name="base", **{key: {} for key in Configuration.swept}),
)
NARROW, WIDE = (each.name for each in SWEEP.configurations)
KNOWN = {each.name: each.model_dump(mode="json") for each in SWEEP.configurations}
LINE, MAJORITY = "a line", "majority class"


def table_of(measure, name, quality):
    parts = []
    for (seed, fold), part in SPLIT[SPLIT["inner"] == 0].groupby(["seed", "fold"]):
        ids = part.loc[part["role"] == "test", "id"].to_numpy()
        number = np.array([int(each[1:]) for each in ids])
        rng = np.random.default_rng([seed, fold, int(100 * quality)])
        if measure is CLASSES:
            truth = number % 2
            named = np.where(rng.random(len(ids)) < quality, truth, 1 - truth)
            table = measure.table(truth, np.eye(2)[named] * 0.8 + 0.1)
        else:
            off = rng.normal(0, 2 - quality, len(ids))
            table = measure.table(1.0 * number, (number + off)[:, None] / 10)
        about = {"configuration": name, "seed": seed, "fold": fold, "id": ids}
        parts.append(pd.DataFrame(about).join(table))
    return pd.concat(parts, ignore_index=True)


class Compared:
    def __init__(self, measure=CLASSES):
        keys = [(s, f, i) for s in (0, 1) for f in (0, 1) for i in (0, 1)]
        scores = {NARROW: 0.7, WIDE: 0.8}
        self.measure = measure
        self.inner = pd.DataFrame(
            [(name, *key, score, 2) for name, score in scores.items() for key in keys],
            columns=no_comparison(measure).inner.columns,
        )
        self.curves = pd.DataFrame(
            [
                (name, *key, epoch, 1 / epoch, 0.5, 2 / epoch, 0.1 * key[1] + 0.5, 2)
                for name in scores
                for key in keys
                for epoch in (1, 2, 3)
            ],
            columns=no_comparison(measure).curves.columns,
        )
        networks = pd.concat([table_of(measure, NARROW, 0.7), table_of(measure, WIDE, 0.9)])
        baselines = pd.concat([table_of(measure, LINE, 0.8), table_of(measure, MAJORITY, 0.5)])
        self.scores, self.predictions, _ = score_comparison(
            networks, self.inner, no_comparison(measure).permutations, baselines, measure=measure,
            score=scorer(baselines, MAJORITY, measure), label_source="a table",
        )  # fmt: skip
        self.outcome = {"chosen": KNOWN[WIDE], "configurations": KNOWN, "failed": {}}

    def children(self, **changes):
        return describe_children(
            Configuration, self.measure, self.scores, self.inner, self.curves,
            self.outcome | changes,
        )  # fmt: skip

    def run(self, **changes):
        return describe_run(
            "brightness", SWEEP, OBJECTS, SPLIT, self.measure, self.scores, self.predictions,
            summary="  one\ntwo\n", params={"colour": "red"} | changes, children=self.children(),
        )  # fmt: skip


@pytest.fixture(scope="module")
def classes():
    return Compared()


@pytest.fixture(scope="module")
def numbers():
    return Compared(NUMBERS)


# --- children -------------------------------------------------------------------------------------


def test_networks_and_baselines_have_the_same_parameters():
    of_network = run_parameters(Configuration, SWEEP.configurations[1], WIDE, "network")
    of_baseline = run_parameters(Configuration, None, LINE, "baseline")
    assert set(of_network) == set(of_baseline)
    assert set(of_network) == {"configuration", "kind"}.union(*Configuration.swept.values())
    assert (of_network["widths"], of_network["rendering"]) == ("4-8", "corrected")
    assert (of_baseline["widths"], of_baseline["configuration"]) == ("none", LINE)


@pytest.mark.parametrize("measure", ["classes", "numbers"])
def test_every_configuration_and_baseline_is_a_child(measure, request):
    compared = request.getfixturevalue(measure)
    children = compared.children()
    assert [child["name"] for child in children] == [NESTED, NARROW, WIDE, LINE, MAJORITY]
    assert len({frozenset(child["params"]) for child in children}) == 1
    headline = compared.measure.headline.name
    told = [child["metrics"][headline] for child in children]
    assert told == pytest.approx(compared.scores[headline].tolist())
    for child in children:
        assert np.isfinite(list(child["metrics"].values())).all()  # a database would refuse others
        assert {"kind", "label_source", "p_value_of"}.isdisjoint(child["metrics"])
    assert json.loads(json.dumps(children)) == children


@pytest.mark.parametrize("measure", ["classes", "numbers"])
def test_a_network_is_told_with_its_inner_score_and_its_curves(measure, request):
    compared = request.getfixturevalue(measure)
    _, narrow, *_, majority = compared.children()
    metric = compared.measure.metric
    assert narrow["metrics"]["inner_score"] == pytest.approx(0.7)
    mean = {name: values for name, values in narrow["curves"].items() if "epoch" in name}
    assert set(mean) == {"epoch_loss", f"epoch_{metric}", "epoch_val_loss", f"epoch_val_{metric}"}
    assert mean["epoch_loss"] == pytest.approx([1, 1 / 2, 1 / 3])
    by_fold = {name: values for name, values in narrow["curves"].items() if "fold" in name}
    assert set(by_fold) == {f"fold_{s}.{f}_val_{metric}" for s in (0, 1) for f in (0, 1)}
    assert by_fold[f"fold_0.1_val_{metric}"] == pytest.approx([0.6] * 3)
    assert majority["curves"] == {}


def test_what_is_told_as_a_network_is_finished_is_what_is_told_at_the_end(classes):
    own = (table[table["configuration"] == WIDE] for table in (classes.inner, classes.curves))
    row = classes.scores.set_index("configuration").loc[WIDE]
    metrics = {"success_rate": float(row["success_rate"])}
    early = network_run(SWEEP.configurations[1], CLASSES, metrics, *own)
    late = next(child for child in classes.children() if child["name"] == WIDE)
    assert (early["params"], early["curves"]) == (late["params"], late["curves"])
    assert early["metrics"].items() <= late["metrics"].items()


@pytest.mark.parametrize(
    ("error", "status"), [("MemoryError: no", "FAILED"), ("pruned", "FINISHED")]
)
def test_what_failed_or_was_pruned_is_told_with_the_reason(classes, error, status):
    child = failed_run(Configuration, SWEEP.configurations[0], NARROW, error)
    assert (child["tags"], child["status"]) == ({"error": error}, status)
    assert child["metrics"] == child["curves"] == {}
    assert child["params"]["widths"] == "4"
    late = classes.children(
        configurations=KNOWN | {"03 2": KNOWN[NARROW], "0.0.01": None},
        failed={"03 2": error, "0.0.01": "ValueError: no"},
    )[-2:]
    assert [each["name"] for each in late] == ["03 2", "0.0.01"]
    assert late[0] == failed_run(Configuration, SWEEP.configurations[0], "03 2", error) | {
        "file": "03_2"
    }
    assert late[1]["params"]["widths"] == "none"  # its values did not go together


# --- the run that holds them ----------------------------------------------------------------------


def test_the_run_says_what_was_compared_on_which_data(classes):
    run = classes.run()
    assert json.loads(json.dumps(run)) == run
    assert run["name"] == run["dataset"]["name"] == "brightness"
    fingerprint = data_fingerprint(OBJECTS)
    assert run["tags"] == {
        "data_fingerprint": fingerprint, "label_source": "a table",
        "skyloom_version": skyloom.__version__,
    }  # fmt: skip
    assert run["dataset"] == {
        "name": "brightness", "source": "a table", "digest": fingerprint[:32],
    }  # fmt: skip
    params = run["params"]
    assert (params["n_in_split"], params["n_classes"], params["seeds"]) == (N, 2, [0, 1])
    assert (params["n_folds"], params["n_inner_folds"]) == (2, 2)
    assert (params["best_baseline"], params["colour"]) == (LINE, "red")
    assert "one\ntwo" in run["description"]
    assert set(run["columns"]) <= set(run["metrics"]) | set(params)
    assert run["children"][0]["name"] == NESTED


def test_parameters_that_are_varied_are_told_as_varied_and_the_others_as_they_are():
    values = base_parameters(SWEEP)
    assert values["sweep"] == "network.widths"
    assert values["widths"] == "varied"
    assert values["architecture"] == "ring_cnn"
    assert values["size"] == 32


def test_an_axis_of_one_value_is_told_by_its_value():
    grid = {"network.widths": [[4], [4, 8]], "training.epochs": [7]}
    values = base_parameters(Sweep.lay_out(SweepParameters(grid=grid), SWEEP.base))
    assert (values["widths"], values["epochs"]) == ("varied", 7)
    space = {"training.epochs": [7, 9]}
    search = Sweep.lay_out(SweepParameters(search={"n_trials": 2, "space": space}), SWEEP.base)
    assert base_parameters(search)["epochs"] == "varied"


@pytest.mark.parametrize("measure", ["classes", "numbers"])
def test_the_run_is_compared_with_others_by_the_nested_procedure_beside_the_best_baseline(
    measure, request
):
    compared = request.getfixturevalue(measure)
    metrics, baseline = parent_metrics(compared.measure, compared.scores, compared.predictions, 0)
    headline = compared.measure.headline.name
    scores = compared.scores.set_index("configuration")
    assert baseline == LINE
    assert metrics[headline] == scores.loc[NESTED, headline]
    assert metrics[f"baseline_{headline}"] == scores.loc[LINE, headline]
    expected = scores.loc[NESTED, headline] - scores.loc[LINE, headline]
    assert metrics["minus_best_baseline"] == pytest.approx(expected)
    assert metrics["minus_best_baseline_low"] <= expected <= metrics["minus_best_baseline_high"]
    first = [headline, *compared.measure.interval, "chance_level", f"baseline_{headline}"]
    assert list(metrics)[:5] == first
    assert ("p_value" in metrics) == compared.measure.has_classes
    assert metrics["n_objects"] == N


def test_a_run_with_nothing_trained_has_neither_metrics_nor_children():
    nothing = no_comparison(CLASSES)
    scores = pd.DataFrame(columns=["configuration", "kind"])
    children = describe_children(
        Configuration, CLASSES, scores, nothing.inner, nothing.curves, nothing.outcome
    )
    run = describe_run(
        "brightness", SWEEP, OBJECTS, pd.DataFrame(columns=list(MANIFEST_COLUMNS)), CLASSES,
        scores, nothing.predictions, summary="too few", params={}, children=children,
    )  # fmt: skip
    assert json.loads(json.dumps(run)) == run
    assert run["children"] == []
    assert run["metrics"] == {}
    assert run["params"]["n_in_split"] == 0
    assert run["params"]["best_baseline"] == run["tags"]["label_source"] == "none"
