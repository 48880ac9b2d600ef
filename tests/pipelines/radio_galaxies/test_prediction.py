"""New cut-outs: classes that do not hang on the file format, on north, or on a pixel."""

import numpy as np
import pandas as pd
import pytest

from skyloom.evaluation.novelty import describe_sample
from skyloom.images.cutouts import as_picture, clip_background
from skyloom.images.orientations import orientations
from skyloom.pipelines.radio_galaxies.features import (
    likeness_features,
    measure_sample,
    prepare_images,
)
from skyloom.pipelines.radio_galaxies.parameters import (
    AugmentationParameters,
    Configuration,
    FeatureParameters,
    NetworkParameters,
    PredictionParameters,
    TrainingParameters,
)
from skyloom.pipelines.radio_galaxies.prediction import classify_cut_outs
from skyloom.simulate.radio_galaxies import draw_truth, observe

FEATURES = FeatureParameters(size=32, eight_bits=True, min_pixels=10)
NAMES = ["FRI", "FRII"]
ONE_VIEW = {"average_orientations": False, "shift": 0}


class Lopsided:
    """Looks at one pixel beside the middle, so that turns and shifts matter."""

    def predict_on_batch(self, images):
        said = 0.2 + 0.6 * images[:, 12, 15:17, 0].mean(axis=1)
        return np.column_stack([said, 1 - said])


@pytest.fixture(scope="module")
def cutouts():
    truth = draw_truth(24, np.random.default_rng(0))
    return observe(truth, np.random.default_rng(1))


def classified(cutouts, **prediction):
    rows = len(cutouts)
    sources = pd.DataFrame(
        {"id": [f"s{k}" for k in range(rows)], "file": "f", "class": "", "reason": "",
         "pixel_scale": 1.8, "bending_angle": np.nan}
    )  # fmt: skip
    configuration = Configuration(
        name="a", features=FEATURES, augmentation=AugmentationParameters(),
        network=NetworkParameters(), training=TrainingParameters(),
    )  # fmt: skip
    description = {
        "configuration": configuration.model_dump(mode="json"),
        "class_names": NAMES,
        "trained_shares": [0.5, 0.5],
        "sample": describe_sample(likeness_features(measure_sample(sources, cutouts, FEATURES))),
        "angle_network": "none",
    }
    table, _, population = classify_cut_outs(
        sources, cutouts, (Lopsided(), description), {}, PredictionParameters(**prediction)
    )
    return table, population


def test_a_turned_source_has_the_same_probabilities_and_a_scatter_that_says_they_differ(cutouts):
    turned = np.rot90(cutouts, 1, (1, 2))
    one, other = (classified(each)[0] for each in (cutouts, turned))
    columns = [f"{kind}_{name}" for kind in ("probability", "scatter") for name in NAMES]
    np.testing.assert_allclose(one[columns], other[columns], atol=1e-6)
    alone, beside = (classified(each, **ONE_VIEW)[0] for each in (cutouts, turned))
    # Else the test would show little.
    assert np.abs(alone["probability_FRI"] - beside["probability_FRI"]).max() > 0.05
    assert (one["scatter_FRI"] > 0.01).any()
    assert alone["scatter_FRI"].isna().all()


def test_a_shift_by_a_pixel_changes_the_mean_over_shifts_less(cutouts):
    moved = np.roll(cutouts, 1, axis=2)

    def change(**prediction):
        one, other = (classified(each, **prediction)[0] for each in (cutouts, moved))
        return np.abs(one["probability_FRI"] - other["probability_FRI"]).mean()

    alone, turned = change(**ONE_VIEW), change(shift=0)
    assert change() < turned < alone


def test_probability_and_scatter_are_those_of_the_views(cutouts):
    table, _ = classified(cutouts, shift=0)
    images = prepare_images(cutouts, FEATURES)
    views = np.stack([Lopsided().predict_on_batch(each)[:, 0] for each in orientations(images)])
    np.testing.assert_allclose(table["probability_FRI"], views.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(table["scatter_FRI"], views.std(axis=0), atol=1e-6)


def test_probabilities_are_those_in_the_population_and_it_is_told(cutouts):
    before, as_trained = classified(cutouts)
    shares = {"FRI": 0.95, "FRII": 0.05}
    after, population = classified(cutouts, population=shares)
    assert as_trained == {"of": "training", "shares": {"FRI": 0.5, "FRII": 0.5}}
    assert population == {"of": "given", "shares": shares}
    odds = [table["probability_FRI"] / table["probability_FRII"] for table in (before, after)]
    np.testing.assert_allclose(odds[1], odds[0] * 19, rtol=1e-4)
    assert (after["class"] == "FRI").sum() > (before["class"] == "FRI").sum()


def test_an_offset_moves_the_prepared_image(cutouts):
    features = FeatureParameters(crop=64, size=64)
    one = prepare_images(cutouts, features)
    other = prepare_images(cutouts, features, offset=(1, 0))
    np.testing.assert_array_equal(one[:, 1:], other[:, :-1])


def test_an_image_and_its_picture_are_prepared_alike(cutouts):
    clipped, noise = clip_background(cutouts)
    pictures = as_picture(clipped, 3 * noise)
    alike = [prepare_images(each, FEATURES) for each in (cutouts, pictures)]
    np.testing.assert_array_equal(*alike)
    published = FEATURES.model_copy(update={"eight_bits": False})
    apart = [prepare_images(each, published) for each in (cutouts, pictures)]
    assert np.abs(apart[0] - apart[1]).max() > 0.05


def test_islands_of_noise_are_no_part_of_a_prepared_image():
    noise = np.random.default_rng(0).normal(0, 0.1, (4, 150, 150)).astype(np.float32)
    noise[:, 70:80, 70:80] += 5
    features = FeatureParameters(crop=150, size=150)
    assert (prepare_images(noise, features) > 0).sum(axis=(1, 2, 3)).min() > 110
    alone = prepare_images(noise, features.model_copy(update={"min_pixels": 10}))
    np.testing.assert_array_equal((alone > 0).sum(axis=(1, 2, 3)), 100)
