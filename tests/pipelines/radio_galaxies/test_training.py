"""What a fit is given, and how bending angles are learnt."""

import numpy as np
import pandas as pd
import pytest

from skyloom.compute import ClusterParameters
from skyloom.learning.generative import maker_with
from skyloom.learning.results import NESTED
from skyloom.learning.tasks import ResultStore, imported_modules
from skyloom.pipelines.radio_galaxies import fitting
from skyloom.pipelines.radio_galaxies.fitting import (
    ANGLE_SCALE,
    ANGLES,
    fit_angle_task,
    fit_settings,
    fit_task,
    train_generator_task,
    training_data,
)
from skyloom.pipelines.radio_galaxies.parameters import (
    AugmentationParameters,
    BendingParameters,
    Configuration,
    FeatureParameters,
    NetworkParameters,
    ReportingParameters,
    Sweep,
    SweepParameters,
    TrainingParameters,
)
from skyloom.pipelines.radio_galaxies.reporting import score_bending_angles
from skyloom.pipelines.radio_galaxies.training import (
    angle_child,
    angle_manifest,
    fit_bending_angles,
)

SIZE = 16
RNG = np.random.default_rng(0)
CLASSES = np.arange(40, dtype=np.int32) % 2


def pictures():
    """Upright and round sources; each image is known by its brightest pixel."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    width = np.where(CLASSES == 0, 1.0, 4.0)[:, None, None]
    images = np.exp(-(x**2 / 2 + y**2 / (2 * width**2)))
    return (images * np.linspace(0.5, 1, 40)[:, None, None])[..., None].astype(np.float32)


IMAGES = pictures()
POOL = {
    "images": np.zeros((30, SIZE, SIZE, 1), np.float32),
    "class": np.arange(30) % 2.0,
    "angle": np.where(np.arange(30) < 20, np.arange(30) / ANGLE_SCALE, np.nan),
}


def configuration(arm="real", **changes):
    sections = {
        "features": {"size": SIZE, "crop": 32},
        "augmentation": {"arm": arm},
        "network": {"widths": (4, 8), "dense": 8, "dropout": 0.0},
        "training": {"epochs": 2, "steps_per_epoch": 3, "batch_size": 8},
    }
    for key, value in changes.items():
        section, _, field = key.partition("__")
        sections[section][field] = value
    return Configuration(
        name="a",
        features=FeatureParameters(**sections["features"]),
        augmentation=AugmentationParameters(**sections["augmentation"]),
        network=NetworkParameters(**sections["network"]),
        training=TrainingParameters(**sections["training"]),
    )


def given(arm="real", n_outputs=2, **changes):
    settings = fit_settings([configuration(arm, **changes)], 0, 1, n_outputs=n_outputs)
    shared = {settings["images"]: IMAGES}
    if settings["synthetic"]:
        shared[settings["synthetic"]] = POOL
    return settings, shared


def data(arm, targets=CLASSES, **changes):
    settings, shared = given(arm, **changes)
    return training_data(settings, shared, np.arange(40), targets)


def n_dark(images):
    return int((images.max(axis=(1, 2, 3)) == 0).sum())  # the synthetic ones


@pytest.mark.parametrize(
    ("arm", "ratio", "n_real", "n_synthetic"),
    [
        ("real", 1.0, 40, 0),
        ("real + geometric", 0.5, 40, 20),
        ("real + vae", 5.0, 40, 200),  # more than there are: they come more than once
        ("geometric", 0.5, 0, 30),
    ],
)
def test_arms_are_trained_on_what_their_name_says(arm, ratio, n_real, n_synthetic):
    images, targets = data(arm, augmentation__synthetic_ratio=ratio)
    assert len(images) == len(targets) == n_real + n_synthetic
    assert n_dark(images) == n_synthetic
    np.testing.assert_array_equal(targets[:n_real], CLASSES[:n_real])
    assert targets.dtype == np.int32


def test_copies_have_the_class_of_their_source():
    images, targets = data("real", augmentation__n_copies=2)
    assert len(images) == 120
    np.testing.assert_array_equal(targets, np.tile(CLASSES, 3))
    light = images.sum(axis=(1, 2, 3)).reshape(3, 40)
    assert not np.array_equal(images[:40], images[40:80])
    np.testing.assert_allclose(light[1], light[0], rtol=0.2)


def test_synthetic_images_are_copied_as_observed_ones_are():
    images, targets = data("real + geometric", augmentation__n_copies=2)
    assert len(images) == len(targets) == 240
    assert n_dark(images) == 120


def test_a_share_of_the_observed_images_leaves_the_number_of_synthetic_ones():
    images, _ = data("real + geometric", augmentation__real_share=0.25)
    assert (len(images), n_dark(images)) == (50, 40)


def test_synthetic_images_without_an_angle_teach_none():
    targets = np.linspace(0, 1, 40).astype(np.float32)
    images, angles = data("geometric", targets)
    assert len(images) == 20
    np.testing.assert_allclose(angles * ANGLE_SCALE, np.arange(20), rtol=1e-5)


def test_a_share_is_drawn_again_as_it_was():
    one, other = (data("real", augmentation__real_share=0.5)[0] for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert len(one) == 20


def arrays(**more):
    rows = {"train": np.arange(24), "validation": np.arange(24, 32), "test": np.arange(32, 40)}
    return rows | {
        "train_targets": CLASSES[:24], "validation_targets": CLASSES[24:32]
    } | more  # fmt: skip


def test_every_arm_makes_the_same_number_of_steps_and_learns():
    settings, shared = given(training__epochs=8, training__steps_per_epoch=8)
    result = fit_task(settings, arrays(), shared, threads=1)
    assert result["history"].shape == (8, 4)
    assert result["lengths"].tolist() == [8]
    predicted = result["test_prediction"][0].argmax(axis=1)
    assert (predicted == CLASSES[32:]).mean() >= 0.75
    again = fit_task(settings, arrays(), shared, threads=1)
    np.testing.assert_array_equal(result["test_prediction"], again["test_prediction"])
    # The best epoch is kept, and yet all are trained.
    assert result["best_epoch"][0] == np.argmin(result["history"][:, 2]) + 1


def test_predictions_of_a_sweep_are_means_over_orientations_where_that_is_asked_for():
    settings, shared = given(training__epochs=1, augmentation__average_orientations=True)
    upright = fit_task(settings, arrays(), shared, threads=1)
    shared = {name: np.concatenate([images[:32], np.rot90(images[32:], 1, (1, 2))])
              for name, images in shared.items()}  # fmt: skip
    turned = fit_task(settings, arrays(), shared, threads=1)
    assert upright["test_prediction"].shape == (1, 8, 2)
    np.testing.assert_allclose(upright["test_prediction"], turned["test_prediction"], atol=1e-6)
    settings["average_orientations"] = False
    alone = fit_task(settings, arrays(), shared, threads=1)
    assert np.abs(alone["test_prediction"] - turned["test_prediction"]).max() > 1e-4


def test_arms_of_different_size_make_the_same_number_of_gradient_steps():
    from skyloom.pipelines.radio_galaxies.fitting import fit_network

    for arm in ("real", "real + vae", "geometric"):
        settings, shared = given(arm, augmentation__synthetic_ratio=3.0)
        images = training_data(settings, shared, np.arange(40), CLASSES)
        model, _, _ = fit_network(settings, shared, images, (IMAGES, CLASSES))
        assert int(model.optimizer.iterations) == 2 * 3, arm


def test_the_last_weights_are_kept_where_they_are_asked_for():
    settings, shared = given(training__keep="last")
    assert fit_task(settings, arrays(), shared, threads=1)["best_epoch"].tolist() == [2]


TRUTH = 60.0 * CLASSES


def angles_of(settings, shared, **more):
    rows = {"train": np.arange(24), "validation": np.arange(24, 32), "test": np.arange(32, 40)}
    rows |= more
    targets = {f"{role}_targets": ANGLES.target(TRUTH[rows[role]]) for role in list(rows)[:2]}
    return fit_angle_task(settings, rows | targets, shared, threads=1)


def test_angles_are_learnt_in_degrees_and_say_how_they_change_by_turning():
    settings, shared = given(n_outputs=1, training__epochs=25, training__steps_per_epoch=8)
    result = angles_of(settings, shared)
    assert result["test_prediction"].shape == (1, 8, 8)
    table = ANGLES.table(TRUTH[32:], result["test_prediction"][0])
    assert ANGLES.score(table) > -15  # the mean would be 30 off
    assert table["scatter"].mean() < 15
    assert table["predicted"].between(0, 180).all()
    assert result["history"].shape == (25, 4)
    assert result["history"][-1, 3] == pytest.approx(
        result["history"][-1, 2] ** 0.5, rel=1.0
    )  # both in degrees


def test_a_fit_runs_no_code_that_is_not_in_its_key(code_of):
    rows = {"train": np.arange(24), "validation": np.arange(24, 32), "test": np.arange(32, 40)}
    for task, n_outputs, targets in ((fit_task, 2, CLASSES), (fit_angle_task, 1, TRUTH / 90)):
        settings, shared = given("real + geometric", n_outputs, network__widths=(5,))
        told = {f"{role}_targets": targets[rows[role]] for role in ("train", "validation")}
        modules = code_of(task, settings, rows | told, shared)
        assert "skyloom.nets.alhassan" in modules
        assert modules <= imported_modules(fitting.__name__)


def test_without_observed_angles_some_synthetic_ones_stop_the_training():
    settings, shared = given("geometric", n_outputs=1)
    none = {"train": np.arange(0), "validation": np.arange(0)}
    result = angles_of(settings, shared, **none)
    assert np.isfinite(result["history"]).all()


def test_sources_without_an_angle_are_predicted_once_a_seed_and_learnt_from_never():
    n = 24
    ids = [f"S{i:02d}" for i in range(n)]
    sample = pd.DataFrame(
        {"id": ids, "group": ids, "sha256": ids, "keep": np.arange(n) != 5,
         "class": np.where(np.arange(n) % 4 == 3, "compact", "bent"),
         "bending_angle": np.where(np.arange(n) < 12, 30.0, np.nan)}
    )  # fmt: skip
    sample.loc[sample["class"] == "compact", "bending_angle"] = np.nan
    roles = np.resize(["train", "validation", "test"], n)
    split = pd.concat(
        sample[["id", "group", "sha256"]].assign(
            seed=seed, fold=fold, inner=0, role=np.roll(roles, fold), **{"class": 0}
        )
        for seed in (0, 1)
        for fold in (0, 1, 2)
    )
    manifest = angle_manifest(sample, split)
    known = sample.set_index("id")["bending_angle"].notna()
    others = manifest[~manifest["id"].map(known)]
    wanted = sample["keep"] & (sample["class"] != "compact") & (np.arange(n) >= 12)
    assert set(others["id"]) == set(sample.loc[wanted, "id"])
    assert (others.groupby(["seed", "id"]).size() == 1).all()
    assert set(others["role"]) == {"test"}
    assert others["fold"].nunique() == 3
    measured = manifest[manifest["id"].map(known)]
    assert set(measured["id"]) == set(
        sample.loc[sample["bending_angle"].notna() & sample["keep"], "id"]
    )


def test_where_nobody_has_measured_an_angle_simulated_ones_teach_it_and_nothing_is_scored(tmp_path):
    ids = np.array([f"S{number:02d}" for number in range(40)])
    sample = pd.DataFrame(
        {"id": ids, "group": ids, "sha256": ids, "keep": True, "class": "bent",
         "bending_angle": np.nan}
    )  # fmt: skip
    split = sample[["id", "group", "sha256"]].assign(
        seed=0, fold=0, inner=0, role=np.resize(["train", "validation", "test"], 40), **{"class": 0}
    )
    measured = sample[["id"]].assign(bending_angle=np.linspace(0, 90, 40))
    base = configuration()
    sweep = Sweep.lay_out(SweepParameters(grid={"augmentation.arm": ["real"]}, bending=True), base)
    pool = fit_settings([configuration("geometric")], 0, 0, n_outputs=1)["synthetic"]
    made = pd.DataFrame(
        {"pool": pool, "class": POOL["class"], "bending_angle": POOL["angle"] * ANGLE_SCALE}
    )
    predictions, baselines, inner, curves, outcome, networks = fit_bending_angles(
        sample, split, measured, {base.input_variant: lambda: IMAGES},
        {pool: lambda: POOL["images"]}, made, sweep, ResultStore(tmp_path),
        BendingParameters(epochs=1, steps_per_epoch=1), ClusterParameters(n_workers=0),
    )  # fmt: skip
    assert outcome["failed"] == {}
    assert outcome["chosen"]["augmentation"]["arm"] == "geometric"  # the others need observed ones
    assert set(predictions["id"]) == set(ids)
    assert predictions["target"].isna().all()
    assert predictions["predicted"].between(0, 180).all()
    assert curves["epoch"].tolist() == [1]
    assert len(inner) == len(networks) == 1
    scores, angles, unmeasured = score_bending_angles(
        predictions, baselines, inner, sample, ReportingParameters(seed=0)
    )
    assert set(angles["configuration"]) >= {"geometric", NESTED}
    assert scores["mae"].isna().all()
    assert set(unmeasured["id"]) == set(ids)


def test_a_run_of_the_angles_has_no_workbook_of_the_classes():
    child = {"name": NESTED, "file": "nested", "params": {}, "metrics": {}, "curves": {}}
    told = angle_child(child)
    assert told["name"] == f"bending angle: {NESTED}"
    assert told["file"] not in (child["file"], "")
    assert "bending" in told["file"]


# --- generators -----------------------------------------------------------------------------------


def generator_settings(kind="vae", **changes):
    return {
        "kind": kind, "n_classes": 2, "size": SIZE, "latent": 4, "width": 16,
        "learning_rate": 2e-3, "kl_weight": 1.0, "batch_size": 8, "rotate": False, "seed": 0,
        "images": "all", "first": 0, "last": 1,
    } | changes  # fmt: skip


def trained(state=None, **changes):
    known = {"classes": CLASSES} | (state or {})
    return train_generator_task(generator_settings(**changes), known, {"all": IMAGES}, threads=1)


@pytest.mark.parametrize("kind", ["dcgan", "vae"])
def test_pieces_of_a_training_are_the_training(kind):
    whole = trained(kind=kind, last=2)
    first = trained(kind=kind)
    state = {key: value for key, value in first.items() if key.startswith("state_")}
    second = trained(state, kind=kind, first=1, last=2)
    np.testing.assert_allclose(
        np.concatenate([first["history"], second["history"]]), whole["history"], rtol=1e-4
    )
    np.testing.assert_allclose(second["frame"], whole["frame"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["dcgan", "vae"])
def test_a_generator_runs_no_code_that_is_not_in_its_key(code_of, kind):
    arguments = (
        generator_settings(kind=kind, width=24),
        {"classes": CLASSES},
        {"all": IMAGES},
    )  # compiled anew
    modules = code_of(train_generator_task, *arguments)
    assert f"skyloom.nets.{kind}" in modules
    assert modules <= imported_modules(fitting.__name__)


def test_a_network_from_a_checkpoint_makes_the_images_of_the_checkpoint():
    from skyloom.learning.fitting import unpack
    from skyloom.learning.generative import make_images

    result = trained(last=2)
    network = maker_with(generator_settings(), unpack(result, "state"))
    rng = np.random.default_rng([0, 3])
    labels = np.sort(rng.choice(CLASSES, 256))
    make_images(network, labels, rng)
    frame = make_images(network, np.arange(32) // 16, rng)[..., 0]
    np.testing.assert_allclose(frame, result["frame"], atol=1e-6)


def test_a_checkpoint_is_judged_by_its_likeness_and_diversity():
    early, late = trained(last=1), trained(last=60)
    assert late["histogram_error"] < early["histogram_error"]
    assert 0.3 < late["diversity"] < 3
    assert 0.3 < late["brightness"] <= 1
