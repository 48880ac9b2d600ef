"""The published protocol on toy images: to the letter, and told apart from what it gives alone."""

import itertools
from functools import partial

import numpy as np
import pandas as pd
import pytest

from skyloom.compute import ClusterParameters
from skyloom.evaluation.audit import relabeled_rates
from skyloom.learning.nested import procedure_p_value
from skyloom.learning.tasks import FailedTask, Finished, ResultStore
from skyloom.pipelines.hi_profiles import audit, fitting
from skyloom.pipelines.hi_profiles.ingestion import configure_sweep
from skyloom.pipelines.hi_profiles.parameters import (
    AuditParameters,
    AugmentationParameters,
    FeatureParameters,
    NetworkParameters,
    SweepsParameters,
    TrainingParameters,
)

HERE = ClusterParameters(n_workers=0)
SMALL = AuditParameters(
    test_sizes=(0.5,), split_seeds=(1, 2), epochs=(4, 8), widths=((4,),), n_shuffles=200
)
KEYS = list(audit.AUDIT_COLUMNS[:5])


def sweep_of(start="scratch", patience=3, **grid):
    """A sweep whose base settings differ from the published ones wherever they can."""
    return configure_sweep(
        SweepsParameters(
            chosen="default", named={"default": {"grid": grid or {"training.epochs": [3]}}}
        ),
        FeatureParameters(size=8),
        AugmentationParameters(n_copies=2, balance_classes=True),
        NetworkParameters(widths=(4, 4)),
        TrainingParameters(start=start, patience=patience, batch_size=4, learning_rate=5e-3),
    )


def toy(n=40, strength=1.0, unused=(), n_classes=2, seed=0):
    """Profiles, classes and images of galaxies; images of class 1 are bright."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n) % n_classes)
    images = rng.normal(0, 0.1, (n, 3, 8, 8, 1)).astype(np.float32)
    images[truth == 1, 1, :4, 2:6] += strength
    classes = pd.DataFrame({"class": pd.array(truth, dtype="Int64"), "used": True})
    classes.loc[list(unused), ["class", "used"]] = [pd.NA, False]
    return pd.DataFrame({"id": [f"g{i}" for i in range(n)]}), classes, images


def audit_of(sample, folder, parameters=SMALL, sweep=None):
    profiles, classes, images = sample
    sweep = sweep or sweep_of()
    loads = {name: partial(np.copy, images) for name in sweep.input_variants}
    return audit.audit_published_protocol(
        profiles, classes, loads, sweep, ResultStore(folder), parameters, HERE
    )


@pytest.fixture(scope="module")
def bright(tmp_path_factory):
    """A strong signal; three galaxies have no class."""
    sample = toy(unused=(0, 7, 21))
    folder = tmp_path_factory.mktemp("fits")
    return sample, audit_of(sample, folder), folder


@pytest.fixture(scope="module")
def dark(tmp_path_factory):
    """Nothing to be found."""
    sample = toy(strength=0.0)
    return sample, audit_of(sample, tmp_path_factory.mktemp("fits"))


def p_value(tables, kind, *, relabeled=True):
    """Of the best of the grid."""
    fits, _, null = tables
    column = "relabeled_success_rate" if relabeled else "success_rate"
    best = fits.loc[fits["labels"] == kind, column].max()
    chosen = null[(null["labels"] == kind) & (null["relabeled"] == relabeled)]
    return procedure_p_value(best, chosen["best"].dropna().to_numpy())


# --- results --------------------------------------------------------------------------------------


def test_every_configuration_is_fitted_with_every_kind_of_labels(bright):
    _, (fits, _, _), _ = bright
    assert tuple(fits) == audit.AUDIT_COLUMNS
    expected = list(itertools.product(audit.AUDIT_LABELS, (0.5,), (1, 2), (4, 8), ("4",)))
    assert list(fits[KEYS].itertuples(index=False, name=None)) == expected
    assert set(fits["n_test"]) == {19}  # half of the 37 with a class


def test_true_labels_are_learnt_where_there_is_a_signal(bright):
    fits = bright[1][0]
    true = fits[fits["labels"] == "true"]
    assert true["relabeled_success_rate"].max() > 0.9
    assert p_value(bright[1], "true") < 0.02
    assert p_value(bright[1], "true", relabeled=False) < 0.02


@pytest.mark.parametrize("relabeled", [True, False])
def test_labels_without_a_meaning_give_no_more_than_the_protocol_does(bright, dark, relabeled):
    assert p_value(bright[1], "shuffled", relabeled=relabeled) > 0.05
    for kind in audit.AUDIT_LABELS:
        assert p_value(dark[1], kind, relabeled=relabeled) > 0.05


def test_the_protocol_alone_gives_more_than_chance(dark):
    fits, _, null = dark[1]
    best = null.loc[null["relabeled"], ["labels", "best"]].groupby("labels")["best"].median()
    assert (best > 0.55).all()
    assert fits["relabeled_success_rate"].max() > 0.55


def test_one_winner_of_each_kind_is_fitted_again(bright):
    fits = bright[1][0]
    for _, part in fits.groupby("labels"):
        (winner,) = part.index[part["is_winner"]]
        best = part["relabeled_success_rate"].max()
        assert part.loc[winner, "relabeled_success_rate"] == best
        assert part["refitted"].notna().sum() <= 1
        assert part.drop(index=winner)["refitted"].isna().all()
    true = fits[(fits["labels"] == "true") & fits["is_winner"]]
    assert true["refitted"].item() > 0.8


def test_success_rates_are_those_of_the_predictions(bright):
    _, (fits, predictions, _), _ = bright
    parts = dict(list(predictions.groupby(KEYS, sort=False)))
    assert len(parts) == len(fits)
    for row in fits.to_dict("records"):
        part = parts[tuple(row[name] for name in KEYS)]
        assert len(part) == row["n_test"]
        assert part["predicted"].nunique() == row["n_predicted_classes"]
        rates = relabeled_rates(part["class"].to_numpy(int), part["predicted"].to_numpy(int), 2)
        wanted = [rates[0], rates.max()] if row["n_predicted_classes"] > 1 else [np.nan] * 2
        got = [row["success_rate"], row["relabeled_success_rate"]]
        assert got == pytest.approx(wanted, nan_ok=True)
        probability = part[["probability_0", "probability_1"]].to_numpy()
        assert (probability.argmax(axis=1) == part["predicted"]).all()


def test_random_and_true_labels_are_scored_against_the_true_classes(bright):
    (profiles, classes, _), (_, predictions, _), _ = bright
    truth = pd.Series(classes["class"].to_numpy(), index=profiles["id"])
    agreement = predictions["class"].to_numpy() == truth[predictions["id"]].to_numpy(int)
    agreement = pd.Series(agreement).groupby(predictions["labels"]).mean()
    assert agreement[["random", "true"]].tolist() == [1, 1]
    assert agreement["shuffled"] < 0.9


def test_galaxies_without_a_class_take_no_part(bright):
    predictions = bright[1][1]
    assert not set(predictions["id"]) & {"g0", "g7", "g21"}
    assert set(predictions["class"]) == {0, 1}


def test_shuffles_are_as_many_as_asked_for(bright):
    null = bright[1][2]
    assert list(null) == ["labels", "relabeled", "best", "one"]
    assert (null.groupby(["labels", "relabeled"]).size() == SMALL.n_shuffles).all()
    finite = null.dropna()
    assert (finite["one"] <= finite["best"]).all()
    assert finite.loc[~finite["relabeled"], "one"].mean() == pytest.approx(0.5, abs=0.03)


def test_a_second_run_fits_nothing_and_gives_the_same_tables(bright, monkeypatch):
    sample, tables, folder = bright

    def nothing_is_to_be_fitted(*arguments, **options):
        raise AssertionError

    monkeypatch.setattr(fitting, "fit_classifier", nothing_is_to_be_fitted)
    for one, two in zip(tables, audit_of(sample, folder), strict=True):
        pd.testing.assert_frame_equal(one, two)


# --- what is not run ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "parameters"),
    [
        (toy(), SMALL.model_copy(update={"test_sizes": ()})),
        (toy(n_classes=1), SMALL),
        (toy(9), SMALL),
        (toy(12, unused=range(3)), SMALL),
    ],
    ids=["switched off", "one class", "few", "few with a class"],
)
def test_without_an_audit_there_are_empty_tables_with_its_columns(sample, parameters, tmp_path):
    fits, predictions, null = audit_of(sample, tmp_path, parameters)
    assert fits.empty
    assert predictions.empty
    assert null.empty
    assert tuple(fits) == audit.AUDIT_COLUMNS
    assert {"labels", "id", "predicted", "class"} <= set(predictions)
    assert {"labels", "relabeled", "best", "one"} <= set(null)
    assert not list(tmp_path.iterdir())


def test_images_of_the_base_settings_that_are_not_drawn_are_an_error_that_names_them(tmp_path):
    sweep = sweep_of(**{"features.size": [12, 16]})
    with pytest.raises(ValueError, match=r"base settings' images 8px-\w+ are not among"):
        audit_of(toy(), tmp_path, sweep=sweep)


# --- to the letter --------------------------------------------------------------------------------


def procedure_of(kind="random", parameters=SMALL, n=40, sweep=None):
    truth = np.arange(n) % 2
    used = np.arange(2, n)
    labels = audit._audit_labels(truth, used, 2, parameters.seed)
    base = (sweep or sweep_of(start="fine_tuned")).base
    return audit._audit_procedure(kind, parameters, base, used, *labels[kind], 2), labels, used


def test_validation_objects_are_the_test_objects_and_the_others_are_trained_on():
    procedure, labels, used = procedure_of()
    for task in next(procedure):
        rows = {role: task.arrays[role] for role in ("train", "validation", "test")}
        np.testing.assert_array_equal(rows["validation"], rows["test"])
        assert sorted([*rows["train"], *rows["test"]]) == used.tolist()
        for role in ("train", "validation"):
            expected = labels["random"][0][rows[role]]
            np.testing.assert_array_equal(task.arrays[f"{role}_targets"], expected)


def test_the_network_is_fitted_as_published_whatever_the_base_settings_are():
    tasks = next(procedure_of()[0])
    assert len(tasks) == 2  # the numbers of epochs share a training run
    for task in tasks:
        assert task.settings["epochs"] == [4, 8]
        assert task.settings["training"]["start"] == "scratch"
        assert task.settings["training"]["patience"] is None
        assert task.settings["copies"] is None
        assert task.settings["pretrained"] is None
        assert task.settings["balance"] is False
        assert tuple(task.settings["network"]["widths"]) == (4,)
        assert task.shared == (task.settings["images"],)


def test_splits_are_those_of_the_published_seeds():
    from sklearn.model_selection import train_test_split

    procedure, _, used = procedure_of()
    for task, seed in zip(next(procedure), (1, 2), strict=True):
        _, test = train_test_split(used, test_size=0.5, random_state=seed)
        np.testing.assert_array_equal(task.arrays["test"], np.sort(test))


def test_random_labels_are_unrelated_to_the_classes_and_shuffled_ones_keep_their_counts():
    truth = np.arange(3000) % 3
    truth[:3] = -1  # no class
    labels = audit._audit_labels(truth, np.arange(3, 3000), 3, seed=0)
    random, scored = labels["random"]
    assert (random == truth)[3:].mean() == pytest.approx(1 / 3, abs=0.03)
    np.testing.assert_array_equal(scored, truth)
    shuffled, scored = labels["shuffled"]
    np.testing.assert_array_equal(shuffled, scored)
    assert (shuffled == truth)[3:].mean() == pytest.approx(1 / 3, abs=0.03)
    np.testing.assert_array_equal(np.sort(shuffled), np.sort(truth))
    for content in labels.values():
        for array in content:
            assert (array[:3] == -1).all()


def results_of(tasks, predicted):
    """Results in which every fit names the classes it is told to."""
    results = []
    for task, classes in zip(tasks, predicted, strict=True):
        n = len(task.arrays["test"])
        named = np.stack([np.eye(2)[np.resize(c, n)] for c in classes])
        results.append({"test_prediction": named})
    return results


def test_fits_that_name_one_class_are_skipped_and_cannot_win():
    procedure, _, _ = procedure_of("true")
    tasks = next(procedure)
    always, both = [0], [0, 1, 1]
    again = procedure.send(results_of(tasks, [(always, both), (always, always)]))
    (task,) = again  # the winner, with other random numbers
    assert task.settings["seed"] != tasks[0].settings["seed"]
    assert task.settings | {"seed": 0} == tasks[0].settings | {"seed": 0}
    finished = procedure.send(results_of(again, [(both, both)]))
    assert isinstance(finished, Finished)
    _, table, tested, _ = finished.item
    assert table["n_predicted_classes"].tolist() == [1, 2, 1, 1]
    assert table["relabeled_success_rate"].isna().tolist() == [True, False, True, True]
    assert table["is_winner"].tolist() == [False, True, False, False]
    assert table["refitted"].notna().tolist() == [False, True, False, False]
    assert len(tested) == 4


def test_a_grid_in_which_every_fit_names_one_class_has_no_winner():
    procedure, _, _ = procedure_of("true")
    tasks = next(procedure)
    finished = procedure.send(results_of(tasks, [([0], [1])] * 2))
    assert isinstance(finished, Finished)
    table = finished.item[1]
    assert not table["is_winner"].any()
    assert table["refitted"].isna().all()


def test_a_fit_that_fails_is_an_error_that_says_why():
    procedure, _, _ = procedure_of()
    tasks = next(procedure)
    with pytest.raises(RuntimeError, match="published protocol failed: MemoryError: no memory"):
        procedure.send([FailedTask("MemoryError: no memory")] * len(tasks))
