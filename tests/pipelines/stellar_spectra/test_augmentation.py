"""The split keeps stars together, and made spectra come from the training part."""

import numpy as np
import pandas as pd
import pytest

from skyloom.learning.fitting import TrainingParameters
from skyloom.pipelines.stellar_spectra import augmentation as module
from skyloom.pipelines.stellar_spectra.augmentation import (
    class_names,
    draw_synthetic_spectra,
    make_split,
    rare_training_rows,
    simulate_class,
    train_generators,
)
from skyloom.pipelines.stellar_spectra.features import lines_of
from skyloom.pipelines.stellar_spectra.ingestion import configure_sweep
from skyloom.pipelines.stellar_spectra.parameters import (
    AugmentationParameters,
    FeatureParameters,
    GeneratorParameters,
    JitterParameters,
    NetworkParameters,
    SweepsParameters,
    SyntheticParameters,
)
from skyloom.pipelines.stellar_spectra.reporting import unused_spectra, without_pool

FEATURES = FeatureParameters(low=4000, high=6800, step=5e-4, height=8)
STILL = JitterParameters(velocity=0, noise=0, tilt=0)


def sweep_of(arms=("none", "repeats", "jitter", "simulated"), **further):
    sweep = {"grid": {"augmentation.arm": list(arms)}} | further
    return configure_sweep(
        SweepsParameters(chosen="a", named={"a": sweep}), FEATURES, AugmentationParameters(),
        NetworkParameters(), TrainingParameters(),
    )  # fmt: skip


def sample_of(counts, survey="s"):
    """So many stars of each class, the first of each with two spectra."""
    rows = []
    for name, number in counts.items():
        for star in range(number):
            rows += [(name, f"{survey}{name}{star}", copy) for copy in range(2 if star == 0 else 1)]
    table = pd.DataFrame(rows, columns=["class", "group", "copy"])
    table["id"] = table["group"] + "_" + table["copy"].astype(str)
    table["sha256"] = table["id"]
    return table.assign(keep=True, survey=survey)


COUNTS = {"O": 6, "B": 9, "G": 12}


def test_every_star_is_tested_once_and_never_on_two_sides():
    sample = sample_of(COUNTS)
    manifest = make_split(sample, sweep_of(), AugmentationParameters(n_folds=3, seeds=(0, 4)))
    assert class_names(sample, manifest) == ["O", "B", "G"]
    assert manifest.groupby(["seed", "fold", "group"])["role"].nunique().eq(1).all()
    tested = manifest[manifest["role"] == "test"]
    assert tested.groupby("seed")["id"].nunique().eq(len(sample)).all()
    first, other = (manifest[manifest["seed"] == s].drop(columns="seed") for s in (0, 4))
    pd.testing.assert_frame_equal(first.reset_index(drop=True), other.reset_index(drop=True))


def test_classes_of_too_few_stars_are_left_out_and_told(caplog):
    sample = sample_of(COUNTS | {"M": 2})
    manifest = make_split(sample, sweep_of(), AugmentationParameters(n_folds=3))
    assert class_names(sample, manifest) == ["O", "B", "G"]
    assert "class M has 2 stars to train on" in caplog.text


def test_what_is_not_kept_is_not_split():
    sample = sample_of(COUNTS)
    sample.loc[:3, "keep"] = False
    manifest = make_split(sample, sweep_of(), AugmentationParameters(n_folds=3))
    assert not set(sample.loc[:3, "id"]) & set(manifest["id"])


def two_surveys():
    north, south = sample_of(COUNTS, "north"), sample_of({"B": 5, "G": 4, "M": 3}, "south")
    # One star is in both.
    south.loc[south["group"] == "southB0", "group"] = "northB0"
    return pd.concat([north, south], ignore_index=True)


def test_surveys_are_tested_that_nothing_was_trained_on(caplog):
    sample = two_surveys()
    manifest = make_split(sample, sweep_of(test_surveys=["south"]), AugmentationParameters())
    survey = manifest["id"].map(sample.set_index("id")["survey"])
    assert ((survey == "south") == (manifest["role"] == "test")).all()
    assert manifest.groupby(["seed", "group"])["role"].nunique().eq(1).all()
    assert "2 entries are of objects that are tested" in caplog.text
    # M stars were only seen in the south: nobody could name them.
    assert "class M has 0 stars to train on, 3 are needed: it is left out, 4" in caplog.text
    assert class_names(sample, manifest) == ["O", "B", "G"]


@pytest.mark.parametrize(
    ("tested", "learnt"),
    [(["east"], []), (["north", "south"], []), (["north"], ["north"]), (["north"], ["west"])],
)
def test_surveys_must_be_there_and_leave_some(tested, learnt):
    with pytest.raises(ValueError, match=r"some of \['north', 'south'\], none of them both"):
        make_split(
            two_surveys(), sweep_of(test_surveys=tested, train_surveys=learnt),
            AugmentationParameters(),
        )  # fmt: skip


def test_surveys_that_are_not_asked_for_are_left_out():
    more = pd.concat([two_surveys(), sample_of({"B": 4, "G": 4}, "west")], ignore_index=True)
    sweep = sweep_of(test_surveys=["south"], train_surveys=["north"])
    manifest = make_split(more, sweep, AugmentationParameters())
    assert set(manifest["id"].map(more.set_index("id")["survey"])) == {"north", "south"}


def test_simulated_stars_are_of_their_class():
    parameters = SyntheticParameters(n_spectra=60, stars={"snr": (60, 80)})
    flux = simulate_class("O", parameters, FEATURES, 0)
    assert flux.shape == (60, FEATURES.n_pixels)
    lines = lines_of(flux, FEATURES).median()
    cool = lines_of(simulate_class("G", parameters, FEATURES, 0), FEATURES).median()
    assert lines["He II 4686"] > cool["He II 4686"] + 0.2
    assert cool["Mg b"] > lines["Mg b"] + 0.5
    np.testing.assert_array_equal(flux, simulate_class("O", parameters, FEATURES, 0))
    assert not np.array_equal(flux, simulate_class("O", parameters, FEATURES, 1))


def test_copies_are_of_training_stars_of_their_fold_only():
    sample = sample_of(COUNTS)
    manifest = make_split(sample, sweep_of(), AugmentationParameters(n_folds=3))
    level = 1 + 0.01 * np.arange(len(sample), dtype=np.float32)
    flux = np.repeat(level[:, None], FEATURES.n_pixels, axis=1)
    parameters = SyntheticParameters(n_spectra=30, jitter=STILL)
    spectra, table = draw_synthetic_spectra(
        sample, {FEATURES.prepared: lambda: flux}, manifest, {}, sweep_of(), parameters
    )
    assert table["arm"].value_counts().to_dict() == dict.fromkeys(
        ("repeats", "jitter", "simulated"), 3
    )
    rows = rare_training_rows(sample, manifest, "O")
    for row in table[table["arm"] == "jitter"].itertuples():
        used = np.unique(np.round((spectra[row.pool][:, 0] - 1) * 100).astype(int))
        assert used.tolist() == rows[row.fold].tolist()
        train = manifest[(manifest["fold"] == row.fold) & (manifest["role"] == "train")]
        assert set(sample["id"].iloc[rows[row.fold]]) <= set(train["id"])
        assert row.n_trained_on == len(used)
        again = spectra[row.pool.replace("jitter", "repeats")]
        np.testing.assert_array_equal(again, flux[rows[row.fold]])


def test_nothing_is_made_of_a_class_that_nobody_has(caplog):
    sample = sample_of({"B": 6, "G": 6})
    manifest = make_split(sample, sweep_of(), AugmentationParameters(n_folds=3))
    flux = np.ones((len(sample), FEATURES.n_pixels), np.float32)
    spectra, table = draw_synthetic_spectra(
        sample, {FEATURES.prepared: lambda: flux}, manifest, {}, sweep_of(), SyntheticParameters()
    )
    assert not spectra
    assert table.empty
    assert "fold 0: nothing for the arm jitter, which is like none there" in caplog.text
    told = without_pool(table, manifest, sweep_of())
    assert told.startswith("jitter (fold 0), jitter (fold 1)")


def test_a_diverged_generator_is_worse_than_none(monkeypatch):
    sample = sample_of(COUNTS | {"O": 15})
    manifest = make_split(sample, sweep_of(), AugmentationParameters(n_folds=3))
    flux = np.ones((len(sample), FEATURES.n_pixels), np.float32)

    def pieces(trainings, *_, **__):
        assert list(trainings) == ["fold_0", "fold_1", "fold_2"]
        for name in reversed(trainings):  # as they come
            loss = np.nan if name == "fold_1" else 0.5
            yield name, 1, {
                "history": np.array([[1, loss, 0.5]]), "spectrum_error": np.array(0.3),
                "diversity": np.array(0.9), "frame": flux[:6], "state_0": np.zeros(1),
            }  # fmt: skip

    monkeypatch.setattr(module, "train_in_pieces", pieces)
    makers, history, films, sheets = train_generators(
        sample, {FEATURES.prepared: lambda: flux}, manifest, sweep_of(["none", "gan"]),
        None, GeneratorParameters(), None,
    )  # fmt: skip
    assert set(makers) == set(sheets) == {"fold_0", "fold_2"}
    assert set(films) == {"fold_0", "fold_1", "fold_2"}
    assert history["fold"].tolist() == [0, 1, 2]
    assert history["chosen"].tolist() == [True, False, True]
    assert history["verdict"].tolist() == ["", "diverged", ""]


def test_every_spectrum_that_is_not_split_is_listed():
    sample = two_surveys().assign(reason="", value="")
    sample.loc[0, ["keep", "reason", "value"]] = [False, "too noisy", "S/N 2.0"]
    manifest = make_split(sample, sweep_of(test_surveys=["south"]), AugmentationParameters())
    listed = unused_spectra(sample, manifest)
    assert set(listed["id"]) | set(manifest["id"]) == set(sample["id"])
    assert not set(listed["id"]) & set(manifest["id"])
    assert listed.set_index("id").loc[sample.loc[0, "id"], "reason"] == "too noisy: S/N 2.0"
    assert listed["reason"].str.startswith("class M, survey south: left out").sum() == 4
