"""Small studies without classes, end to end: a made-up detection and a made-up search of anomalies.

Whatever a study asks, the engine goes the same way: sweep, kill, resumption, nested selection,
report, MLflow and the registry.
"""

import signal
import subprocess
import sys
from functools import partial
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from pydantic import Field
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.metrics import average_precision_score

from skyloom.compute import ClusterParameters
from skyloom.evaluation.measures import Column, Measure
from skyloom.evaluation.report import render_report, summary_text
from skyloom.evaluation.scores import bootstrap_interval
from skyloom.evaluation.splits import check_no_leak, split_manifest
from skyloom.learning import configurations
from skyloom.learning.comparison import compare_configurations
from skyloom.learning.parameters import Parameters
from skyloom.learning.results import NESTED, score_comparison, scorer
from skyloom.learning.runs import describe_children, describe_run
from skyloom.learning.tasks import ResultStore

N_TILES, SIZE, RADIUS = 24, 12, 1.5
SKILLS = [0.2, 0.9, 0.35]
N_FITS = 3 * 2  # of a configuration: outer folds times inner folds
BASELINE = "threshold"

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Port 8787 is already in use:UserWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning"),
]


# --- two measures ---------------------------------------------------------------------------------


def matched(stars, image):
    """Pixels that stand out, one to one with the stars that lie near."""
    named = np.argwhere(image > 0.5)
    if not len(named) or not len(stars):
        return 0, len(named)
    apart = cdist(stars, named)
    rows, columns = linear_sum_assignment(apart > RADIUS)
    return int((apart[rows, columns] <= RADIUS).sum()), len(named)


def detection_table(truth, images):
    """A row for each star, and one for each false alarm."""
    rows = []
    for number, (stars, image) in enumerate(zip(truth, images, strict=True)):
        right, n_named = matched(stars, image)
        rows += [(number, True, k < right) for k in range(len(stars))]
        rows += [(number, False, True)] * (n_named - right)
    table = pd.DataFrame(rows, columns=["object", "star", "named"]).set_index("object")
    return table.astype(bool)


def f1(table):
    right = int((table["star"] & table["named"]).sum())
    return 2 * right / max(1, int(table["star"].sum() + table["named"].sum()))


def by_object(score, predictions):
    return predictions.groupby("id").apply(score, include_groups=False)


def scores_of(score, name, chance, predictions, rng):
    low, high = bootstrap_interval(by_object(score, predictions).dropna().to_numpy(), rng)
    value = score(predictions)
    ends = {f"{name}_low": min(low, value), f"{name}_high": max(high, value)}
    known = {"n_objects": predictions["id"].nunique(), "n_seeds": predictions["seed"].nunique()}
    return {name: value, **ends, "chance_level": chance(predictions), **known}


def difference_of(score, predictions, reference, rng):
    apart = (by_object(score, predictions) - by_object(score, reference)).dropna().to_numpy()
    return score(predictions) - score(reference), *bootstrap_interval(apart, rng)


def detection():
    return Measure(
        name="f1", chance=0.0, table=detection_table, table_columns=("star", "named"), score=f1,
        scores=partial(scores_of, f1, "f1", lambda _: 0.0),
        difference=partial(difference_of, f1),
        headline=Column("f1", "F1", brief=True), interval=("f1_low", "f1_high"),
    )  # fmt: skip


def anomaly_table(truth, values):
    return pd.DataFrame({"anomaly": truth.astype(bool), "value": values})


def precision(table):
    # Without an anomaly there is nothing to be found.
    if not table["anomaly"].any():
        return np.nan
    return float(average_precision_score(table["anomaly"], table["value"]))


def anomalies():
    name = "average_precision"
    return Measure(
        name=name, chance=0.25, table=anomaly_table, table_columns=("anomaly", "value"),
        score=precision,
        scores=partial(scores_of, precision, name, lambda table: float(table["anomaly"].mean())),
        difference=partial(difference_of, precision),
        headline=Column(name, "average precision", brief=True),
        interval=(f"{name}_low", f"{name}_high"),
        target=lambda truth: truth.astype(np.float32),
    )  # fmt: skip


# --- a study --------------------------------------------------------------------------------------


class TrainingParameters(Parameters):
    skill: float = Field(0.5, ge=0, le=1, description="how much of the truth a fit sees")
    epochs: int = 2


class Configuration(configurations.Configuration):
    swept: ClassVar[dict[str, tuple[str, ...]]] = {"training": ("skill", "epochs")}

    training: TrainingParameters = TrainingParameters()

    @property
    def size(self):
        return SIZE


class SweepParameters(configurations.SweepParameters):
    configuration: ClassVar[type[configurations.Configuration]] = Configuration


class Sweep(configurations.Sweep):
    base: Configuration
    configurations: tuple[Configuration, ...]
    parameters: SweepParameters


CALLS: list = []


def settings_of(family, fold, seed):
    training = family[0].training
    return {"skill": training.skill, "epochs": [training.epochs], "shared": "truth", "seed": seed}


def made_up_task(settings, arrays, shared, *, threads):
    """As good as its skill says: the truth, seen through noise."""
    CALLS.append(settings["skill"])
    truth = shared[settings["shared"]]
    rng = np.random.default_rng(settings["seed"])
    said = {
        role: settings["skill"] * truth[arrays[role]]
        + (1 - settings["skill"]) * rng.random(truth[arrays[role]].shape)
        for role in ("validation", "test")
    }
    lengths = np.array(settings["epochs"])
    return {
        **{f"{role}_prediction": values[None] for role, values in said.items()},
        "history": np.ones((lengths.max(), 4)), "lengths": lengths, "best_epoch": lengths,
    }  # fmt: skip


def tiles():
    """Maps of tiles with stars, of which some have none, and their positions."""
    rng = np.random.default_rng(1)
    positions = np.empty(N_TILES, object)
    maps = np.zeros((N_TILES, SIZE, SIZE))
    for number in range(N_TILES):
        places = rng.integers(1, SIZE - 1, (number % 4, 2))
        positions[number] = np.unique(places, axis=0) if len(places) else places
        maps[(number, *positions[number].T)] = 1
    return positions, maps


def spectra():
    """One in four objects is an anomaly."""
    odd = (np.arange(N_TILES) % 4 == 3).astype(int)
    return odd, odd.astype(float)


STUDIES = {"detection": (detection, tiles), "anomalies": (anomalies, spectra)}


@pytest.fixture(scope="module", params=list(STUDIES))
def study(request, tmp_path_factory):
    return study_of(request.param, tmp_path_factory.mktemp(request.param))


def study_of(name, folder):
    measure, sample = STUDIES[name]
    truth, shared = sample()
    ids = np.array([f"T{number:02d}" for number in range(N_TILES)])
    plates = [f"plate {number // 3}" for number in range(N_TILES)]
    objects = pd.DataFrame({"id": ids, "group": plates, "sha256": ids})
    manifest = split_manifest(objects, n_folds=3, n_inner_folds=2, seeds=[0])
    known = SimpleNamespace(
        name=name, measure=measure(), truth=truth, objects=objects, manifest=manifest,
        folder=folder, ids=ids, shared=shared,
    )  # fmt: skip
    known.baseline = pd.concat(
        pd.DataFrame({"seed": seed, "fold": fold, "row": rows})
        for (seed, fold), rows in [
            (key, np.flatnonzero(np.isin(ids, part.loc[part["role"] == "test", "id"])))
            for key, part in manifest[manifest["inner"] == 0].groupby(["seed", "fold"])
        ]
    )
    table = known.measure.table(truth[known.baseline["row"]], 0.6 * shared[known.baseline["row"]])
    about = known.baseline.reset_index(drop=True).loc[table.index]
    known.baseline = pd.concat([about, table], axis=1).reset_index(drop=True)
    known.baseline = known.baseline.assign(
        configuration=BASELINE, id=ids[known.baseline["row"]]
    ).drop(columns="row")
    return known


def sweep_of(**parameters):
    grid = {"training.skill": SKILLS}
    return Sweep.lay_out(SweepParameters(grid=grid, **parameters), Configuration(name="base"))


def compare(study, log=lambda child: None, sweep=None):
    return compare_configurations(
        sweep or sweep_of(), study.manifest, study.ids, {"truth": study.shared}, settings_of,
        made_up_task, ResultStore(study.folder / "fits"), ClusterParameters(n_workers=0),
        inputs=("shared",), measure=study.measure, truth=study.truth,
        score=scorer(study.baseline, BASELINE, study.measure), log=log,
    )  # fmt: skip


# This file under the name that it has here, which is part of the key of a fit.
KILLED = """
import importlib.util, os, pathlib, signal, sys
module_name, file, name, folder = sys.argv[1:]
specification = importlib.util.spec_from_file_location(module_name, file)
sys.modules[module_name] = module = importlib.util.module_from_spec(specification)
specification.loader.exec_module(module)
study = module.study_of(name, pathlib.Path(folder))
module.compare(study, lambda child: os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.fixture(scope="module")
def resumed(study):
    """The comparison, killed when its first configuration was told of, and taken up again."""
    words = [__name__, __file__, study.name, str(study.folder)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], check=False)
    assert killed.returncode == -signal.SIGKILL
    kept = len(list((study.folder / "fits").rglob("*.npz")))
    CALLS.clear()
    children = []
    return compare(study, children.append), children, kept


@pytest.fixture(scope="module")
def scored(study, resumed):
    comparison, *_ = resumed
    return score_comparison(
        comparison.predictions, comparison.inner, comparison.permutations, study.baseline,
        measure=study.measure, score=scorer(study.baseline, BASELINE, study.measure),
        label_source="made up",
    )  # fmt: skip


def test_the_split_keeps_plates_together_and_tests_every_object_once(study):
    check_no_leak(study.manifest)
    assert (study.manifest["class"] == -1).all()
    sides = study.manifest.groupby(["fold", "inner", "group"])["role"].nunique()
    assert (sides == 1).all()


def test_a_killed_sweep_goes_on_and_fits_nothing_twice(study, resumed):
    comparison, children, kept = resumed
    assert N_FITS <= kept < len(SKILLS) * N_FITS
    assert len(CALLS) == len(SKILLS) * N_FITS - kept
    assert {child["name"] for child in children} == set(comparison.outcome["configurations"])
    again = compare(study)
    assert len(CALLS) == len(SKILLS) * N_FITS - kept
    pd.testing.assert_frame_equal(again.predictions, comparison.predictions)


def test_the_inner_folds_select_the_better_configuration(study, resumed, scored):
    comparison, *_ = resumed
    scores, predictions, selection = scored
    assert set(selection["configuration"]) == {"02 skill 0.9"}
    assert comparison.outcome["chosen"]["name"] == "02 skill 0.9"
    nested, best = (
        predictions[predictions["configuration"] == name].drop(columns=["configuration", "kind"])
        for name in (NESTED, "02 skill 0.9")
    )
    pd.testing.assert_frame_equal(nested.reset_index(drop=True), best.reset_index(drop=True))
    by_name = scores.set_index("configuration")[study.measure.headline.name]
    assert by_name["02 skill 0.9"] > by_name["01 skill 0.2"]
    assert scores["kind"].tolist() == ["nested", *["network"] * 3, "baseline"]
    assert "p_value_of" not in scores


def test_rows_of_the_table_need_not_be_objects(study, resumed):
    comparison, *_ = resumed
    best = comparison.predictions[comparison.predictions["configuration"] == "02 skill 0.9"]
    if study.name == "detection":
        n_stars = sum(map(len, study.truth))
        assert best["star"].sum() == n_stars
        assert set(best["id"]) == {study.ids[k] for k in range(N_TILES) if len(study.truth[k])}
    else:
        assert sorted(best["id"]) == sorted(study.ids)


def test_there_are_no_classes_to_be_shuffled(study):
    with pytest.raises(ValueError, match="no classes to be shuffled"):
        compare(study, sweep=sweep_of(n_permutations=1))


def words(study, scores):
    return summary_text(scores, study.measure, "24 read", "objects", BASELINE)


def test_table_and_report_show_the_measure_s_own_columns(study, scored):
    scores, _, selection = scored
    text = words(study, scores)
    for word in (f"{study.measure.headline.title} (95 %)", "chance", "02 skill 0.9", BASELINE):
        assert word in text
    assert "p-value" not in text
    template = study.folder / "report.html.jinja"
    template.write_text('{% extends "shared/report.html.jinja" %}')
    page = render_report(
        template, {}, scores=scores, measure=study.measure, reference=BASELINE, info={},
        selection=selection, failed={}, rejected=pd.DataFrame(), unused=pd.DataFrame(),
    )  # fmt: skip
    assert f"<th>{study.measure.headline.title} (95 %)</th>" in page
    assert f"inner {study.measure.words}" in page


@pytest.fixture(scope="module")
def logged(study, resumed, scored):
    """The study's run in a store of its own, with a registered network."""
    import keras

    from skyloom.tracking import ParentRun

    comparison, *_ = resumed
    scores, predictions, _ = scored
    children = describe_children(
        Configuration, study.measure, scores, comparison.inner, comparison.curves,
        comparison.outcome,
    )  # fmt: skip
    run = describe_run(
        study.name, sweep_of(), study.objects, study.manifest, study.measure, scores, predictions,
        summary=words(study, scores), params={}, children=children,
    )  # fmt: skip
    config = {
        "tracking_uri": "sqlite:///mlflow.db", "experiment": study.name,
        "artefacts": "files",
    }  # fmt: skip
    parent = ParentRun.start(config, study.folder, tags={})
    parent.log_runs(run, [])
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    description = {"trained": True, "configuration": comparison.outcome["chosen"]}
    address = parent.register_model(
        network, description, np.zeros((1, 2), np.float32), name=study.name, alias="selected"
    )
    parent.finish("FINISHED")
    return parent, address


def test_mlflow_has_a_child_for_each_configuration_and_scores_of_the_whole(study, logged):
    parent, _ = logged
    runs = parent.client.search_runs([parent.experiment_id])
    children = {run.info.run_name for run in runs if "mlflow.parentRunId" in run.data.tags}
    assert children == {NESTED, *(f"0{k} skill {s}" for k, s in enumerate(SKILLS, 1)), BASELINE}
    (whole,) = [run for run in runs if run.info.run_id == parent.run_id]
    name = study.measure.headline.name
    assert 0 < whole.data.metrics[name] <= 1
    for metric in (*study.measure.interval, "chance_level", "minus_best_baseline"):
        assert metric in whole.data.metrics
    assert whole.data.params["best_baseline"] == BASELINE


def test_its_network_can_be_had_from_the_registry(study, logged):
    parent, address = logged
    assert address == f"models:/{study.name}@selected"
    version = parent.client.get_model_version_by_alias(study.name, "selected")
    assert version.run_id == parent.run_id
