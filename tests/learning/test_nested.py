"""Nested cross-validation: who selects, who reports, and what chance alone would give."""

import itertools
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest, rankdata
from sklearn.metrics import balanced_accuracy_score

from skyloom.compute import ClusterParameters, connect
from skyloom.evaluation.measures import classification, regression
from skyloom.evaluation.splits import check_no_leak, split_manifest
from skyloom.learning.nested import (
    families,
    grid_procedure,
    nested_predictions,
    nested_statistic,
    permuted_manifest,
    procedure_p_value,
    search_procedure,
    select_configurations,
    splits_of,
)
from skyloom.learning.tasks import FailedTask, Finished, ResultStore, Task, run_procedures
from skyloom.simulate.hi_profiles import assign_classes, draw_truth, observe_lines
from skyloom.spectra.hi.asymmetry import measure_asymmetry

# Dask opens a web server on a fixed port; it warns, and leaves a socket, if another run has it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Port 8787 is already in use:UserWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning"),
]


# --- a sample, and fits that cost nothing ---------------------------------------------------------


class Configuration(NamedTuple):
    """``inner`` and ``outer``: share of the validation and test objects that it gets right."""

    name: str
    inner: float | tuple = 0.5
    outer: float = 0.5
    epochs: int = 1
    columns: tuple = ()

    @property
    def family(self):
        return self._replace(name="", epochs=1)


def objects_of(classes):
    ids = [f"g{i}" for i in range(len(classes))]
    return pd.DataFrame({"id": ids, "group": ids, "class": classes, "sha256": ids})


def manifest_of(classes, *, n_folds=3, n_inner_folds=2, seeds=(0,)):
    return split_manifest(
        objects_of(classes), n_folds=n_folds, n_inner_folds=n_inner_folds, seeds=seeds
    )


def rows_of(manifest):
    ids = manifest["id"].unique()
    return pd.Series(np.arange(len(ids)), index=ids)


def splits_for(classes, **sizes):
    manifest = manifest_of(classes, **sizes)
    row_of = pd.Series(np.arange(len(classes)), index=[f"g{i}" for i in range(len(classes))])
    return splits_of(manifest, row_of)


CLASSES = np.repeat([0, 1], [18, 12])
MEASURE = classification(2)


def make_task(family, split):
    first = family[0]
    settings = {
        "inner": first.inner if np.isscalar(first.inner) else first.inner[split.fold],
        "outer": first.outer,
        "columns": list(first.columns),
        "epochs": [configuration.epochs for configuration in family],
        "split": [split.seed, split.fold, split.inner],
    }
    arrays = {role: getattr(split, role) for role in ("train", "validation", "test")}
    return Task(settings, arrays | {"classes": split.truth}, ())


def right_in_part(classes, share):
    """Probabilities that name the right class for a share of the objects of every class."""
    named = classes.copy()
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        wrong = members[round(share * len(members)) :]
        named[wrong] = (label + 1) % 2
    return np.eye(2)[named] * 0.8 + 0.1


CALLS: list = []


def scripted(settings, arrays, shared):
    """As good or bad as its settings say."""
    CALLS.append(settings["split"])
    if settings["inner"] < 0:
        msg = f"inner {settings['inner']}"
        raise ArithmeticError(msg)
    n = len(settings["epochs"])
    parts = {
        f"{role}_prediction": np.stack(
            [right_in_part(arrays["classes"][arrays[role]], settings[quality])] * n
        )
        for role, quality in (("validation", "inner"), ("test", "outer"))
    }
    lengths = np.array(settings["epochs"])
    history = np.arange(4.0 * lengths.max()).reshape(-1, 4)
    return parts | {"history": history, "lengths": lengths, "best_epoch": lengths}


@pytest.fixture(autouse=True)
def calls():
    CALLS.clear()
    return CALLS


def drive(procedure, work=scripted, shared=None):
    """What a procedure hands out, its tasks worked off right here."""

    def attempt(task):
        try:
            return work(task.settings, task.arrays, shared)
        except ArithmeticError as error:
            return FailedTask(f"ArithmeticError: {error}")

    items, answer = [], None
    try:
        request = next(procedure)
        while True:
            if isinstance(request, Finished):
                items.append(request.item)
                answer = None
            else:
                answer = [attempt(task) for task in request]
            request = procedure.send(answer)
    except StopIteration:
        return items


def tables_of(outcomes):
    done = [outcome for outcome in outcomes if not outcome.error]
    inner, predictions = (
        pd.concat([getattr(o, table).assign(configuration=o.name) for o in done], ignore_index=True)
        for table in ("inner", "predictions")
    )
    return inner, predictions


def nested_of(configurations, splits, work=scripted, shared=None):
    """Outcomes, selection and nested predictions of a grid."""
    outcomes = [
        outcome
        for family in families(configurations)
        for outcome in drive(grid_procedure(family, splits, make_task, MEASURE), work, shared)
    ]
    inner, predictions = tables_of(outcomes)
    selected = select_configurations(inner)
    return outcomes, selected, nested_predictions(predictions, selected)


# --- one configuration ----------------------------------------------------------------------------


def test_splits_have_the_rows_of_their_objects_and_no_class_for_the_others():
    manifest = manifest_of(CLASSES, seeds=(3, 5))
    # The sample has more objects than the manifest, in another order.
    row_of = pd.Series(np.arange(40)[::-1], index=[f"g{i}" for i in range(40)])
    splits = splits_of(manifest, row_of)
    assert [(s.seed, s.fold, s.inner) for s in splits] == list(
        itertools.product((3, 5), range(3), range(2))
    )
    id_of = pd.Series(row_of.index, index=row_of.to_numpy())
    for split in splits:
        assert split.truth[row_of["g0"]] == 0
        assert split.truth[row_of["g29"]] == 1
        assert (split.truth[:10] == -1).all()
        part = manifest.query("seed == @split.seed & fold == @split.fold & inner == @split.inner")
        for role in ("train", "validation", "test"):
            ids = part.loc[part["role"] == role, "id"]
            assert id_of[getattr(split, role)].tolist() == ids.tolist()


def test_the_prediction_of_a_test_object_is_the_mean_of_the_inner_networks():
    splits = splits_for(CLASSES, n_inner_folds=3)
    rng = np.random.default_rng(0)
    given = {}

    def work(settings, arrays, shared):
        result = scripted(settings, arrays, shared)
        result["test_prediction"] = rng.dirichlet([1, 1], (1, len(arrays["test"])))
        given[tuple(settings["split"])] = result["test_prediction"][0]
        return result

    (outcome,) = drive(grid_procedure([Configuration("a")], splits, make_task, MEASURE), work)
    table = outcome.predictions
    for fold, part in table.groupby("fold"):
        expected = np.mean([given[0, fold, inner] for inner in range(3)], axis=0)
        np.testing.assert_allclose(part[["probability_0", "probability_1"]], expected)
        assert part["predicted"].tolist() == expected.argmax(axis=1).tolist()
    assert sorted(table["row"]) == list(range(len(CLASSES)))
    assert table["class"].tolist() == CLASSES[table["row"]].tolist()


def test_the_inner_score_is_the_balanced_accuracy_of_the_validation_objects():
    splits = splits_for(CLASSES)
    rng = np.random.default_rng(1)
    given = {}

    def work(settings, arrays, shared):
        result = scripted(settings, arrays, shared)
        probability = rng.dirichlet([1, 1], (1, len(arrays["validation"])))
        result["validation_prediction"] = probability
        truth = arrays["classes"][arrays["validation"]]
        given[tuple(settings["split"])] = truth, probability[0]
        return result

    (outcome,) = drive(grid_procedure([Configuration("a")], splits, make_task, MEASURE), work)
    assert len(outcome.inner) == len(splits)
    for row in outcome.inner.itertuples():
        truth, probability = given[row.seed, row.fold, row.inner]
        expected = balanced_accuracy_score(truth, probability.argmax(axis=1))
        assert row.score == pytest.approx(expected)
        part = outcome.validation.query("fold == @row.fold & inner == @row.inner")
        np.testing.assert_array_equal(part[["probability_0", "probability_1"]], probability)
        assert part["class"].tolist() == truth.tolist()


def test_numbers_are_averaged_and_selected_by_the_measure_that_is_asked():
    splits = splits_of(
        manifest_of(CLASSES), rows_of(manifest_of(CLASSES)), truth=10.0 * np.arange(len(CLASSES))
    )
    measure = regression(scale=10.0)

    def work(settings, arrays, shared):
        result = scripted(settings | {"inner": 0.5}, arrays | {"classes": CLASSES}, shared)
        off = 0.1 * (1 + settings["split"][2]) * settings["inner"]  # in units of the scale
        for role in ("validation", "test"):
            result[f"{role}_prediction"] = (arrays[role] + off)[None, :, None]
        return result

    family = [Configuration("a", inner=1.0)]
    (outcome,) = drive(grid_procedure(family, splits, make_task, measure), work)
    expected = outcome.inner["inner"].map({0: -1.0, 1: -2.0})
    np.testing.assert_allclose(outcome.inner["score"], expected)
    np.testing.assert_allclose(
        outcome.predictions["predicted"], outcome.predictions["target"] + 1.5
    )
    assert list(outcome.curves)[:4] == ["loss", "mae", "val_loss", "val_mae"]


def test_a_class_without_validation_objects_does_not_count_in_the_inner_score():
    (split, *_) = splits_for(CLASSES)
    only = split.validation[split.truth[split.validation] == 1]
    configuration = Configuration("a", inner=0.5)
    (outcome,) = drive(
        grid_procedure([configuration], [split._replace(validation=only)], make_task, MEASURE)
    )
    assert outcome.inner["score"].tolist() == [0.5]


def test_configurations_of_a_family_share_one_task_for_each_split(calls):
    configurations = [
        Configuration("a", epochs=2),
        Configuration("b", inner=0.9),
        Configuration("c", epochs=5),
        Configuration("d"),
    ]
    groups = families(configurations)
    assert [[c.name for c in group] for group in groups] == [["a", "c", "d"], ["b"]]
    splits = splits_for(CLASSES)
    outcomes = drive(grid_procedure(groups[0], splits, make_task, MEASURE))
    assert len(calls) == len(splits)
    assert [outcome.name for outcome in outcomes] == ["a", "c", "d"]
    assert [outcome.configuration for outcome in outcomes] == groups[0]


def test_no_configurations_are_no_families():
    assert families([]) == []


def test_every_configuration_of_a_family_has_its_own_results():
    splits = splits_for(CLASSES)

    def work(settings, arrays, shared):
        result = scripted(settings, arrays, shared)
        for role in ("validation", "test"):
            truth = arrays["classes"][arrays[role]]
            result[f"{role}_prediction"] = np.stack(
                [right_in_part(truth, share) for share in (0, 0.5, 1)]
            )
        return result | {"best_epoch": np.array([1, 2, 3])}

    family = [Configuration(name, epochs=n) for name, n in (("a", 2), ("b", 4), ("c", 6))]
    outcomes = drive(grid_procedure(family, splits, make_task, MEASURE), work)
    for outcome, share, best in zip(outcomes, (0, 0.5, 1), (1, 2, 3), strict=True):
        assert outcome.inner["score"].mean() == pytest.approx(share, abs=0.1)
        right = outcome.predictions["class"] == outcome.predictions["predicted"]
        assert right.mean() == pytest.approx(share, abs=0.1)
        assert (outcome.inner["best_epoch"] == best).all()
        assert (outcome.curves["best_epoch"] == best).all()


def test_curves_end_at_the_length_of_each_configuration():
    splits = splits_for(CLASSES)
    family = [Configuration("long", epochs=5), Configuration("short", epochs=2)]

    def work(settings, arrays, shared):
        # The longer one stopped after its fourth epoch.
        result = scripted(settings, arrays, shared)
        return result | {"history": result["history"][:4], "lengths": np.array([4, 2])}

    for outcome, n in zip(
        drive(grid_procedure(family, splits, make_task, MEASURE), work), (4, 2), strict=True
    ):
        assert len(outcome.curves) == n * len(splits)
        for _, part in outcome.curves.groupby(["seed", "fold", "inner"]):
            assert part["epoch"].tolist() == list(range(1, n + 1))
            np.testing.assert_array_equal(
                part[list(MEASURE.curves)], np.arange(16.0).reshape(4, 4)[:n]
            )


@pytest.mark.parametrize("permutation", [0, 7])
def test_a_configuration_whose_fit_fails_has_an_error_in_place_of_results(permutation):
    splits = splits_for(CLASSES)
    # It fails in the second outer fold alone.
    bad = Configuration("bad", inner=(0.5, -1, -2))
    (outcome,) = drive(grid_procedure([bad], splits, make_task, MEASURE, permutation))
    assert outcome.error == "ArithmeticError: inner -1"
    assert (outcome.name, outcome.configuration, outcome.permutation) == ("bad", bad, permutation)
    for table in (outcome.predictions, outcome.validation, outcome.inner, outcome.curves):
        assert table.empty


def test_an_outcome_says_to_which_shuffle_it_belongs():
    splits = splits_for(CLASSES)
    (outcome,) = drive(grid_procedure([Configuration("a")], splits, make_task, MEASURE, 7))
    assert (outcome.permutation, outcome.error) == (7, "")


# --- selection ------------------------------------------------------------------------------------


def test_a_configuration_that_shines_on_test_objects_alone_is_not_selected():
    splits = splits_for(CLASSES)
    lucky = Configuration("lucky", inner=0.4, outer=1.0)
    honest = Configuration("honest", inner=0.8, outer=0.2)
    for configurations in ([lucky, honest], [honest, lucky]):
        outcomes, selected, nested = nested_of(configurations, splits)
        assert selected["configuration"].tolist() == ["honest"] * 3
        expected = outcomes[configurations.index(honest)].predictions
        pd.testing.assert_frame_equal(nested, expected)
        assert nested_statistic(nested, MEASURE) < 0.4


def test_test_predictions_have_no_part_in_the_selection():
    splits = splits_for(CLASSES)
    rng = np.random.default_rng(2)

    def work(settings, arrays, shared):
        result = scripted(settings, arrays, shared)
        noise = np.random.default_rng([*settings["split"], int(100 * settings["inner"])])
        result["validation_prediction"] = noise.dirichlet([1, 1], (1, len(arrays["validation"])))
        return result | {"test_prediction": rng.dirichlet([1, 1], (1, len(arrays["test"])))}

    configurations = [Configuration(f"c{i}", inner=i / 10) for i in range(6)]
    first, second = (nested_of(configurations, splits, work) for _ in range(2))
    pd.testing.assert_frame_equal(first[1], second[1])
    assert not first[2].equals(second[2])
    assert len(set(first[1]["configuration"])) > 1


def test_each_outer_fold_selects_for_itself():
    splits = splits_for(CLASSES)
    early = Configuration("early", inner=(0.9, 0.1, 0.1), outer=1.0)
    late = Configuration("late", inner=(0.2, 0.8, 0.8), outer=0.0)
    _, selected, nested = nested_of([early, late], splits)
    assert selected["configuration"].tolist() == ["early", "late", "late"]
    assert selected["fold"].tolist() == [0, 1, 2]
    right = nested["class"] == nested["predicted"]
    assert right.groupby(nested["fold"]).mean().tolist() == [1, 0, 0]


def inner_scores(scores):
    """Table of inner scores, by configuration and inner fold."""
    return pd.DataFrame(
        [
            {"configuration": name, "seed": 0, "fold": 0, "inner": inner, "score": score}
            for name, values in scores.items()
            for inner, score in enumerate(values)
        ]
    )


def test_the_mean_over_inner_folds_decides_and_not_the_best_of_them():
    selected = select_configurations(inner_scores({"jumpy": [1.0, 0.0], "steady": [0.6, 0.6]}))
    assert selected["configuration"].tolist() == ["steady"]
    assert selected["score"].tolist() == [0.6]


@pytest.mark.parametrize("names", [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]])
def test_of_equals_the_first_is_selected(names):
    scores = {name: [0.5, 0.7] for name in names}
    assert select_configurations(inner_scores(scores))["configuration"].tolist() == names[:1]
    worse = {"worse": [0.5, 0.6]} | scores
    assert select_configurations(inner_scores(worse))["configuration"].tolist() == names[:1]


def test_nested_predictions_hold_every_object_once_for_each_seed():
    splits = splits_for(CLASSES, seeds=(1, 2, 4))
    configurations = [Configuration(f"c{i}", inner=tuple(np.roll([0.2, 0.5, 0.9], i)))
                      for i in range(3)]  # fmt: skip
    _, selected, nested = nested_of(configurations, splits)
    assert len(selected) == 9
    assert selected["configuration"].nunique() == 3
    assert "configuration" not in nested
    for seed in (1, 2, 4):
        part = nested[nested["seed"] == seed]
        assert sorted(part["row"]) == list(range(len(CLASSES)))
        assert (part["class"].to_numpy() == CLASSES[part["row"]]).all()


def test_a_failed_configuration_is_not_selected_and_leaves_the_others_alone():
    splits = splits_for(CLASSES)
    good = [Configuration("a", inner=0.6), Configuration("b", inner=0.4)]
    _, selected, nested = nested_of([Configuration("bad", inner=-1), *good], splits)
    _, expected, expected_nested = nested_of(good, splits)
    pd.testing.assert_frame_equal(selected, expected)
    pd.testing.assert_frame_equal(nested, expected_nested)


# --- search ---------------------------------------------------------------------------------------

SEARCH = {"n_trials": 9, "n_parallel": 2, "n_startup": 4, "prune": False, "seed": 3}


def suggest(trial, name):
    """A share of objects it gets right, best in the middle; some values do not go together."""
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_int("y", 0, 3)
    if y == 3:
        msg = f"{y} does not go with {x:.2f}"
        raise ValueError(msg)
    return Configuration(name, inner=1 - abs(x - 0.5), outer=x)


def always(trial, name):
    return Configuration(name, inner=trial.suggest_float("x", 0, 1))


def search(suggestion=suggest, work=scripted, splits=None, **changed):
    splits = splits_for(CLASSES)[:2] if splits is None else splits
    return drive(search_procedure(splits, suggestion, make_task, MEASURE, **SEARCH | changed), work)


def told(outcomes):
    return [(o.name, o.configuration, o.error) for o in outcomes]


def test_every_trial_of_a_search_is_an_outcome():
    outcomes = search(always)
    assert sorted(o.name for o in outcomes) == [f"0.0.{i:02d}" for i in range(1, 10)]
    assert not any(o.error for o in outcomes)
    for outcome in outcomes:
        assert outcome.inner["inner"].tolist() == [0, 1]
        assert outcome.inner["score"].mean() == pytest.approx(outcome.configuration.inner, abs=0.15)
        assert set(outcome.predictions["fold"]) == {0}


@pytest.mark.parametrize("n_parallel", [1, 2, 4, 9, 20])
def test_a_search_asks_for_as_many_trials_at_a_time_as_it_may(n_parallel):
    asked = []
    procedure = search_procedure(
        splits_for(CLASSES)[:2], always, make_task, MEASURE, **SEARCH | {"n_parallel": n_parallel}
    )
    request = next(procedure)
    try:
        while True:
            if isinstance(request, Finished):
                request = procedure.send(None)
                continue
            asked.append(len(request))
            request = procedure.send([scripted(t.settings, t.arrays, {}) for t in request])
    except StopIteration:
        pass
    rounds = [min(n_parallel, 9 - first) for first in range(0, 9, n_parallel)]
    assert asked == [n for n in rounds for _ in range(2)]  # once for each inner fold


@pytest.mark.parametrize("n_parallel", [1, 3])
def test_a_search_goes_the_same_way_again_and_another_seed_another_way(n_parallel):
    first, again = (told(search(n_parallel=n_parallel)) for _ in range(2))
    assert first == again
    assert told(search(n_parallel=n_parallel, seed=4)) != first


def test_a_search_learns_from_its_scores():
    def opposite(settings, arrays, shared):
        return scripted(settings | {"inner": 1 - settings["inner"]}, arrays, shared)

    first, other = told(search(always)), told(search(always, opposite))
    assert first[:4] == other[:4]  # drawn at random
    assert first[4:] != other[4:]
    many = search(always, n_trials=30, n_parallel=1)
    shares = [o.configuration.inner for o in many]
    assert np.mean(shares[15:]) > np.mean(shares[:4]) + 0.1


def test_a_search_does_not_see_test_objects():
    def other_on_test_objects(settings, arrays, shared):
        return scripted(settings | {"outer": 1 - settings["outer"]}, arrays, shared)

    first, other = search(), search(work=other_on_test_objects)
    assert told(first) == told(other)
    assert [o.predictions.equals(p.predictions) for o, p in zip(first, other, strict=True)].count(
        True
    ) < len(first)


def test_a_search_that_was_stopped_goes_the_same_way_again(tmp_path, calls):
    splits = splits_for(CLASSES)[:2]

    def run(folder, n=None):
        procedure = search_procedure(
            splits, suggest, make_task, MEASURE, **SEARCH | {"n_trials": 12}
        )
        with connect(ClusterParameters(n_workers=0), 16) as (client, _):
            running = run_procedures([procedure], scripted, {}, ResultStore(folder), client)
            found = list(itertools.islice(running, n))
            running.close()
        return found

    whole = run(tmp_path / "whole")
    assert len(whole) == 12
    n_tasks = len(calls)
    calls.clear()
    begun = run(tmp_path / "stopped", 5)
    n_before = len(calls)
    assert n_before < n_tasks
    resumed = run(tmp_path / "stopped")
    assert told(begun) == told(whole)[:5]
    assert told(resumed) == told(whole)
    for outcome, other in zip(resumed, whole, strict=True):
        pd.testing.assert_frame_equal(outcome.predictions, other.predictions)
        pd.testing.assert_frame_equal(outcome.inner, other.inner)
    # The tasks of two trials at most were lost with those who worked on them.
    assert n_tasks <= len(calls) <= n_tasks + 2


def test_bad_trials_are_pruned_and_cost_no_further_fits(calls):
    splits = splits_for(CLASSES, n_inner_folds=4)[:4]
    outcomes = search(always, splits=splits, n_trials=16, n_parallel=1, prune=True)
    pruned = [o for o in outcomes if o.error]
    assert {o.error for o in pruned} == {"pruned"}
    assert 2 <= len(pruned) <= 10
    kept = [o.configuration.inner for o in outcomes if not o.error]
    assert max(o.configuration.inner for o in pruned) < max(kept)
    assert np.mean([o.configuration.inner for o in pruned]) < np.mean(kept)
    assert len(calls) == 4 * len(kept) + len(pruned)
    assert all(o.inner.empty and o.predictions.empty for o in pruned)
    assert outcomes.index(pruned[0]) >= 4  # the first trials are there to compare with


def test_without_pruning_every_trial_sees_every_inner_fold(calls):
    splits = splits_for(CLASSES, n_inner_folds=4)[:4]
    outcomes = search(always, splits=splits, n_trials=16, n_parallel=1)
    assert len(calls) == 4 * 16
    assert not any(o.error for o in outcomes)


@pytest.mark.parametrize("prune", [False, True])
@pytest.mark.parametrize("fails_in", [0, 1])
def test_a_trial_that_fails_is_told_of_and_the_others_go_on(fails_in, prune, calls):
    def work(settings, arrays, shared):
        result = scripted(settings, arrays, shared)
        if settings["outer"] < 0.35 and settings["split"][2] == fails_in:
            raise ArithmeticError(settings["outer"])
        return result

    def suggestion(trial, name):
        x = trial.suggest_float("x", 0, 1)
        return Configuration(name, inner=0.7, outer=x)

    outcomes = search(suggestion, work, prune=prune)
    failed = [o for o in outcomes if o.error.startswith("ArithmeticError: 0.")]
    assert len(outcomes) == 9
    assert 0 < len(failed) < 9
    assert {o.name for o in failed} == {o.name for o in outcomes if o.configuration.outer < 0.35}
    assert all(o.predictions.empty for o in failed)
    assert len(calls) == 2 * 9 - (len(failed) if fails_in == 0 else 0)


def test_values_that_do_not_go_together_are_told_of_and_the_others_go_on(calls):
    outcomes = search(n_trials=20)
    invalid = [o for o in outcomes if o.configuration is None]
    assert sorted(o.name for o in outcomes) == [f"0.0.{i:02d}" for i in range(1, 21)]
    assert 0 < len(invalid) < 20
    assert all(o.error.startswith("ValueError: 3 does not go with 0.") for o in invalid)
    assert len(calls) == 2 * (20 - len(invalid))


def test_a_search_keeps_away_from_values_that_do_not_go_together():
    late = [o for o in search(n_trials=60, n_parallel=1) if o.name > "0.0.30"]
    assert len(late) == 30
    assert sum(o.configuration is None for o in late) < 7  # by chance 7.5, and all if they failed


def test_a_search_without_a_single_possible_trial_ends():
    def never(trial, name):
        trial.suggest_float("x", 0, 1)
        msg = "no"
        raise ValueError(msg)

    outcomes = search(never)
    assert [o.error for o in outcomes] == ["ValueError: no"] * 9


# --- shuffled classes -----------------------------------------------------------------------------


def test_a_shuffled_manifest_is_a_split_of_the_same_objects_without_leaks():
    manifest = manifest_of(np.repeat([0, 1, 2], [16, 9, 5]), n_inner_folds=3, seeds=(1, 2))
    shuffled = permuted_manifest(manifest, 3, 5)
    check_no_leak(shuffled)
    keys = ["seed", "fold", "inner"]
    assert list(shuffled) == list(manifest)
    assert shuffled[keys].drop_duplicates().equals(manifest[keys].drop_duplicates())
    before, after = (table.drop_duplicates("id").set_index("id") for table in (manifest, shuffled))
    assert set(before.index) == set(after.index)
    assert before["group"].equals(after["group"].loc[before.index])
    assert before["sha256"].equals(after["sha256"].loc[before.index])
    assert before["class"].value_counts().equals(after["class"].value_counts())
    assert (before["class"] != after["class"].loc[before.index]).sum() > 5
    assert len(shuffled[["id", "class"]].drop_duplicates()) == len(after)
    # The folds are stratified by the shuffled classes: each is tested in each fold.
    tested = shuffled[shuffled["role"] == "test"].groupby(["seed", "fold"])["class"].nunique()
    assert (tested == 3).all()


def test_every_shuffle_is_another_and_can_be_had_again():
    manifest = manifest_of(CLASSES)
    tables = [permuted_manifest(manifest, 2, seed) for seed in (1, 2, 1)]
    assert tables[0].equals(tables[2])
    classes = [table.drop_duplicates("id")["class"].tolist() for table in tables]
    assert classes[0] != classes[1]
    assert manifest.equals(manifest_of(CLASSES))  # the true one is as it was


def test_every_object_gets_every_class_as_often_as_the_others():
    manifest = manifest_of(CLASSES[::3], n_folds=2)
    n = len(CLASSES[::3])
    counts = np.zeros(n)
    for seed in range(200):
        table = permuted_manifest(manifest, 2, seed).drop_duplicates("id").set_index("id")
        counts += table["class"].loc[[f"g{i}" for i in range(n)]].to_numpy()
    share = CLASSES[::3].mean()
    assert np.abs(counts / 200 - share).max() < 4 * np.sqrt(share * (1 - share) / 200)


def test_classes_can_be_shuffled_also_where_objects_share_a_group():
    # Two galaxies from identical files; the rare class has just a group for each fold.
    objects = objects_of(np.repeat([0, 1], [9, 3]))
    objects.loc[:7, "group"] = np.repeat(objects["group"][:8:2].to_numpy(), 2)
    objects.loc[:7, "sha256"] = objects["group"][:8]
    manifest = split_manifest(objects, n_folds=3, n_inner_folds=2, seeds=[0])
    for seed in range(20):
        check_no_leak(permuted_manifest(manifest, 2, seed))


def test_statistic_is_the_mean_over_seeds_of_the_balanced_accuracy():
    rng = np.random.default_rng(6)
    table = pd.DataFrame({"seed": np.repeat([0, 1, 2], 30), "class": np.tile(CLASSES, 3)})
    table["predicted"] = rng.integers(0, 2, len(table))
    expected = np.mean(
        [balanced_accuracy_score(p["class"], p["predicted"]) for _, p in table.groupby("seed")]
    )
    assert nested_statistic(table, MEASURE) == pytest.approx(expected)
    assert nested_statistic(table.assign(predicted=table["class"]), MEASURE) == 1
    assert nested_statistic(table.assign(predicted=0), MEASURE) == 0.5


@pytest.mark.parametrize(
    ("statistic", "null", "expected"),
    [
        (0.7, [0.5, 0.7, 0.9], 3 / 4),
        (0.7, [0.5, 0.6, 0.69], 1 / 4),
        (0.4, [0.5, 0.6, 0.69], 1.0),
        (0.7, [0.7], 1.0),
        (0.7, [0.6], 0.5),
        (0.1 + 0.2, [0.3, 0.3, 0.2], 3 / 4),  # equal but for the last digit
        (0.3, [0.1 + 0.2], 1.0),
    ],
)
def test_p_value_counts_the_shuffles_that_reach_the_statistic(statistic, null, expected):
    assert procedure_p_value(statistic, np.array(null)) == expected


def test_p_value_without_shuffles_is_unknown():
    assert np.isnan(procedure_p_value(0.9, np.array([])))


# --- the whole procedure on chance and on a signal ------------------------------------------------


def nearest_mean(settings, arrays, shared):
    """Class of the nearest mean on some of the features; costs microseconds."""
    x = shared[:, settings["columns"]]
    train, classes = arrays["train"], arrays["classes"]
    means = [x[train[classes[train] == label]].mean(axis=0) for label in (0, 1)]
    distance = np.stack([((x - mean) ** 2).sum(axis=1) for mean in means], axis=1)
    probability = 1 / (1 + np.exp(distance - distance[:, ::-1]))
    return {
        "validation_prediction": probability[None, arrays["validation"]],
        "test_prediction": probability[None, arrays["test"]],
        "history": np.zeros((1, 4)),
        "lengths": np.array([1]),
        "best_epoch": np.array([1]),
    }


def whole_procedure(manifest, row_of, features, configurations):
    """Statistic of the nested procedure, and the predictions of all configurations."""
    outcomes, _, nested = nested_of(
        configurations, splits_of(manifest, row_of), nearest_mean, features
    )
    return nested_statistic(nested, MEASURE), outcomes


def p_values(features, classes, configurations, n_permutations, rng):
    """p-value of the procedure, its smallest value if ties were broken, and the naive p-value."""
    manifest = manifest_of(classes, n_folds=2, seeds=[int(rng.integers(1000))])
    row_of = pd.Series(np.arange(len(classes)), index=[f"g{i}" for i in range(len(classes))])
    statistic, outcomes = whole_procedure(manifest, row_of, features, configurations)
    null = np.array(
        [
            whole_procedure(
                permuted_manifest(manifest, 2, int(rng.integers(2**31))),
                row_of, features, configurations,
            )[0]
            for _ in range(n_permutations)
        ]
    )  # fmt: skip
    p = procedure_p_value(statistic, null)
    above = procedure_p_value(statistic + 1e-6, null) - 1 / (1 + n_permutations)
    return p, above, naive_p_value(outcomes, rng)


def naive_p_value(outcomes, rng):
    """What one must not do: select by the test objects, then shuffle under fixed predictions."""
    _, predictions = tables_of(outcomes)
    right = predictions["class"] == predictions["predicted"]
    seen = predictions[["configuration", "seed", "fold"]].assign(score=right)
    best = nested_predictions(predictions, select_configurations(seen))
    classes = best["class"].to_numpy()
    null = [
        nested_statistic(best.assign(**{"class": rng.permutation(classes)}), MEASURE)
        for _ in range(9)
    ]
    return procedure_p_value(nested_statistic(best, MEASURE), np.array(null))


COLUMNS = [Configuration(f"c{i}", columns=(2 * i, 2 * i + 1)) for i in range(3)]


def test_p_values_of_the_whole_procedure_are_uniform_where_there_is_nothing_to_learn():
    rng = np.random.default_rng(12)
    n = 24
    rows = []
    # Many samples with few shuffles each say more than a few samples with many.
    for _ in range(60):
        features = rng.normal(size=(n, 6))
        classes = rng.permutation(np.arange(n) % 2)
        rows.append(p_values(features, classes, COLUMNS, 4, rng))
    p, above, naive = np.array(rows).T
    # A p-value of few shuffles of a statistic with ties is a step function: spread over its step.
    spread = above + rng.random(len(p)) * (p - above)
    assert kstest(spread, "uniform").pvalue > 0.01
    assert (p <= 0.2).mean() < 0.3
    # The same look at the naive p-value finds it out, so it could find a fault in the procedure.
    naive_spread = naive - rng.random(len(naive)) / 10
    assert kstest(naive_spread, "uniform").pvalue < 1e-3
    assert (naive <= 0.2).mean() > 0.4


def test_p_value_of_the_whole_procedure_is_small_where_there_is_something_to_learn():
    rng = np.random.default_rng(12)
    truth = draw_truth(150, rng)
    start, flux = observe_lines(truth, 256, rng)
    velocity = start[:, None] + truth["channel_width"].to_numpy()[:, None] * np.arange(256)
    edges = (truth["mid_velocity"] + sign * truth["w20"] / 2 for sign in (-1, 1))
    measured = np.abs(measure_asymmetry(velocity, flux, *edges))[:, :4]
    features = rankdata(np.nan_to_num(measured), axis=0) / len(truth)
    classes = assign_classes(truth, by="a_flux", shares=(0.5, 0.5)).to_numpy()
    p, _, _ = p_values(features, classes, COLUMNS[:2], 119, rng)
    assert p < 0.01
