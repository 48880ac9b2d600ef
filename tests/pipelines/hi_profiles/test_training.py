"""Cross-validation of the networks on toy images with a strong signal."""

import numpy as np
import pandas as pd
import pytest

from skyloom.pipelines.hi_profiles.augmentation import make_split
from skyloom.pipelines.hi_profiles.parameters import (
    AugmentationParameters,
    FeatureParameters,
    TrainingParameters,
)
from skyloom.pipelines.hi_profiles.training import (
    CURVE_COLUMNS,
    PREDICTION_COLUMNS,
    network_input,
    train_configurations,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't:DeprecationWarning"
)


# --- input ----------------------------------------------------------------------------------------


def test_models_are_stacked_as_channels_in_the_given_order():
    images = np.random.default_rng(0).normal(size=(5, 3, 4, 4, 1)).astype(np.float32)
    stacked = network_input(images, np.array([3, 0]), (3, 1), 2.0)
    assert stacked.shape == (2, 4, 4, 2)
    assert stacked.dtype == np.float32
    np.testing.assert_array_equal(stacked[..., 0], 2 * images[[3, 0], 2, :, :, 0])
    np.testing.assert_array_equal(stacked[..., 1], 2 * images[[3, 0], 0, :, :, 0])


def test_eight_bit_colours_are_divided_by_255_and_not_scaled():
    images = np.zeros((2, 3, 4, 4, 3), np.uint8)
    images[1, 1] = [255, 51, 0]
    picked = network_input(images, np.array([1]), (2,), 4.0)
    assert picked.dtype == np.float32
    np.testing.assert_allclose(picked[0, 0, 0], [1, 0.2, 0])
    assert network_input(images, np.array([0, 1]), (1, 2), 4.0).shape == (2, 4, 4, 6)


def test_memory_mapped_images_are_read_and_not_changed(tmp_path):
    images = np.random.default_rng(0).normal(size=(4, 3, 2, 2, 1)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    picked = network_input(mapped, np.array([2, 2]), (2,), 1.0)
    picked += 1
    np.testing.assert_array_equal(mapped, images)


# --- cross-validation -----------------------------------------------------------------------------


def toy(n=24, seeds=(0,), strength=1.0):
    """Images whose centre, in model 2 only, is bright for class 1; copies are their doubles."""
    rng = np.random.default_rng(0)
    truth = np.arange(n) % 2
    images = rng.normal(0, 0.1, (n, 3, 6, 6, 1)).astype(np.float32)
    images[truth == 1, 1, 2:4, 2:4] += strength
    ids = [f"g{i}" for i in range(n)]
    profiles = pd.DataFrame({"id": ids})
    classes = pd.DataFrame({"id": ids, "group": ids, "sha256": ids, "class": truth, "used": True})
    parameters = AugmentationParameters(n_folds=2, seeds=seeds)
    # Galaxies in another order than the profiles: rows must be found by id.
    manifest = make_split(classes.sample(frac=1, random_state=1), parameters)
    training = manifest[manifest["role"] == "train"]
    copies = pd.concat([training, training])[["seed", "fold", "id", "class"]]
    copies = copies.reset_index(drop=True)
    augmented = images[copies["id"].str[1:].astype(int)]
    return profiles, images, manifest, copies, augmented


def settings(**changes):
    values = {
        "configurations": [{"name": "small", "widths": [4]}],
        "epochs": 10,
        "batch_size": 8,
        "min_epochs": 4,
        "patience": 3,
        "n_workers": 1,
    }
    return TrainingParameters(**(values | changes))


@pytest.fixture(scope="module")
def trained():
    sample = toy(seeds=(0, 3))
    configurations = [
        {"name": "seeing", "widths": [4]},
        {"name": "blind", "widths": [4], "image_models": [1]},
    ]
    parameters = settings(configurations=configurations)
    return sample, train_configurations(*sample, FeatureParameters(size=8), parameters)


def test_every_configuration_predicts_each_galaxy_once_a_seed_and_only_where_it_is_tested(trained):
    (_, _, manifest, _, _), (predictions, *_) = trained
    tested = manifest[manifest["role"] == "test"]
    keys = ["seed", "fold", "id", "class"]
    for name in ("seeing", "blind"):
        part = predictions[predictions["configuration"] == name]
        assert (part.groupby(["seed", "id"]).size() == 1).all()
        got = part[keys].sort_values(keys).reset_index(drop=True)
        expected = tested[keys].sort_values(keys).reset_index(drop=True)
        pd.testing.assert_frame_equal(got, expected, check_dtype=False)
    probability = predictions[["probability_0", "probability_1"]].to_numpy()
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)
    assert (probability.argmax(axis=1) == predictions["predicted"]).all()


def test_a_strong_signal_is_found_by_the_model_that_sees_it_and_not_by_the_other(trained):
    predictions = trained[1][0]
    right = predictions["class"] == predictions["predicted"]
    rates = right.groupby(predictions["configuration"]).mean()
    assert rates["seeing"] > 0.85
    assert rates["blind"] < 0.75


def test_each_fit_has_a_learning_curve_with_the_epoch_it_kept(trained):
    curves = trained[1][1]
    assert list(curves) == list(CURVE_COLUMNS)
    fits = curves.groupby(["configuration", "seed", "fold"])
    assert fits.ngroups == 2 * 2 * 2
    for _, part in fits:
        assert part["epoch"].tolist() == list(range(1, len(part) + 1))
        assert np.ptp(part["best_epoch"]) == 0
        settled = part[part["epoch"] >= 4].set_index("epoch")
        assert part["best_epoch"].iloc[0] == settled["val_loss"].idxmin()


def test_a_network_of_each_configuration_is_returned_and_the_example_is_chosen_by_validation(
    trained,
):
    (_, images, *_), (predictions, curves, models, example) = trained
    assert list(models) == ["seeing", "blind"]
    kept = curves[curves["epoch"] == curves["best_epoch"]]
    lowest = kept.groupby("configuration")["val_loss"].mean().idxmin()
    assert example is models[lowest]()
    # The network returned is that of the first fold: it repeats that fold's predictions.
    first = predictions.query("configuration == 'seeing' and seed == 0 and fold == 0")
    rows = first["id"].str[1:].astype(int).to_numpy()
    again = models["seeing"]().predict(network_input(images, rows, (2,), 4.0), verbose=0)
    np.testing.assert_allclose(
        again, first[["probability_0", "probability_1"]].to_numpy(), atol=1e-5
    )


def first_fold(sample):
    profiles, images, manifest, copies, augmented = sample
    return (
        profiles,
        images,
        manifest[manifest["fold"] == 0],
        copies[copies["fold"] == 0],
        augmented,
    )


def test_test_images_do_not_influence_the_training():
    profiles, images, manifest, copies, augmented = first_fold(toy(12))
    parameters = settings(epochs=2)
    features = FeatureParameters(size=8)
    disturbed = images.copy()
    tested = manifest.loc[manifest["role"] == "test", "id"].str[1:].astype(int)
    disturbed[tested] = 100.0
    histories = [
        train_configurations(profiles, chosen, manifest, copies, augmented, features, parameters)[1]
        for chosen in (images, disturbed)
    ]
    pd.testing.assert_frame_equal(*histories)


def test_large_seeds_are_as_good_as_small_ones():
    sample = first_fold(toy(12, seeds=(20240101,)))
    predictions, *_ = train_configurations(
        *sample, FeatureParameters(size=8), settings(epochs=1, patience=None)
    )
    assert set(predictions["seed"]) == {20240101}


def test_diverging_fits_do_not_lose_the_others():
    sample = first_fold(toy(12))
    predictions, curves, models, example = train_configurations(
        *sample, FeatureParameters(size=8), settings(epochs=2, learning_rate=1e12)
    )
    assert curves["val_loss"].isna().all()
    assert len(predictions) == (sample[2]["role"] == "test").sum()
    assert example is models["small"]()


# The only test with worker processes: what they need must survive pickling, and they start in a
# fresh interpreter, which takes about as long as all fits of the other tests together.
def test_worker_processes_return_the_same_tables_as_this_process_would():
    sample = toy(16, strength=2.0)
    predictions, curves, models, _ = train_configurations(
        *sample, FeatureParameters(size=8), settings(epochs=8, n_workers=2)
    )
    tested = sample[2].query("role == 'test'")
    assert predictions["id"].tolist() == tested["id"].tolist()
    assert (predictions["class"] == predictions["predicted"]).mean() > 0.8
    assert set(curves["fold"]) == {0, 1}
    assert models["small"]().output_shape == (None, 2)


@pytest.mark.parametrize(
    ("features", "models", "shape"),
    [
        (FeatureParameters(size=16), [2], (None, 16, 16, 1)),
        (FeatureParameters(size=8), [1, 2, 3], (None, 8, 8, 3)),
        (FeatureParameters(size=8, rendering="published", quadrant=False), [2], (None, 8, 8, 3)),
    ],
)
def test_an_empty_split_gives_empty_tables_and_a_network_to_look_at(features, models, shape):
    profiles, images, manifest, copies, augmented = toy(6)
    parameters = settings(configurations=[{"name": "small", "widths": [4], "image_models": models}])
    predictions, curves, networks, example = train_configurations(
        profiles, images, manifest[:0], copies[:0], augmented[:0], features, parameters
    )
    assert predictions.empty
    assert list(predictions) == list(PREDICTION_COLUMNS)
    assert curves.empty
    assert list(curves) == list(CURVE_COLUMNS)
    assert networks == {}
    assert example.input_shape == shape
