"""What a network sees and is taught of a tile."""

import numpy as np
import pandas as pd
import pytest

from skyloom.pipelines.star_fields.augmentation import draw_training_tiles, make_split
from skyloom.pipelines.star_fields.features import (
    draw_targets,
    filter_tiles,
    measure_tiles,
    prepare_images,
    stars_of_tiles,
)
from skyloom.pipelines.star_fields.parameters import (
    AugmentationParameters,
    Configuration,
    FeatureParameters,
    FieldParameters,
    IngestionParameters,
    NetworkParameters,
    SimulationParameters,
    Sweep,
    SweepParameters,
    TrainingParameters,
)

SIZE = 32
STARS = np.array([[5.3, 8.0, 50.0, 15.0], [20.0, 20.4, 9.0, 17.0], [28.0, 4.0, 3.0, 19.0]])
LIMITS = {"limit": 5.0, "doubtful": 2.0}
FEATURES = FeatureParameters(size=SIZE)


def test_images_are_finite_and_the_published_stretch_is_of_all_together():
    pixels = np.random.default_rng(0).normal(size=(3, SIZE, SIZE)).astype(np.float32)
    pixels[0, :3] = np.nan
    pixels[2] *= 10
    local = prepare_images(pixels, FEATURES)
    assert local.shape == (3, SIZE, SIZE, 1)
    assert np.isfinite(local).all()
    np.testing.assert_allclose(local[1, ..., 0], np.arcsinh(pixels[1]), rtol=1e-6)
    published = FeatureParameters(size=SIZE, normalisation="min_max", n_channels=3)
    stretched = prepare_images(pixels, published)
    assert stretched.shape == (3, SIZE, SIZE, 3)
    assert (stretched.min(), stretched.max()) == (0, 1)
    assert np.ptp(stretched[1]) < 0.5  # one bright image takes the range of all


def test_profiles_are_on_the_stars_and_doubtful_ones_have_no_weight():
    drawn = draw_targets(STARS, SIZE, FEATURES, **LIMITS)
    target, weight = drawn[..., 0], drawn[..., 1]
    assert np.unravel_index(target.argmax(), target.shape) == (8, 5)
    assert target[20, 20] > 0.9
    assert target[4, 28] == 0
    assert weight[4, 28] == 0
    assert weight[8, 5] == weight[20, 20] == weight[15, 5] == 1
    assert not draw_targets(np.zeros((0, 4)), SIZE, FEATURES, **LIMITS)[..., 0].any()


def test_the_weight_of_a_star_is_kept_beside_a_doubtful_one():
    pair = np.array([[10.0, 10.0, 40.0, 15.0], [12.0, 10.0, 3.0, 19.0]])
    weight = draw_targets(pair, SIZE, FEATURES, **LIMITS)[..., 1]
    assert weight[10, 10] == 1
    assert weight[10, 14] == 0


def test_published_discs_grow_with_brightness_from_one_to_six_pixels():
    size = 1024
    bright, faint = (300.0, 300.0, 90.0, 10.0), (700.0, 700.0, 9.0, 16.0)
    features = FeatureParameters(size=size, target="discs")
    target = draw_targets(np.array([bright, faint]), size, features, **LIMITS)[..., 0]
    areas = [target[290:311, 290:311].sum(), target[690:711, 690:711].sum()]
    assert areas == pytest.approx([np.pi * 6**2, 5], abs=4)


def test_stars_of_a_tile_are_counted_from_its_first_pixel():
    sample = pd.DataFrame(
        {"id": ["a", "b", "c"], "field": ["f", "f", "g"], "x0": [0, 16, 0], "y0": 0}
    )
    stars = pd.DataFrame(STARS, columns=["x", "y", "snr", "magnitude"]).assign(field="f")
    tiles = stars_of_tiles(sample, stars, 16)
    assert [len(tile) for tile in tiles] == [1, 1, 0]
    assert tiles[1][0, :2].tolist() == [12, 4]


def test_what_is_filtered_is_of_the_width_of_the_field():
    fields = pd.DataFrame({"id": ["f"], "fwhm": [np.nan], "noise_correlation": [0.1]})
    sample = pd.DataFrame({"id": ["a", "b"], "field": "f"})
    pixels = np.random.default_rng(0).normal(size=(2, SIZE, SIZE)).astype(np.float32)
    snr = filter_tiles(sample, fields, pixels)
    assert snr.shape == pixels.shape
    assert np.isfinite(snr).all()
    assert measure_tiles(sample, fields)["noise_correlation"].tolist() == [0.1, 0.1]


# --- augmentation ---------------------------------------------------------------------------------
def sweep_of(arm, n_simulated=3, **augmented):
    base = Configuration(
        name="base",
        features=FEATURES,
        augmentation=AugmentationParameters(n_simulated=n_simulated, **augmented),
        network=NetworkParameters(widths=(4, 8)),
        training=TrainingParameters(crop=32),
    )
    return Sweep.lay_out(SweepParameters(grid={"augmentation.arm": [arm]}), base)


SAMPLE = pd.DataFrame(
    {"id": [f"t{k}" for k in range(12)], "group": [f"g{k // 2}" for k in range(12)]}
).assign(sha256=lambda table: table["id"])
MANIFEST = make_split(SAMPLE, AugmentationParameters(seeds=(0, 1)))


def test_tiles_of_one_group_stay_together_and_all_seeds_share_the_split():
    sides = MANIFEST.groupby(["seed", "group"])["role"].nunique()
    assert (sides == 1).all()
    assert set(MANIFEST["role"]) == {"train", "validation", "test"}
    first, second = (part.drop(columns="seed") for _, part in MANIFEST.groupby("seed"))
    assert first.to_numpy().tolist() == second.to_numpy().tolist()


TILES = SAMPLE.assign(field=SAMPLE["group"], x0=0, y0=[SIZE * (k % 2) for k in range(12)])
PIXELS = np.random.default_rng(3).normal(size=(12, SIZE, SIZE)).astype(np.float32)
KNOWN = pd.DataFrame(STARS, columns=["x", "y", "snr", "magnitude"]).assign(field="g0")


def drawn(arm, fwhm=3.0, **augmented):
    measurements = pd.DataFrame({"id": SAMPLE["id"], "fwhm": fwhm})
    fields = pd.DataFrame({"id": SAMPLE["group"].unique(), "fwhm": fwhm})
    parameters = FieldParameters(fwhm_range=(8, 9), artefact_share=0)
    found = draw_training_tiles(
        TILES, fields, KNOWN, PIXELS, measurements, MANIFEST, sweep_of(arm, **augmented),
        IngestionParameters(tile=SIZE, min_observed=0.5), SimulationParameters(fields=parameters),
    )  # fmt: skip
    return {name: make() for name, make in found.items()}


def test_nothing_is_made_up_where_nothing_is_trained_on_it():
    assert drawn("observed") == {}


def test_made_up_tiles_have_targets_and_the_widths_of_those_observed():
    tiles = drawn("simulated")
    shapes = {name.partition("_")[0]: array.shape for name, array in tiles.items()}
    assert shapes == {"inputs": (3, SIZE, SIZE, 1), "targets": (3, SIZE, SIZE, 2)}
    again = drawn("observed + simulated")
    for one, other in zip(tiles.values(), again.values(), strict=True):
        np.testing.assert_array_equal(one, other)
    wide = drawn("simulated", fwhm=6.0)
    # The width is that of the training tiles, not that of the parameters of the simulation.
    assert not np.array_equal(next(iter(wide.values())), next(iter(tiles.values())))


def test_injected_tiles_are_those_observed_with_further_stars():
    tiles = drawn("observed", injected=True)
    shapes = {name.rpartition("_")[0]: array.shape for name, array in tiles.items()}
    assert shapes == {
        "injected_inputs": (12, SIZE, SIZE, 1), "injected_targets": (12, SIZE, SIZE, 2),
    }  # fmt: skip
    inputs, targets = tiles.values()
    added = np.sinh(inputs[..., 0]) - PIXELS
    assert added.min() > -1e-2
    assert added.max() > 1
    # The stars that are put in are taught, and those that were there.
    taught = targets[2:, ..., 0] > 0.9  # of fields that had none
    assert taught.any()
    assert added[2:][taught].mean() > 10 * added[2:].mean()
    assert targets[0, 8, 5, 0] > 0.9
    again = drawn("observed", injected=True)
    for one, other in zip(tiles.values(), again.values(), strict=True):
        np.testing.assert_array_equal(one, other)
