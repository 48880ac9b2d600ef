"""Classes, split, and copies of the training profiles."""

import logging

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from skyloom.evaluation.splits import check_no_leak
from skyloom.images.rings import render_rings
from skyloom.pipelines.hi_profiles.augmentation import (
    COPY_COLUMNS,
    MANIFEST_COLUMNS,
    a_flux_classes,
    change_profiles,
    choose_classes,
    draw_augmented_images,
    line_errors,
    make_split,
    plan_copies,
)
from skyloom.pipelines.hi_profiles.features import draw_images
from skyloom.pipelines.hi_profiles.parameters import AugmentationParameters, FeatureParameters
from skyloom.spectra.busy_function import PARAMETER_NAMES

EDGES = (1.13, 1.26)


# --- classes by A_flux ----------------------------------------------------------------------------


def test_a_certain_a_flux_falls_into_its_class_on_either_side():
    x = np.log([1.0, 1.05, 1.2, 1.5, 9.0])
    for sign in (1, -1):
        classes, probability = a_flux_classes(sign * x, np.full(5, 1e-6), EDGES)
        assert classes.tolist() == [0, 0, 1, 2, 2]
        np.testing.assert_allclose(probability, 1)


def test_probability_of_the_middle_class_is_that_of_the_gaussian():
    x, error = 0.17, 0.08
    low, high = np.log(EDGES)
    inside = norm(x, error)
    expected = (inside.cdf(high) - inside.cdf(low)) + (inside.cdf(-low) - inside.cdf(-high))
    for sign in (1, -1):
        classes, probability = a_flux_classes(np.array([sign * x]), np.array([error]), EDGES)
        assert classes[0] == 1
        assert probability[0] == pytest.approx(expected)


def test_a_value_on_an_edge_belongs_to_both_sides_alike():
    _, probability = a_flux_classes(np.log([1.26]), np.array([0.005]), EDGES)
    assert probability[0] == pytest.approx(0.5, abs=1e-6)


def test_a_vanishing_error_is_no_division_by_zero():
    classes, probability = a_flux_classes(np.log([1.2]), np.array([0.0]), EDGES)
    assert (classes[0], probability[0]) == (1, 1.0)


def test_probabilities_are_as_often_right_as_they_say():
    rng = np.random.default_rng(0)
    truth = rng.uniform(-1.5, 1.5, 60000)  # the flat prior that a probability implies
    error = rng.uniform(0.02, 0.2, len(truth))
    measured = truth + error * rng.normal(size=len(truth))
    classes, probability = a_flux_classes(measured, error, EDGES)
    right = classes == np.digitize(np.abs(truth), np.log(EDGES))
    inner = np.abs(measured) < 0.5
    for low, high in ((0.4, 0.6), (0.6, 0.8), (0.8, 0.95)):
        chosen = inner & (probability > low) & (probability < high)
        assert chosen.sum() > 500
        assert right[chosen].mean() == pytest.approx(probability[chosen].mean(), abs=0.03)


# --- choice of the classes ------------------------------------------------------------------------


def tables(n, *, labels=None, ln_ratio=None, error=0.01):
    """Profiles, fits and asymmetries of n galaxies with distinct files."""
    ids = [f"g{i:02d}" for i in range(n)]
    known = labels is not None
    values = pd.array(labels if known else [pd.NA] * n, dtype="Int64")
    profiles = pd.DataFrame(
        {
            "id": ids,
            "sha256": [f"sha {i}" for i in ids],
            "class": values,
            "class_value": values,
            "label_source": ["label table" if known else "no label table"] * n,
        }
    )
    fits = pd.DataFrame({"id": ids, "status": "good", "usable": True})
    ratio = np.zeros(n) if ln_ratio is None else np.asarray(ln_ratio, float)
    asymmetry = pd.DataFrame({"id": ids, "ln_flux_ratio": ratio, "ln_flux_ratio_error": error})
    return profiles, fits, asymmetry


def choose(profiles, fits, asymmetry, **parameters):
    return choose_classes(profiles, fits, asymmetry, AugmentationParameters(**parameters))


def test_the_label_table_is_used_as_it_is_and_named_as_the_source():
    table = choose(*tables(8, labels=[0, 1] * 4, ln_ratio=[0.9] * 8))
    assert table["used"].all()
    assert (table["reason"] == "").all()
    assert table["class"].tolist() == [0, 1] * 4
    assert set(table["label_source"]) == {"label table"}


def test_without_a_label_table_the_measured_a_flux_gives_the_classes():
    ratio = [0.0, 0.01, -0.02, 0.18, -0.18, 0.17, 0.5, -0.6, 0.4]
    table = choose(*tables(9, ln_ratio=ratio))
    assert table["class"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert table["class_value"].tolist() == table["class"].tolist()
    assert set(table["label_source"]) == {"measured A_flux"}
    assert table["used"].all()


def test_why_a_galaxy_is_not_used_is_said():
    profiles, fits, asymmetry = tables(11, labels=[0] * 6 + [1] * 5)
    profiles.loc[0, ["class", "class_value"]] = pd.NA
    profiles.loc[0, "label_source"] = "not in the label table"
    fits.loc[1, ["usable", "status"]] = [False, "edges not found"]
    table = choose(profiles, fits, asymmetry)
    assert table["reason"].tolist()[:2] == ["not in the label table", "fit: edges not found"]
    assert table["used"].tolist() == [False, False] + [True] * 9
    assert set(table["label_source"]) == {"label table"}


def test_an_uncertain_or_unmeasured_a_flux_is_not_used():
    ratio = [0.0, 0.0, 0.0, 0.5, 0.5, 0.5, np.log(1.13), np.nan]
    table = choose(*tables(8, ln_ratio=ratio), a_flux_edges=(1.13,))
    assert table["used"].tolist() == [True] * 6 + [False] * 2
    assert table["reason"].tolist()[6:] == [
        "A_flux class uncertain: probability 0.50",
        "A_flux not measured",
    ]
    assert pd.isna(table["class"].iloc[7])
    assert choose(*tables(8, ln_ratio=ratio), a_flux_edges=(1.13,), min_class_probability=0.4)[
        "used"
    ].tolist() == [True] * 7 + [False]


def test_a_rare_class_is_left_out_and_the_others_are_numbered_without_a_gap():
    labels = [0] * 4 + [1] * 2 + [5] * 3
    table = choose(*tables(9, labels=labels))
    assert table["reason"].tolist()[4:6] == ["fewer than 3 galaxies in the class"] * 2
    used = table[table["used"]]
    assert used["class"].tolist() == [0] * 4 + [1] * 3
    assert table["class_value"].tolist() == labels


def test_identical_files_are_one_galaxy_also_when_a_class_is_counted():
    profiles, fits, asymmetry = tables(9, labels=[0] * 5 + [1] * 4)
    profiles.loc[[5, 6], "sha256"] = "the same"
    table = choose(profiles, fits, asymmetry)
    assert table["group"].tolist()[5:7] == ["g05", "g05"]
    assert table["group"].nunique() == 8
    assert table["used"].all()
    profiles.loc[[7], "sha256"] = "the same"
    assert not choose(profiles, fits, asymmetry).loc[5:, "used"].any()


def test_nothing_usable_is_a_table_and_not_a_crash():
    profiles, fits, asymmetry = tables(4, labels=[0, 0, 1, 1])
    fits["usable"] = False
    table = choose(profiles, fits, asymmetry)
    assert not table["used"].any()
    assert (table["reason"] == "fit: good").all()


# --- split ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels", [[0] * 10, [0] * 10 + [1] * 2, [0, 0, 1, 1]], ids=["one class", "rare", "tiny"]
)
def test_too_few_galaxies_give_an_empty_split_and_a_warning(labels, caplog):
    classes = choose(*tables(len(labels), labels=labels))
    with caplog.at_level(logging.WARNING):
        manifest = make_split(classes, AugmentationParameters())
    assert manifest.empty
    assert list(manifest) == list(MANIFEST_COLUMNS)
    assert "No network is trained" in caplog.text


@pytest.mark.parametrize("count", [3, 4])
def test_few_galaxies_give_fewer_folds_and_a_warning(count, caplog):
    classes = choose(*tables(2 * count, labels=[0, 1] * count))
    with caplog.at_level(logging.WARNING):
        manifest = make_split(classes, AugmentationParameters(n_folds=5))
    assert manifest["fold"].nunique() == count
    assert f"{count} folds instead of 5" in caplog.text


def test_the_split_holds_the_used_galaxies_and_their_hashes():
    profiles, fits, asymmetry = tables(24, labels=[0, 1] * 12)
    fits.loc[3, "usable"] = False
    classes = choose(profiles, fits, asymmetry)
    manifest = make_split(classes, AugmentationParameters(n_folds=4, seeds=(0, 1)))
    check_no_leak(manifest)
    assert list(manifest) == list(MANIFEST_COLUMNS)
    assert set(manifest["id"]) == set(profiles["id"]) - {"g03"}
    hashes = profiles.set_index("id")["sha256"]
    assert (hashes[manifest["id"]].to_numpy() == manifest["sha256"].to_numpy()).all()


# --- plan of the copies ---------------------------------------------------------------------------


@pytest.fixture
def planned():
    """Profiles, fits and a split of 30 galaxies, a third of them in the second class."""
    profiles, fits, asymmetry = tables(30, labels=([0, 0, 1] * 10))
    fits = fits.assign(low_edge_error=3.0, high_edge_error=4.0)
    classes = choose(profiles, fits, asymmetry)
    manifest = make_split(classes, AugmentationParameters(n_folds=3, seeds=(0, 7)))
    return profiles, fits, manifest


def plan(planned, **parameters):
    return plan_copies(*planned, AugmentationParameters(**parameters))


def test_only_training_galaxies_of_the_same_fold_are_copied(planned):
    profiles, _, manifest = planned
    copies = plan(planned)
    assert list(copies) == list(COPY_COLUMNS)
    training = manifest[manifest["role"] == "train"]
    for key, part in training.groupby(["seed", "fold"]):
        mine = copies[(copies["seed"] == key[0]) & (copies["fold"] == key[1])]
        assert set(mine["id"]) == set(part["id"])
    assert (profiles["id"].to_numpy()[copies["profile"]] == copies["id"].to_numpy()).all()
    truth = profiles.set_index("id")["class"]
    assert (truth[copies["id"]].to_numpy() == copies["class"].to_numpy()).all()


def test_copy_zero_is_the_observed_profile_once_for_each_galaxy(planned):
    copies = plan(planned)
    first = copies[copies["copy"] == 0]
    assert (first.groupby(["seed", "fold", "id"]).size() == 1).all()
    assert len(first) == (planned[2]["role"] == "train").sum()
    assert not first["exchanged"].any()
    assert (first["snr_factor"] == 1).all()
    assert (first["fold_shift"] == 0).all()


def test_copies_are_balanced_between_classes_and_between_galaxies(planned):
    copies = plan(planned, n_copies=2)
    for _, part in copies.groupby(["seed", "fold"]):
        assert np.ptp(part["class"].value_counts()) == 0
        for _, members in part.groupby("class"):
            assert np.ptp(members["id"].value_counts()) <= 1
    training = planned[2].query("role == 'train' and seed == 0 and fold == 0")
    largest = training["class"].value_counts().max()
    assert len(copies.query("seed == 0 and fold == 0")) == 2 * largest * 3


def test_without_balancing_every_galaxy_has_the_same_number_of_copies(planned):
    copies = plan(planned, n_copies=2, balance_classes=False)
    assert (copies.groupby(["seed", "fold", "id"]).size() == 3).all()


def test_no_copies_leaves_the_training_part_as_observed(planned):
    copies = plan(planned, n_copies=0, balance_classes=False)
    assert len(copies) == (planned[2]["role"] == "train").sum()
    assert (copies["copy"] == 0).all()
    assert not copies["exchanged"].any()


def test_changes_are_as_large_as_asked_for(planned):
    copies = plan(planned, n_copies=20, min_snr_factor=0.5, fold_jitter=2.0)
    changed = copies[copies["copy"] > 0]
    assert changed["exchanged"].mean() == pytest.approx(0.5, abs=0.06)
    assert changed["snr_factor"].between(0.5, 1).all()
    assert changed["snr_factor"].mean() == pytest.approx(0.75, abs=0.03)
    # Edges of 3 and 4 km/s errors: the middle between them has 2.5.
    assert changed["fold_shift"].std() == pytest.approx(2 * 2.5, rel=0.1)
    plain = plan(planned, exchange_sides=False, min_snr_factor=1, fold_jitter=0)
    assert not plain["exchanged"].any()
    assert (plain["snr_factor"] == 1).all()
    assert (plain["fold_shift"] == 0).all()


def test_the_plan_is_the_same_every_time_and_differs_between_folds(planned):
    first = plan(planned)
    pd.testing.assert_frame_equal(first, plan(planned))
    factors = [
        sorted(part["snr_factor"][part["copy"] > 0])[:5]
        for _, part in first.groupby(["seed", "fold"])
    ]
    assert len({tuple(f) for f in factors}) == len(factors)


def test_an_empty_split_gives_an_empty_plan(planned):
    profiles, fits, manifest = planned
    copies = plan_copies(profiles, fits, manifest[:0], AugmentationParameters())
    assert copies.empty
    assert list(copies) == list(COPY_COLUMNS)


def test_an_unknown_edge_error_moves_nothing():
    fits = pd.DataFrame(
        {"low_edge_error": [3.0, np.nan, np.inf], "high_edge_error": [4.0, np.nan, 1.0]}
    )
    np.testing.assert_allclose(line_errors(fits), [2.5, 0, 0])


# --- changed profiles -----------------------------------------------------------------------------

N_CHANNELS = 64


def lines(n=3, noise=0.0, m=N_CHANNELS):
    """Lopsided lines; the last one ends before the array does."""
    velocity = 1000 + 5.0 * np.arange(m)
    flux = np.stack(
        [
            np.exp(-(((velocity - 1120 - 12 * i) / 40) ** 2))
            + 0.6 * np.exp(-(((velocity - 1200 - 5 * i) / 25) ** 2))
            for i in range(n)
        ]
    )
    n_channels = np.full(n, m)
    n_channels[-1] = m - 7
    flux[-1, m - 7 :] = 0
    return {
        "flux": flux,
        "n_channels": n_channels,
        "velocity_start": np.full(n, 1000.0),
        "channel_width": np.full(n, 5.0),
        "noise": np.full(n, noise),
        "centre": np.linspace(1140.0, 1150.0, n),
        "half_width": np.full(n, 90.0),
        "peak": flux.max(axis=1),
        "usable": np.ones(n, bool),
    }


def copies_of(n, *, exchanged=False, snr_factor=1.0, fold_shift=0.0, seed=0, first=0):
    return pd.DataFrame(
        {"seed": seed, "exchanged": exchanged, "snr_factor": snr_factor, "fold_shift": fold_shift},
        index=range(first, first + n),
    )


def rings(line):
    return render_rings(
        line["flux"],
        line["velocity_start"],
        line["channel_width"],
        line["centre"],
        1.3 * line["half_width"],
        size=24,
    )


def test_exchanging_the_sides_turns_the_sign_of_the_fold_image():
    before = lines()
    after = change_profiles(before, copies_of(3, exchanged=True))
    fold, mirrored = rings(before)[:, 1], rings(after)[:, 1]
    assert np.abs(fold).max(axis=(1, 2)).min() > 0.2
    np.testing.assert_allclose(mirrored, -fold, atol=2e-5)


def test_exchanging_the_sides_mirrors_flux_and_fold_velocity():
    before = lines()
    after = change_profiles(before, copies_of(3, exchanged=[True, False, True]))
    np.testing.assert_array_equal(after["flux"][0], before["flux"][0, ::-1])
    np.testing.assert_array_equal(after["flux"][1], before["flux"][1])
    n = before["n_channels"][2]
    np.testing.assert_array_equal(after["flux"][2, :n], before["flux"][2, :n][::-1])
    np.testing.assert_array_equal(after["flux"][2, n:], 0)
    last = 1000 + 5.0 * (N_CHANNELS - 1)
    assert after["centre"][0] == pytest.approx(1000 + last - before["centre"][0])
    assert after["centre"][1] == before["centre"][1]


def test_exchanging_twice_changes_nothing():
    before = lines()
    twice = change_profiles(
        change_profiles(before, copies_of(3, exchanged=True)), copies_of(3, exchanged=True)
    )
    np.testing.assert_array_equal(twice["flux"], before["flux"])
    np.testing.assert_allclose(twice["centre"], before["centre"])


@pytest.mark.parametrize("factor", [0.5, 0.8])
def test_noise_is_added_until_the_signal_to_noise_ratio_is_as_planned(factor):
    before = lines(20, noise=0.3, m=2000)
    after = change_profiles(before, copies_of(20, snr_factor=factor))
    added = (after["flux"] - before["flux"])[:-1]
    assert added.mean() == pytest.approx(0, abs=0.01)
    total = np.hypot(0.3, added.std(axis=1))
    np.testing.assert_allclose(total, 0.3 / factor, rtol=0.06)
    assert np.hypot(0.3, added.std()) == pytest.approx(0.3 / factor, rel=0.015)
    lag = (added[:, 1:] * added[:, :-1]).mean() / added.var()
    assert abs(lag) < 0.03


def test_untouched_rows_are_identical_and_the_input_is_not_changed():
    before = lines(4, noise=0.2)
    kept = {key: value.copy() for key, value in before.items()}
    copies = copies_of(
        4,
        exchanged=[False, True, False, False],
        snr_factor=[1, 0.7, 1, 0.6],
        fold_shift=[0, 0, 4.0, 0],
    )
    after = change_profiles(before, copies)
    for key, value in kept.items():
        np.testing.assert_array_equal(before[key], value)
    np.testing.assert_array_equal(after["flux"][[0, 2]], kept["flux"][[0, 2]])
    assert (after["flux"][[1, 3]] != kept["flux"][[1, 3]]).any(axis=1).all()
    assert after["centre"][0] == kept["centre"][0]
    assert after["centre"][2] == kept["centre"][2] + 4.0


def test_the_noise_of_a_copy_does_not_depend_on_the_copies_beside_it():
    before = lines(4, noise=0.2)
    copies = copies_of(4, snr_factor=0.6, first=10)
    together = change_profiles(before, copies)["flux"]
    alone = change_profiles({k: v[2:3] for k, v in before.items()}, copies.iloc[2:3])["flux"]
    np.testing.assert_array_equal(together[2], alone[0])
    noise = together - before["flux"]
    assert abs(np.corrcoef(noise[:3])[np.triu_indices(3, 1)]).max() < 0.5
    other = change_profiles(before, copies_of(4, snr_factor=0.6, first=10, seed=1))["flux"]
    assert (other != together).any()


def test_observed_copies_have_the_images_of_the_observed_profiles():
    rng = np.random.default_rng(0)
    n, m = 6, 96
    flux = lines(n, m=m)["flux"] + rng.normal(0, 0.02, (n, m))
    profiles, fits, _ = tables(n, labels=[0, 1] * 3)
    profiles = profiles.assign(velocity_start=1000.0, channel_width=5.0, noise=0.02)
    fits = fits.assign(
        **dict.fromkeys(PARAMETER_NAMES, 1.0),
        low_edge=1050.0, high_edge=1240.0, low_edge_error=2.0, high_edge_error=2.0,
        w20=190.0, w50=170.0, peak_flux=1.0,
    )  # fmt: skip
    rows = np.array([4, 1, 1, 0])
    copies = copies_of(4, snr_factor=[1, 1, 0.6, 1], exchanged=[False, False, True, False])
    copies["profile"] = rows
    features = FeatureParameters(size=16)
    observed = draw_images(profiles, flux, fits, features).compute()
    drawn = draw_augmented_images(profiles, flux, fits, copies, features)
    assert drawn.shape == (4, 3, 16, 16, 1)
    drawn = drawn.compute()
    np.testing.assert_array_equal(drawn[[0, 1, 3]], observed[[4, 1, 0]])
    assert (drawn[2] != observed[1]).any()
