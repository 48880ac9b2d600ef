"""Classes, split, and copies of the training profiles."""

import logging

import numpy as np
import pandas as pd
import pytest

from skyloom.evaluation.splits import check_no_leak
from skyloom.pipelines.hi_profiles.augmentation import (
    COPY_COLUMNS,
    MANIFEST_COLUMNS,
    choose_classes,
    class_names,
    class_values,
    draw_augmented_images,
    make_split,
    plan_copies,
    simulate_pretraining_sample,
)
from skyloom.pipelines.hi_profiles.features import draw_images
from skyloom.pipelines.hi_profiles.ingestion import configure_sweep
from skyloom.pipelines.hi_profiles.parameters import (
    AugmentationParameters,
    FeatureParameters,
    NetworkParameters,
    PretrainingParameters,
    SimulationParameters,
    SweepsParameters,
    TrainingParameters,
)
from skyloom.simulate.hi_profiles import observe_lines
from skyloom.spectra.hi.busy_function import PARAMETER_NAMES

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
            "object": "",
            "line_centre": 1000.0 * np.arange(n),
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


def test_files_that_name_the_same_galaxy_are_one_unless_their_velocities_differ():
    profiles, fits, asymmetry = tables(9, labels=[0, 1, 0] * 3)
    profiles.loc[:, "line_centre"] = [5000.0, 5040.0, 900.0, 8000.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    profiles.loc[:, "object"] = ["UGC 7", "ugc007", "AGC 1", "AGC 1", "", None, "test", "test", "9"]
    group = choose(profiles, fits, asymmetry)["group"]
    assert group.tolist() == ["g00", "g00", "g02", "g03", "g04", "g05", "g06", "g07", "g08"]


def test_nothing_usable_is_a_table_and_not_a_crash():
    profiles, fits, asymmetry = tables(4, labels=[0, 0, 1, 1])
    fits["usable"] = False
    table = choose(profiles, fits, asymmetry)
    assert not table["used"].any()
    assert (table["reason"] == "fit: good").all()


def test_classes_are_named_by_their_value_in_the_label_table():
    two = choose(*tables(12, labels=[0, 2] * 6))
    assert class_values(two) == [0, 2]
    assert class_names(two, ["zero"]) == ["zero", "class 2"]
    assert class_values(choose(*tables(12, labels=[1, 4, 5] * 4))) == [1, 4, 5]


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
    manifest = make_split(classes, AugmentationParameters(n_folds=4, n_inner_folds=2, seeds=(0, 1)))
    check_no_leak(manifest)
    assert (manifest["fold"].nunique(), manifest["inner"].nunique()) == (4, 2)
    assert list(manifest) == list(MANIFEST_COLUMNS)
    assert set(manifest["id"]) == set(profiles["id"]) - {"g03"}
    hashes = profiles.set_index("id")["sha256"]
    assert (hashes[manifest["id"]].to_numpy() == manifest["sha256"].to_numpy()).all()


# --- plan of the copies ---------------------------------------------------------------------------


def sweep_of(grid=None, size=16, augmentation=None, **network):
    return configure_sweep(
        SweepsParameters(
            chosen="default", named={"default": {"grid": grid or {"training.epochs": [3]}}}
        ),
        FeatureParameters(size=size),
        AugmentationParameters(**(augmentation or {})),
        NetworkParameters(**network),
        TrainingParameters(),
    )


@pytest.fixture
def planned():
    """Profiles, asymmetries and classes of 30 galaxies, of which three are not used."""
    profiles, fits, asymmetry = tables(30, labels=([0, 0, 1] * 10))
    fits.loc[[4, 11, 25], "usable"] = False
    asymmetry["mid_velocity_error"] = 2.5
    return profiles, asymmetry, choose(profiles, fits, asymmetry)


def plan(planned, grid=None, **augmentation):
    return plan_copies(*planned, sweep_of(grid, augmentation=augmentation))


def test_every_galaxy_in_use_is_copied_as_often_as_asked_for(planned):
    profiles, _, classes = planned
    copies = plan(planned, n_copies=3)
    assert list(copies) == list(COPY_COLUMNS)
    used = set(profiles.loc[classes["used"], "id"])
    assert set(copies["id"]) == used == set(profiles["id"]) - {"g04", "g11", "g25"}
    assert (copies.groupby("id").size() == 3).all()
    assert (copies.groupby("id")["copy"].apply(sorted).map(tuple) == (1, 2, 3)).all()
    # Which split trains on a copy follows from its galaxy.
    assert (profiles["id"].to_numpy()[copies["profile"]] == copies["id"].to_numpy()).all()


def test_no_copies_is_an_empty_plan(planned):
    copies = plan(planned, n_copies=0)
    assert copies.empty
    assert list(copies) == list(COPY_COLUMNS)


def test_changes_are_as_large_as_asked_for(planned):
    copies = plan(planned, n_copies=40, min_snr_factor=0.5, fold_jitter=2.0)
    assert copies["exchanged"].mean() == pytest.approx(0.5, abs=0.06)
    assert copies["snr_factor"].between(0.5, 1).all()
    assert copies["snr_factor"].mean() == pytest.approx(0.75, abs=0.03)
    assert copies["fold_shift"].std() == pytest.approx(2 * 2.5, rel=0.1)
    assert copies["fold_shift"].mean() == pytest.approx(0, abs=0.5)
    plain = plan(planned, exchange_sides=False, min_snr_factor=1, fold_jitter=0)
    assert not plain["exchanged"].any()
    assert (plain["snr_factor"] == 1).all()
    assert (plain["fold_shift"] == 0).all()


def test_no_two_copies_are_changed_alike(planned):
    copies = plan(planned, n_copies=4)
    assert not copies.duplicated("snr_factor").any()
    assert not copies.duplicated("fold_shift").any()


def test_every_variant_has_copies_of_its_own(planned):
    grid = {"augmentation.n_copies": [0, 2, 3], "augmentation.fold_jitter": [0.0, 1.0]}
    copies = plan(planned, grid)
    counts = copies.groupby("variant", sort=False).size() / 27
    sweep = sweep_of(grid)
    assert sorted(counts) == [2, 2, 3, 3]  # without copies there is nothing to draw
    for variant, part in copies.groupby("variant"):
        options = sweep.variants[variant].augmentation
        assert len(part) == 27 * options.n_copies
        assert (part["fold_shift"] != 0).any() == (options.fold_jitter > 0)


def test_variants_that_differ_in_their_images_alone_have_the_same_copies(planned):
    copies = plan(planned, {"features.size": [8, 16]})
    one, two = (part.drop(columns="variant") for _, part in copies.groupby("variant"))
    pd.testing.assert_frame_equal(one.reset_index(drop=True), two.reset_index(drop=True))


def test_the_plan_is_the_same_every_time_and_follows_the_seed(planned):
    first = plan(planned)
    pd.testing.assert_frame_equal(first, plan(planned))
    assert (first["snr_factor"] != plan(planned, seed=1)["snr_factor"]).all()


def test_an_unknown_error_of_the_mid_velocity_moves_nothing(planned):
    profiles, asymmetry, classes = planned
    asymmetry.loc[[0, 1], "mid_velocity_error"] = [np.nan, np.inf]
    copies = plan((profiles, asymmetry, classes))
    still = copies["profile"].isin([0, 1])
    assert (copies.loc[still, "fold_shift"] == 0).all()
    assert (copies.loc[~still, "fold_shift"] != 0).all()


def test_nobody_in_use_gives_an_empty_plan(planned):
    profiles, asymmetry, classes = planned
    copies = plan((profiles, asymmetry, classes.assign(used=False)))
    assert copies.empty
    assert list(copies) == list(COPY_COLUMNS)


# --- images of the copies -------------------------------------------------------------------------


def lopsided(n, m):
    velocity = 1000 + 5.0 * np.arange(m)
    first, second = 1120 + 12 * np.arange(n)[:, None], 1200 + 5 * np.arange(n)[:, None]
    flux = np.exp(-(((velocity - first) / 40) ** 2))
    return flux + 0.6 * np.exp(-(((velocity - second) / 25) ** 2))


def copies_of(profile, **changes):
    same = {"copy": 1, "exchanged": False, "snr_factor": 1.0, "fold_shift": 0.0}
    return pd.DataFrame({"profile": profile} | same | changes)


@pytest.fixture
def observed():
    """Profiles, flux and fits of six lopsided lines."""
    rng = np.random.default_rng(0)
    n, m = 6, 96
    flux = lopsided(n, m) + rng.normal(0, 0.02, (n, m))
    profiles, fits, _ = tables(n, labels=[0, 1] * 3)
    profiles = profiles.assign(velocity_start=1000.0, channel_width=5.0, noise=0.02)
    fits = fits.assign(
        **dict.fromkeys(PARAMETER_NAMES, 1.0),
        low_edge=1050.0, high_edge=1240.0, w20=190.0, w50=170.0, peak_flux=1.0,
    )  # fmt: skip
    return profiles, flux, fits


def test_unchanged_copies_have_the_images_of_the_observed_profiles(observed):
    rows = [4, 1, 1, 0]
    copies = copies_of(rows, snr_factor=[1, 1, 0.6, 1], exchanged=[False, False, True, False])
    sweep = sweep_of(augmentation={"n_copies": 2})
    ((variant, member),) = sweep.variants.items()
    images = draw_images(*observed, sweep)[member.input_variant].compute()
    drawn = draw_augmented_images(*observed, copies.assign(variant=variant), sweep)
    assert list(drawn) == [variant]
    assert drawn[variant].shape == (4, 3, 16, 16, 1)
    values = drawn[variant].compute()
    np.testing.assert_array_equal(values[[0, 1, 3]], images[[4, 1, 0]])
    assert (values[2] != images[1]).any()


def test_each_variant_is_drawn_from_its_own_copies(observed):
    grid = {"features.size": [8, 16], "augmentation.n_copies": [0, 1, 2]}
    sweep = sweep_of(grid)
    profiles, flux, fits = observed
    classes = pd.DataFrame({"used": [True] * 6})
    copies = plan_copies(profiles, pd.DataFrame({"mid_velocity_error": [1.0] * 6}), classes, sweep)
    drawn = draw_augmented_images(profiles, flux, fits, copies, sweep)
    shapes = {
        variant: (6 * member.augmentation.n_copies, 3, *[member.features.size] * 2, 1)
        for variant, member in sweep.variants.items()
        if member.augmentation.n_copies
    }
    assert {variant: array.shape for variant, array in drawn.items()} == shapes
    for variant, array in drawn.items():
        part = copies[copies["variant"] == variant]
        assert len(part) == len(array)
        assert (np.abs(array.compute()).max((1, 2, 3, 4)) > 0).all()


def test_images_of_no_copies_are_none(observed):
    sweep = sweep_of(augmentation={"n_copies": 0})
    copies = pd.DataFrame(columns=list(COPY_COLUMNS))
    assert draw_augmented_images(*observed, copies, sweep) == {}


def test_the_plan_read_back_from_disk_gives_the_same_images(observed, planned, tmp_path):
    sweep = sweep_of(augmentation={"n_copies": 1})
    copies = plan_copies(*planned, sweep).query("profile < 6")
    copies.to_csv(tmp_path / "copies.csv", index=False)
    again = pd.read_csv(tmp_path / "copies.csv", dtype={"id": str})
    (one,), (two,) = (
        draw_augmented_images(*observed, table, sweep).values() for table in (copies, again)
    )
    np.testing.assert_array_equal(one.compute(), two.compute())


# --- simulated profiles to learn from -------------------------------------------------------------

PRETRAINED = {"training.start": ["scratch", "fine_tuned"]}


def pretraining_of(grid=PRETRAINED, simulation=None, size=8, **pretraining):
    sweep = sweep_of(grid, size=size)
    return simulate_pretraining_sample(
        PretrainingParameters(**({"n_profiles": 64} | pretraining)),
        SimulationParameters(**(simulation or {})),
        sweep,
    )


@pytest.fixture(scope="module")
def simulated():
    return pretraining_of({**PRETRAINED, "features.size": [8, 12]}, n_profiles=300)


def test_there_are_images_of_every_variant_and_a_row_of_targets_for_each(simulated):
    images, targets = simulated
    assert {name.partition("-")[0] for name in images} == {"8px", "12px"}
    assert 250 < len(targets) <= 300  # a few fits fail, as those of observed profiles do
    for name, array in images.items():
        size = int(name.partition("px")[0])
        assert array.shape == (len(targets), 3, size, size, 1)
        assert np.isfinite(array).all()
        assert (np.abs(array).max((1, 2, 3, 4)) > 0).all()
    assert targets.dtype == np.float32
    assert targets.shape[1] == 2 + 16


def test_targets_have_mean_zero_and_variance_one(simulated):
    _, targets = simulated
    np.testing.assert_allclose(targets.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(targets.std(axis=0), 1, rtol=1e-3)


def test_targets_are_what_the_images_show_without_noise():
    bright = {"snr_median": 300.0, "snr_scatter": 0.0}
    images, targets = pretraining_of(simulation=bright, size=16, n_profiles=200)
    fold = np.abs(next(iter(images.values()))[:, 1, 0, :, 0])  # along the radius
    seen = [np.corrcoef(fold[:, k], targets[:, 2 + k])[0, 1] for k in range(16)]
    assert min(seen) > 0.6
    assert min(seen[1:12]) > 0.85  # within the line, but for the pixel that cuts the corner
    assert np.corrcoef(np.log(fold.mean(axis=1) + 0.02), targets[:, 0])[0, 1] > 0.9


def test_nothing_is_simulated_where_nothing_is_pretrained():
    images, targets = pretraining_of({"training.start": ["scratch"]})
    assert images == {}
    assert targets.shape == (0, 0)


def test_the_same_seed_gives_the_same_simulated_profiles():
    (one,), targets = (lambda r: (r[0].values(), r[1]))(pretraining_of())
    (two,), again = (lambda r: (r[0].values(), r[1]))(pretraining_of())
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(targets, again)
    assert not np.array_equal(targets[:40], pretraining_of(seed=2)[1][:40])


@pytest.mark.parametrize("seed", [0, 1])
def test_no_profile_of_the_simulated_sample_is_among_them(seed, monkeypatch):
    from skyloom.pipelines.hi_profiles import augmentation
    from skyloom.pipelines.hi_profiles.simulation import simulate_truth

    seen = []

    def observe(truth, *arguments):
        seen.append(truth)
        return observe_lines(truth, *arguments)

    monkeypatch.setattr(augmentation, "observe_lines", observe)
    pretraining_of(simulation={"seed": seed, "n_profiles": 64}, seed=seed)
    sample, _ = simulate_truth(SimulationParameters(seed=seed, n_profiles=64))
    for name in ("channel_asymmetry", "w20", "velocity_start", "noise"):
        assert not set(sample[name]) & set(seen[0][name])


def test_profiles_are_drawn_from_the_distributions_of_the_simulated_sample(monkeypatch):
    from skyloom.pipelines.hi_profiles import augmentation

    seen = []

    def observe(truth, *arguments):
        seen.append(truth)
        return observe_lines(truth, *arguments)

    monkeypatch.setattr(augmentation, "observe_lines", observe)
    wanted = {"snr_median": 200.0, "snr_scatter": 0.1, "shape_shares": (1.0, 0.0, 0.0)}
    pretraining_of(simulation=wanted)
    assert set(seen[0]["shape"]) == {"single-peaked"}
    assert seen[0]["snr"].median() == pytest.approx(200, rel=0.1)
    assert len(seen[0]) == 64
