"""The split comes first, and nothing synthetic has seen more than its training part."""

import numpy as np
import pandas as pd
import pytest

from skyloom.evaluation.splits import check_no_leak
from skyloom.learning.splitting import training_ids
from skyloom.pipelines.radio_galaxies import augmentation
from skyloom.pipelines.radio_galaxies.augmentation import (
    draw_synthetic_images,
    make_angle_split,
    make_split,
    simulate_sources,
)
from skyloom.pipelines.radio_galaxies.features import class_names, measure_sample, prepare_images
from skyloom.pipelines.radio_galaxies.ingestion import configure_sweep
from skyloom.pipelines.radio_galaxies.parameters import (
    AugmentationParameters,
    FeatureParameters,
    IngestionParameters,
    NetworkParameters,
    SweepsParameters,
    SyntheticParameters,
    TrainingParameters,
)
from skyloom.simulate.radio_galaxies import CLASSES, draw_truth, fit_distributions, observe


def sample_of(n=120, roles=("",)):
    ids = [f"S{i:03d}" for i in range(n)]
    return pd.DataFrame(
        {
            "id": ids, "group": ids, "sha256": ids, "keep": True, "pixel_scale": 1.8,
            "class": np.array(CLASSES)[np.arange(n) % 4], "role": np.resize(np.repeat(roles, 4), n),
        }
    )  # fmt: skip


def sweep_of(arms, **sweep):
    named = {"arms": {"grid": {"augmentation.arm": arms}, **sweep}}
    return configure_sweep(
        SweepsParameters(chosen="arms", named=named), FeatureParameters(size=32, crop=64),
        AugmentationParameters(), NetworkParameters(), TrainingParameters(),
    )  # fmt: skip


PLAIN = sweep_of(["real"])


def roles_of(manifest):
    first = manifest[(manifest["seed"] == manifest["seed"].min()) & (manifest["fold"] == 0)]
    return first["role"].value_counts().to_dict()


def test_a_holdout_is_the_same_for_every_seed_and_stratified():
    manifest = make_split(sample_of(), PLAIN, AugmentationParameters(seeds=(3, 1)))
    check_no_leak(manifest, all_tested=False)
    assert roles_of(manifest) == {"train": 64, "test": 40, "validation": 16}
    one, other = (part.drop(columns="seed").to_numpy() for _, part in manifest.groupby("seed"))
    assert (one == other).all()
    shares = manifest[manifest["role"] == "test"].groupby("class").size()
    assert shares.max() - shares.min() <= 2


def test_folds_test_every_source_once():
    manifest = make_split(
        sample_of(), PLAIN, AugmentationParameters(split="folds", n_folds=4, seeds=(0,))
    )
    check_no_leak(manifest)
    tested = manifest[manifest["role"] == "test"]
    assert sorted(tested["id"]) == sorted(sample_of()["id"])


def test_another_split_seed_splits_otherwise():
    one, other = (
        make_split(sample_of(), PLAIN, AugmentationParameters(seeds=(0,), split_seed=seed))
        for seed in (0, 1)
    )
    assert set(one[one["role"] == "test"]["id"]) != set(other[other["role"] == "test"]["id"])


def two_catalogues():
    """One source is in both; compact ones are in the south only."""
    north = sample_of(120).assign(catalogue="north").query("`class` != 'compact'")
    south = sample_of(40).assign(catalogue="south")
    for name in ("id", "group", "sha256"):
        south[name] = "south" + south[name]
    south.loc[south.index[0], "group"] = north["group"].iloc[0]
    unknown = sample_of(8).assign(catalogue="", id="u", group="u", sha256="u")
    return pd.concat([north, south, unknown], ignore_index=True)


def across(tested, learnt=()):
    return sweep_of(["real"], test_catalogues=tested, train_catalogues=learnt)


def test_catalogues_are_tested_that_nothing_was_trained_on(caplog):
    sample = two_catalogues()
    manifest = make_split(sample, across(["south"]), AugmentationParameters(seeds=(0, 1)))
    check_no_leak(manifest, all_tested=False)
    catalogue = manifest["id"].map(sample.set_index("id")["catalogue"].groupby("id").first())
    assert ((catalogue == "south") == (manifest["role"] == "test")).all()
    assert set(catalogue) == {"north", "south"}
    assert "1 entries are of objects that are tested: not trained on" in caplog.text
    # Compact sources were only seen in the south: nobody could name them.
    assert "class compact has 0 sources to train on, 3 are needed: it is left out, 10" in (
        caplog.text
    )
    names = class_names(sample, manifest)
    assert names == ["FRI", "FRII", "bent"]
    by_id = sample.drop_duplicates("id").set_index("id")["class"]
    assert (manifest["class"].map(lambda k: names[k]) == manifest["id"].map(by_id)).all()


@pytest.mark.parametrize(
    ("tested", "learnt"),
    [(["east"], []), (["north", "south"], []), (["north"], ["north"]), (["north"], ["west"])],
)
def test_catalogues_must_be_there_and_leave_some(tested, learnt):
    message = r"test_catalogues and train_catalogues must be some of \['north', 'south'\]"
    with pytest.raises(ValueError, match=message):
        make_split(two_catalogues(), across(tested, learnt), AugmentationParameters())


def test_the_given_split_is_taken_as_it_is():
    sample = sample_of(roles=("train", "validation", "test"))
    manifest = make_split(sample, PLAIN, AugmentationParameters(split="given", seeds=(0, 1)))
    expected = sample.set_index("id")["role"]
    assert (manifest["role"] == manifest["id"].map(expected)).all()


def test_without_given_validation_sources_some_are_taken_from_the_training_part():
    sample = sample_of(roles=("train", "train", "test"))
    manifest = make_split(
        sample, PLAIN, AugmentationParameters(split="given", validation_share=0.25, seeds=(0,))
    )
    before = sample.set_index("id")["role"]
    test = manifest[manifest["role"] == "test"]["id"]
    assert set(test) == set(before[before == "test"].index)
    assert roles_of(manifest)["validation"] == pytest.approx(20, abs=2)


@pytest.mark.parametrize(
    ("roles", "message"),
    [(("",), "120 objects have no role, such as 'S000'"), (("train",), r"has the role \['test'\]")],
)
def test_a_given_split_that_is_not_there_is_an_error(roles, message):
    with pytest.raises(ValueError, match=message):
        make_split(sample_of(roles=roles), PLAIN, AugmentationParameters(split="given"))


def test_sources_that_are_not_kept_or_have_no_class_are_not_split():
    sample = sample_of()
    sample.loc[:3, "keep"] = False
    sample.loc[4:7, "class"] = ""
    manifest = make_split(sample, PLAIN, AugmentationParameters(seeds=(0,)))
    assert set(manifest["id"]) == set(sample["id"].iloc[8:])


def test_classes_are_numbered_in_the_order_of_their_names_without_gaps():
    sample = sample_of()
    sample = sample[sample["class"] != "FRII"].reset_index(drop=True)
    manifest = make_split(sample, PLAIN, AugmentationParameters(seeds=(0,)))
    names = class_names(sample, manifest)
    assert names == ["FRI", "bent", "compact"]
    by_id = sample.set_index("id")["class"]
    assert (manifest["class"].map(lambda k: names[k]) == manifest["id"].map(by_id)).all()


def test_too_few_sources_give_an_empty_split_and_a_warning_that_names_the_class(caplog):
    sample = sample_of(60)
    sample = sample[(sample["class"] != "compact") | (sample.index < 8)].reset_index(drop=True)
    assert make_split(sample, PLAIN, AugmentationParameters()).empty
    assert "class compact has 2 sources, 3 are needed" in caplog.text


def test_one_class_alone_is_nothing_to_classify(caplog):
    sample = sample_of().assign(**{"class": "bent"})
    assert make_split(sample, PLAIN, AugmentationParameters()).empty
    assert "all sources are of the class bent: nothing to classify" in caplog.text
    given = sample_of(roles=("train", "validation", "test")).assign(**{"class": "bent"})
    assert make_split(given, PLAIN, AugmentationParameters(split="given")).empty


def test_a_given_training_part_with_too_few_of_a_class_is_said(caplog):
    sample = sample_of(roles=("train", "test"))
    rare = (sample["class"] == "compact") & (sample["role"] == "train")
    sample = sample[~rare | (rare.cumsum() <= 2)].reset_index(drop=True)
    assert make_split(sample, PLAIN, AugmentationParameters(split="given")).empty
    assert "fewer than 3 objects of a class" in caplog.text


def test_auto_takes_the_given_split_where_there_is_one():
    auto = AugmentationParameters(split="auto", seeds=(0,))
    given = sample_of(roles=("train", "validation", "test"))
    manifest = make_split(given, PLAIN, auto)
    assert (manifest["role"] == manifest["id"].map(given.set_index("id")["role"])).all()
    assert roles_of(make_split(sample_of(), PLAIN, auto)) == {
        "train": 64,
        "test": 40,
        "validation": 16,
    }


# --- the split of the bending angles --------------------------------------------------------------


def with_angles(sample, known):
    rng = np.random.default_rng(5)
    return sample.assign(bending_angle=np.where(known, rng.exponential(20, len(sample)), np.nan))


def test_angles_have_the_split_of_the_classes_where_that_has_all_of_them():
    sample = with_angles(sample_of(), sample_of()["class"] == "bent")
    options = AugmentationParameters(seeds=(0,))
    manifest = make_split(sample, PLAIN, options)
    pd.testing.assert_frame_equal(make_angle_split(sample, manifest, options), manifest)


@pytest.mark.parametrize("split", ["holdout", "folds"])
def test_angles_without_classes_have_a_split_of_their_own(split):
    sample = with_angles(sample_of().assign(**{"class": ""}), True)
    options = AugmentationParameters(split=split, n_folds=3, seeds=(0, 1))
    manifest = make_split(sample, PLAIN, options)
    assert manifest.empty
    own = make_angle_split(sample, manifest, options)
    assert set(own["id"]) == set(sample["id"])
    tested = own[(own["role"] == "test") & (own["seed"] == 0)]
    assert tested["id"].is_unique
    if split == "folds":
        assert set(tested["id"]) == set(sample["id"])
    sizes = own[(own["seed"] == 0) & (own["fold"] == 0)]["role"].value_counts()
    assert sizes.to_dict() == {"train": 64, "test": 40, "validation": 16}
    # Small and large angles are on every side.
    angle = sample.set_index("id")["bending_angle"]
    large = own["id"].map(angle > angle.median())
    shares = large.groupby([own["fold"], own["role"]]).mean()
    assert shares.between(0.4, 0.6).all()


@pytest.mark.parametrize("split", ["holdout", "folds", "auto", "given"])
def test_a_few_angles_without_classes_are_added_to_the_split_of_the_classes(split):
    sample = (
        sample_of(roles=("train", "train", "test")) if split in ("auto", "given") else sample_of()
    )
    sample = with_angles(sample, sample.index < 12)
    unclassified = sample.index % 10 == 0
    sample.loc[unclassified, ["class", "role"]] = ""  # nobody has given them a role either
    sample.loc[unclassified, "bending_angle"] = 20.0
    options = AugmentationParameters(split=split, n_folds=4, seeds=(0, 1))
    manifest = make_split(sample[~unclassified] if split == "given" else sample, PLAIN, options)
    whole = make_angle_split(sample, manifest, options)
    pd.testing.assert_frame_equal(whole[: len(manifest)], manifest)
    added = whole[len(manifest) :]
    assert set(added["id"]) == set(sample.loc[unclassified, "id"])
    assert (added["class"] == -1).all()
    assert set(added["fold"]) == set(manifest["fold"])
    assert (added.groupby("fold")["role"].nunique() == 3).all()


def test_a_given_role_is_kept_and_a_missing_part_is_said(caplog):
    sample = with_angles(sample_of(12).assign(**{"class": ""}, role="train"), True)
    options = AugmentationParameters(split="given", seeds=(0,))
    own = make_angle_split(sample, make_split(sample, PLAIN, options), options)
    assert set(own["role"]) == {"train"}
    assert "no source is in the part test or validation" in caplog.text


def test_twins_of_a_classified_source_are_on_its_side():
    sample = with_angles(sample_of(), False)
    twin = sample.iloc[[5]].assign(id="twin", **{"class": ""}, bending_angle=30.0)
    sample = pd.concat([sample, twin], ignore_index=True)
    for seed in range(5):
        options = AugmentationParameters(seeds=(0,), split_seed=seed)
        manifest = make_split(sample, PLAIN, options)
        whole = make_angle_split(sample, manifest, options).set_index("id")
        assert whole.loc["twin", "role"] == whole.loc[sample["id"][5], "role"]


def test_simulations_for_angles_alone_are_like_their_training_part(observed):
    sample, _, measurements = observed
    sample = with_angles(sample, sample["class"] != "compact").assign(**{"class": ""})
    options = AugmentationParameters(seeds=(0,))
    manifest = make_split(sample, PLAIN, options)
    own = make_angle_split(sample, manifest, options)
    sweep = sweep_of(["real"], bending=True)
    sources, cutouts = simulate_sources(
        sample, measurements, manifest, own, sweep, SyntheticParameters(n_images=60),
        FeatureParameters(), IngestionParameters(size=120),
    )  # fmt: skip
    assert list(cutouts) == ["fold_0"]
    assert (sources["n_fitted"] > 50).all()
    extended = sources["class"] != "compact"
    length = sources.loc[extended, ["length_1", "length_2"]].mean(axis=1)
    assert length.median() == pytest.approx(45, rel=0.25)
    images, synthetic = draw_synthetic_images(
        sample, manifest, sources, {"fold_0": lambda: cutouts["fold_0"]}, {}, sweep,
        SyntheticParameters(),
    )  # fmt: skip
    assert len(images) == 1
    np.testing.assert_allclose(synthetic["bending_angle"], sources["bending_angle"].where(extended))


# --- simulated sources ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def observed():
    """A sample whose sources are twice as long as the simulation's usual ones."""
    rng = np.random.default_rng(0)
    truth = draw_truth(160, rng, length_median=45.0, neighbour_rate=0, snr_median=120)
    cutouts = observe(truth, rng, size=120)
    sample = sample_of(160).assign(**{"class": truth["class"]})
    return sample, cutouts, measure_sample(sample, cutouts, FeatureParameters())


def test_a_regressor_sees_all_angles_whatever_is_classified(observed):
    sample, _, measurements = observed
    straight = sample["class"].isin(["FRI", "FRII"])
    sample = with_angles(sample.assign(keep=straight), straight)
    manifest = make_split(sample, PLAIN, AugmentationParameters(seeds=(0,)))
    sources, cutouts = simulate_sources(
        sample, measurements, manifest, manifest, sweep_of(["real", "geometric"], bending=True),
        SyntheticParameters(n_images=60, fit=False), FeatureParameters(),
        IngestionParameters(size=120),
    )  # fmt: skip
    assert sources["bending_angle"].max() > 35
    _, synthetic = draw_synthetic_images(
        sample, manifest, sources, {"fold_0": lambda: cutouts["fold_0"]}, {},
        sweep_of(["real", "geometric"], bending=True), SyntheticParameters(),
    )  # fmt: skip
    own = sources["class"].map({"FRI": 0, "FRII": 1}).fillna(-1)
    assert synthetic["class"].tolist() == own.tolist()


def simulated(observed, arms, changes=None, synthetic=None):
    sample, _, measurements = observed
    manifest = make_split(sample, PLAIN, AugmentationParameters(seeds=(0,)))
    if changes is not None:
        measurements = changes(measurements, manifest)
    parameters = SyntheticParameters(n_images=60, **(synthetic or {}))
    return simulate_sources(
        sample,
        measurements,
        manifest,
        manifest,
        sweep_of(arms),
        parameters,
        FeatureParameters(),
        IngestionParameters(size=120),
    )


def test_simulated_sources_are_like_those_of_the_training_part(observed):
    sources, cutouts = simulated(observed, ["real", "geometric"])
    assert list(cutouts) == ["fold_0"]
    assert cutouts["fold_0"].shape == (60, 120, 120)
    assert sources["n_fitted"].iloc[0] >= 30
    # A quarter is compact, and is no part of what was fitted.
    assert (sources["class"] == "compact").mean() == 0.25
    extended = sources[sources["class"] != "compact"]
    length = np.log((extended["length_1"] + extended["length_2"]) / 2)
    assert length.median() == pytest.approx(np.log(45), abs=0.2)
    assert 0.25 < length.std() < 0.7  # of 0.4
    width = np.log(extended["width_outer"])
    assert width.median() == pytest.approx(np.log(2.5), abs=0.25)


def test_what_is_tested_changes_no_simulation(observed, monkeypatch):
    monkeypatch.setitem(fit_distributions.__kwdefaults__, "n_simulated", 100)

    def spoil_test_sources(measurements, manifest):
        test = manifest.loc[manifest["role"] != "train", "id"]
        spoilt = measurements.copy()
        rows = spoilt["id"].isin(test)
        spoilt.loc[rows, ["major", "minor", "length_1", "snr"]] *= 10
        return spoilt

    before, images = simulated(observed, ["geometric"])
    after, same = simulated(observed, ["geometric"], spoil_test_sources)
    pd.testing.assert_frame_equal(before, after)
    np.testing.assert_array_equal(images["fold_0"], same["fold_0"])


def test_nothing_is_simulated_where_nobody_trains_on_it(observed):
    sources, cutouts = simulated(observed, ["real", "real + vae"])
    assert cutouts == {}
    assert sources.empty


def test_training_ids_are_those_of_one_fold():
    manifest = make_split(sample_of(), PLAIN, AugmentationParameters(split="folds", seeds=(0, 1)))
    known = training_ids(manifest, 2)
    test = manifest[(manifest["fold"] == 2) & (manifest["role"] == "test")]["id"]
    assert not set(known["id"]) & set(test)
    assert known["id"].is_unique


GOOD = {
    "history": np.ones((2, 3)), "brightness": 0.9, "diversity": 0.8, "histogram_error": 0.4,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, ""),
        ({"history": np.array([[1, np.nan, 1]])}, "diverged"),
        ({"brightness": 0.05}, "makes dark images"),
        ({"diversity": 0.01}, "collapsed: its images are all alike"),
        ({"diversity": np.nan}, "collapsed: its images are all alike"),
        ({"histogram_error": 1.3}, "makes no sources"),
    ],
)
def test_a_generator_that_has_gone_wrong_is_found_out(changes, verdict):
    found = augmentation._verdict(GOOD | changes)
    assert found.startswith(verdict) if verdict else found == ""


# --- preparation ----------------------------------------------------------------------------------


def test_prepared_images_run_from_0_to_1_and_hide_the_noise(observed):
    _, cutouts, _ = observed
    images = prepare_images(cutouts, FeatureParameters(size=40, crop=100))
    assert images.shape == (160, 40, 40, 1)
    np.testing.assert_allclose(images.max(axis=(1, 2, 3)), 1)
    assert np.median(images) == 0
    raw = prepare_images(cutouts, FeatureParameters(size=40, crop=100, clip=False))
    assert np.median(raw) > 0


def test_prepared_images_do_not_depend_on_their_neighbours(observed):
    _, cutouts, _ = observed
    together = prepare_images(cutouts, FeatureParameters(size=32))
    alone = prepare_images(cutouts[150:151], FeatureParameters(size=32))
    np.testing.assert_array_equal(together[150:151], alone)


def test_measured_lengths_are_in_arcsec_of_their_own_image(observed):
    sample, cutouts, measurements = observed
    finer = measure_sample(sample.assign(pixel_scale=0.9), cutouts, FeatureParameters())
    np.testing.assert_allclose(finer["major"], measurements["major"] / 2)
    np.testing.assert_allclose(finer["bending_angle"], measurements["bending_angle"])
