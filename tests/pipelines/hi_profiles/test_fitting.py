"""One fit, and what it is given, on toy images with a strong signal."""

import numpy as np
import pytest

from skyloom.images.rings import render_rings
from skyloom.learning.tasks import imported_modules
from skyloom.pipelines.hi_profiles import fitting
from skyloom.pipelines.hi_profiles.fitting import (
    build_network,
    fit_settings,
    fit_task,
    network_input,
    training_data,
)
from skyloom.pipelines.hi_profiles.parameters import Configuration, NetworkParameters

# --- input ----------------------------------------------------------------------------------------


def images_of(n, size=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3, size, size, 1)).astype(np.float32)


def test_models_are_stacked_as_channels_in_the_given_order():
    images = images_of(5)
    network = NetworkParameters(image_models=(3, 1), input_scale=2.0)
    stacked = network_input(images, np.array([3, 0]), network)
    assert stacked.shape == (2, 4, 4, 2)
    assert stacked.dtype == np.float32
    np.testing.assert_array_equal(stacked[..., 0], 2 * images[[3, 0], 2, :, :, 0])
    np.testing.assert_array_equal(stacked[..., 1], 2 * images[[3, 0], 0, :, :, 0])


def test_eight_bit_colours_are_divided_by_255_and_not_scaled():
    images = np.zeros((2, 3, 4, 4, 3), np.uint8)
    images[1, 1] = [255, 51, 0]
    picked = network_input(images, np.array([1]), NetworkParameters())
    assert picked.dtype == np.float32
    np.testing.assert_allclose(picked[0, 0, 0], [1, 0.2, 0])
    both = NetworkParameters(image_models=(1, 2))
    assert network_input(images, np.array([0, 1]), both).shape == (2, 4, 4, 6)


def test_memory_mapped_images_are_read_and_not_changed(tmp_path):
    images = images_of(4, 2)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    picked = network_input(mapped, np.array([2, 2]), NetworkParameters(input_scale=1.0))
    picked += 1
    np.testing.assert_array_equal(mapped, images)


def rings(size, *, quadrant):
    """Corrected images of lopsided lines."""
    rng = np.random.default_rng(0)
    flux = rng.normal(size=(3, 96)).cumsum(axis=1)
    one = np.ones(3)
    return render_rings(flux, 0 * one, one, 47 * one, 40 * one, size=size, quadrant=quadrant)[
        ..., None
    ]


FOLDED = NetworkParameters(architecture="folded_cnn", image_models=(2, 1), input_scale=1.0)


def test_the_folded_network_sees_the_image_along_its_radius():
    images = rings(16, quadrant=True)
    seen = network_input(images, np.array([2, 0]), FOLDED)
    assert seen.shape == (2, 16, 2)
    np.testing.assert_array_equal(seen[:, :, 0], images[[2, 0], 1, 0, :, 0])
    np.testing.assert_array_equal(seen[:, :, 1], images[[2, 0], 0, 0, :, 0])


def test_the_folded_network_sees_the_same_of_a_whole_image_as_of_its_quadrant():
    whole = network_input(rings(32, quadrant=False), np.arange(3), FOLDED, quadrant=False)
    quadrant = network_input(rings(16, quadrant=True), np.arange(3), FOLDED)
    assert whole.shape == quadrant.shape
    np.testing.assert_allclose(whole, quadrant, atol=1e-5)


def test_the_folded_network_sees_the_colours_along_the_radius_of_a_published_picture():
    images = np.random.default_rng(0).integers(0, 255, (2, 3, 8, 8, 3), dtype=np.uint8)
    seen = network_input(images, np.array([1]), FOLDED, quadrant=False)
    assert seen.shape == (1, 4, 6)
    np.testing.assert_allclose(seen[0, :, :3], images[1, 1, 4, 4:] / 255, rtol=1e-6)


# --- a fit ----------------------------------------------------------------------------------------


def base_of(**sections):
    """A tiny network on images of 8 pixels; `sections` change its settings."""
    given = {
        "features": {"size": 8},
        "augmentation": {"n_copies": 0},
        "network": {"widths": [4]},
        "training": {
            "epochs": 8, "batch_size": 4, "min_epochs": 4, "patience": 3, "learning_rate": 5e-3,
        },
    }  # fmt: skip
    given = {name: values | sections.get(name, {}) for name, values in given.items()}
    return Configuration(name="base", **given)


def toy_images(truth, seed=0):
    """Images whose first rows, in model 2 only, are bright for class 1."""
    images = np.random.default_rng(seed).normal(0, 0.1, (len(truth), 3, 8, 8, 1))
    images[truth == 1, 1, :4, 2:6] += 1
    return images.astype(np.float32)


def task_of(base, epochs=(4,), seed=5, n=24):
    """Settings, arrays and shared inputs of one fit."""
    family = [base.changed("one", {"training.epochs": length}) for length in epochs]
    settings = fit_settings(family, 0, seed, n_classes=2)
    truth = np.arange(n) % 2
    shared = {settings["images"]: toy_images(truth)}
    if settings["copies"]:
        profile = np.repeat(np.arange(n), base.augmentation.n_copies)
        copies = {"images": toy_images(truth[profile], seed=1), "profile": profile}
        shared[settings["copies"]] = copies
    rows = {"train": np.arange(0, n - 10), "validation": np.arange(n - 10, n - 4)}
    rows["test"] = np.arange(n - 4, n)
    targets = {f"{k}_targets": truth[v].astype(np.int32) for k, v in rows.items() if k != "test"}
    return settings, rows | targets, shared


def test_the_code_of_a_fit_is_that_of_its_networks_and_of_its_training_and_of_nothing_before_it():
    modules = imported_modules(fitting.__name__)
    names = ("nets.folded_cnn", "nets.pretrained", "nets.ring_cnn", "learning.fitting")
    assert {f"skyloom.{name}" for name in names} < modules
    # Images are given to a fit: how they are drawn is no part of it.
    assert not {name for name in modules if "spectra" in name or ".images" in name}
    assert "skyloom.pipelines.hi_profiles.reporting" not in modules


@pytest.mark.parametrize("start", ["scratch", "fine_tuned"])
@pytest.mark.parametrize("architecture", ["ring_cnn", "folded_cnn"])
def test_a_fit_runs_no_code_that_is_not_in_its_key(code_of, architecture, start):
    base = base_of(
        augmentation={"n_copies": 1},
        network={"architecture": architecture, "widths": [5]},  # compiled anew
        training={"start": start},
    )
    settings, arrays, shared = task_of(base, epochs=(1,))
    shape = fitting.inputs_of(settings, shared, np.arange(1)).shape[1:]
    backbone = build_network(base.network, shape, 2, 0, activation=None)
    if settings["pretrained"]:
        shared[settings["pretrained"]] = backbone.get_weights()
    modules = code_of(fit_task, settings, arrays, shared)
    assert f"skyloom.nets.{architecture}" in modules
    assert modules <= imported_modules(fitting.__name__)


def test_a_pretraining_runs_no_code_that_is_not_in_its_key(code_of):
    base = base_of(training={"start": "fine_tuned"})
    settings = {"network": base.network.model_dump(mode="json"), "quadrant": True, "seed": 0}
    settings |= {"images": "images", "epochs": 1, "batch_size": 16, "learning_rate": 1e-3}
    images, targets = toy_images(np.zeros(24)), np.zeros((24, 2), np.float32)
    modules = code_of(fitting.pretrain_task, settings, {"targets": targets}, {"images": images})
    assert "skyloom.nets.ring_cnn" in modules
    assert modules <= imported_modules(fitting.__name__)


def test_a_fit_gives_probabilities_and_history_for_every_length():
    result = fit_task(*task_of(base_of(training={"patience": None}), epochs=(2, 5, 3)), threads=1)
    assert set(result) == {
        "validation_prediction", "test_prediction", "history", "lengths", "best_epoch",
    }  # fmt: skip
    assert result["validation_prediction"].shape == (3, 6, 2)
    assert result["test_prediction"].shape == (3, 4, 2)
    assert result["history"].shape == (5, 4)
    assert result["lengths"].tolist() == result["best_epoch"].tolist() == [2, 5, 3]
    np.testing.assert_allclose(result["test_prediction"].sum(axis=-1), 1, rtol=1e-5)


def test_a_length_is_what_a_fit_of_that_length_alone_gives():
    base = base_of(training={"patience": None})
    together = fit_task(*task_of(base, epochs=(2, 5)), threads=1)
    for position, length in enumerate((2, 5)):
        alone = fit_task(*task_of(base, epochs=(length,)), threads=1)
        for name in ("validation_prediction", "test_prediction"):
            np.testing.assert_allclose(alone[name][0], together[name][position], atol=1e-5)


def test_a_fit_that_stops_early_says_after_how_many_epochs():
    base = base_of(training={"patience": 1, "min_epochs": 1, "learning_rate": 0.5})
    result = fit_task(*task_of(base, epochs=(40,)), threads=1)
    (length,), (best,) = result["lengths"], result["best_epoch"]
    assert len(result["history"]) == length < 40
    assert best == length - 1


RATES = {
    "scratch": "learning_rate",
    "frozen": "frozen_learning_rate",
    "fine_tuned": "fine_tuned_learning_rate",
}


@pytest.mark.parametrize("start", RATES)
@pytest.mark.parametrize("rate", RATES.values())
def test_a_fit_depends_on_the_learning_rate_of_its_start_alone(start, rate):
    base = base_of(training={"start": start})
    other = base.changed("other", {f"training.{rate}": 0.123})
    one, two = (fit_settings([c], 0, 0, n_classes=2) for c in (base, other))
    assert (one != two) == (rate == RATES[start])


@pytest.mark.parametrize("start", RATES)
def test_a_fit_learns_at_the_rate_of_its_start(start, monkeypatch):
    rates = {name: 0.1 * number for number, name in enumerate(RATES.values(), 1)}
    base = base_of(training={"start": start, **rates})
    settings, arrays, shared = task_of(base)
    backbone = build_network(base.network, (8, 8, 1), 2, 0, activation=None)
    used = []

    def restart(model, fresh, learning_rate):
        used.append(learning_rate)
        raise RuntimeError("enough")

    monkeypatch.setattr(fitting, "restart", restart)
    shared[settings["pretrained"]] = backbone.get_weights()
    with pytest.raises(RuntimeError, match="enough"):
        fit_task(settings, arrays, shared, threads=1)
    assert used == [rates[RATES[start]]]


def test_test_images_do_not_influence_the_fit():
    settings, arrays, shared = task_of(base_of(augmentation={"n_copies": 1}))
    one = fit_task(settings, arrays, shared, threads=1)
    disturbed = shared[settings["images"]].copy()
    disturbed[arrays["test"]] = 100.0
    two = fit_task(settings, arrays, shared | {settings["images"]: disturbed}, threads=1)
    for name in ("history", "validation_prediction", "best_epoch"):
        np.testing.assert_array_equal(one[name], two[name])
    assert (one["test_prediction"] != two["test_prediction"]).any()


def test_copies_are_trained_on_only_where_their_galaxy_is():
    settings, arrays, shared = task_of(base_of(augmentation={"n_copies": 3}))
    copies = shared[settings["copies"]]
    copies["images"] = (
        np.zeros_like(copies["images"]) + copies["profile"][:, None, None, None, None]
    )
    rows, classes = arrays["train"][::2], arrays["train_targets"][::2]
    inputs, labels = training_data(settings, shared, rows, classes)
    scale = settings["network"]["input_scale"]
    galaxy = inputs[len(rows) :, 0, 0, 0] / scale
    assert sorted(galaxy) == sorted(np.repeat(rows, 3))
    assert (labels[len(rows) :] == galaxy % 2).all()
    np.testing.assert_array_equal(labels[: len(rows)], classes)
    np.testing.assert_array_equal(inputs[: len(rows)], scale * shared[settings["images"]][rows, 1])


@pytest.mark.parametrize(("quadrant", "radii"), [(True, 8), (False, 4)])
def test_the_folded_network_is_fitted_to_the_radius_of_galaxies_and_copies(quadrant, radii):
    base = base_of(
        features={"quadrant": quadrant}, network={"architecture": "folded_cnn"},
        augmentation={"n_copies": 1},
    )  # fmt: skip
    settings, arrays, shared = task_of(base)
    inputs, _ = training_data(settings, shared, arrays["train"], arrays["train_targets"])
    assert inputs.shape == (2 * len(arrays["train"]), radii, 1)
    result = fit_task(settings, arrays, shared, threads=1)
    assert result["test_prediction"].shape == (1, 4, 2)


def test_without_copies_the_galaxies_alone_are_trained_on():
    settings, arrays, shared = task_of(base_of())
    assert settings["copies"] is None
    inputs, labels = training_data(settings, shared, arrays["train"], arrays["train_targets"])
    assert len(inputs) == len(labels) == len(arrays["train"])


@pytest.mark.parametrize("balanced", [True, False])
def test_classes_weigh_the_same_where_asked_for(balanced, monkeypatch):
    seen = []

    def fit(model, train, *arguments, **options):
        seen.append(train[1])
        raise RuntimeError("enough")

    monkeypatch.setattr(fitting, "fit_classifier", fit)
    settings, arrays, shared = task_of(base_of(augmentation={"balance_classes": balanced}))
    arrays["train_targets"] = (np.arange(14) < 3).astype(np.int32)
    with pytest.raises(RuntimeError, match="enough"):
        fit_task(settings, arrays, shared, threads=1)
    assert np.bincount(seen[0]).tolist() == ([11, 11] if balanced else [11, 3])


def test_a_fit_does_not_depend_on_those_before_it_in_the_process():
    task, other = task_of(base_of()), task_of(base_of(), seed=9)
    first = fit_task(*task, threads=1)
    different = fit_task(*other, threads=1)
    again = fit_task(*task, threads=1)
    np.testing.assert_array_equal(first["test_prediction"], again["test_prediction"])
    assert (first["test_prediction"] != different["test_prediction"]).any()


def test_diverging_fits_are_results_too():
    result = fit_task(*task_of(base_of(training={"learning_rate": 1e12})), threads=1)
    assert np.isnan(result["history"][:, 2]).all()
    assert result["test_prediction"].shape == (1, 4, 2)
