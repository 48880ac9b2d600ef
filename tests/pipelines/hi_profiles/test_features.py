import io

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits as astropy_fits
from matplotlib.figure import Figure
from PIL import Image

from skyloom.images.rings import published_image, published_quadrant
from skyloom.pipelines.hi_profiles import features
from skyloom.pipelines.hi_profiles.ingestion import configure_sweep, ingest_spectra
from skyloom.pipelines.hi_profiles.parameters import (
    AugmentationParameters,
    FeatureParameters,
    IngestionParameters,
    NetworkParameters,
    SweepsParameters,
    TrainingParameters,
)
from skyloom.simulate.hi_profiles import draw_truth, to_hdu
from skyloom.spectra.hi.lines import line_geometry, published_cut


def sweep_of(grid=None, **settings):
    return configure_sweep(
        SweepsParameters(
            chosen="default", named={"default": {"grid": grid or {"training.epochs": [3]}}}
        ),
        FeatureParameters(**settings),
        AugmentationParameters(),
        NetworkParameters(),
        TrainingParameters(),
    )


def drawn(sample, **settings):
    """Lazy images of the only variant."""
    _, profiles, flux, fits, _ = sample
    (images,) = features.draw_images(profiles, flux, fits, sweep_of(**settings)).values()
    return images


@pytest.fixture(scope="module")
def sample():
    truth = draw_truth(14, np.random.default_rng(2), snr_median=60.0)
    files = {}
    for i, row in truth.iterrows():
        buffer = io.BytesIO()
        astropy_fits.HDUList([to_hdu(row, np.random.default_rng(i))]).writeto(buffer)
        files[f"{row['id']}.fits"] = buffer.getvalue
    profiles, flux, _ = ingest_spectra(
        files, pd.DataFrame(), IngestionParameters(id_pattern=r"CIG(\d+)")
    )
    fits, asymmetry = features.measure_profiles(profiles, flux, FeatureParameters())
    truth = truth.set_index("id").loc[profiles["id"]].reset_index()
    return truth, profiles, flux, fits, asymmetry


def test_measures_recover_the_truth_within_a_few_errors(sample):
    truth, _, _, fits, asymmetry = sample
    for table, name in ((fits, "w50"), (fits, "centroid"), (asymmetry, "equality_velocity")):
        deviation = (table[name] - truth[name]) / table[f"{name}_error"]
        assert deviation.abs().median() < 1.5
        assert deviation.abs().max() < 5
    assert (fits["id"] == truth["id"]).all()
    assert fits["usable"].all()


def test_unusable_fits_have_no_asymmetry(sample):
    _, profiles, flux, _, _ = sample
    spoiled = flux.copy()
    spoiled[0, 8:] = np.nan
    fits, asymmetry = features.measure_profiles(profiles, spoiled, FeatureParameters())
    assert fits.loc[0, "status"] == "too few channels"
    assert asymmetry.drop(columns="id").loc[0].isna().all()
    assert asymmetry.drop(columns="id").loc[1].notna().all()
    (images,) = features.draw_images(profiles, spoiled, fits, sweep_of(size=8)).values()
    assert (images.compute()[0] == 0).all()


def test_images_are_computed_only_when_they_are_needed(sample):
    images = drawn(sample, size=16)
    assert images.shape == (len(sample[1]), 3, 16, 16, 1)
    assert images.dtype == np.float32
    values = images.compute()
    assert np.isfinite(values).all()
    assert (np.abs(values[:, 1]).max((1, 2, 3)) > 0.02).all()


def test_lopsided_galaxies_have_stronger_images(sample):
    images = drawn(sample, size=16).compute()
    strength = np.abs(images[:, 1]).mean((1, 2, 3))
    assert np.corrcoef(strength, sample[0]["channel_asymmetry"])[0, 1] > 0.6


def test_published_rendering_is_the_published_picture(sample):
    _, profiles, flux, fits, _ = sample
    images = drawn(sample, rendering="published", quadrant=False, size=32).compute()
    assert images.dtype == np.uint8
    assert images.shape == (len(profiles), 3, 32, 32, 3)
    line = line_geometry(profiles, flux, fits, [3])
    cut = published_cut(line, 0)
    width = profiles["channel_width"][3]
    assert len(cut) == pytest.approx(2 * (fits["w50"][3] / width + 5) + 1, abs=2)
    np.testing.assert_array_equal(images[3, 1], published_image(cut, 2, 32))


@pytest.mark.parametrize("model", [1, 2, 3])
def test_a_published_quadrant_is_that_of_the_published_picture(sample, model):
    _, profiles, flux, fits, _ = sample
    images = drawn(sample, rendering="published", quadrant=True, size=16)
    assert images.dtype == np.float32
    assert images.shape == (len(profiles), 3, 16, 16, 1)
    line = line_geometry(profiles, flux, fits, [3])
    expected = published_quadrant(published_cut(line, 0), model, 16)
    values = images.compute()
    np.testing.assert_array_equal(values[3, model - 1, :, :, 0], expected)
    assert 0 <= values.min() < values.max() <= 1


def test_each_variant_has_images_of_its_own(sample):
    _, profiles, flux, fits, _ = sample
    grid = {
        "features.size": [8, 12],
        "features.extent": [1.0, 1.3],
        "features.quadrant": [True, False],
        "augmentation.n_copies": [0, 2],
        "network.widths": [[4], [8]],
    }
    sweep = sweep_of(grid)
    images = features.draw_images(profiles, flux, fits, sweep)
    variants = sweep.input_variants
    assert list(images) == list(variants)
    assert len(images) == 8  # copies and networks share them
    for variant, member in variants.items():
        values = images[variant].compute()
        assert values.shape == (len(profiles), 3, *[member.features.size] * 2, 1)
        alone = drawn(sample, **member.features.model_dump(include={"size", "extent", "quadrant"}))
        np.testing.assert_array_equal(values, alone.compute())


def test_a_larger_extent_makes_the_line_smaller(sample):
    one, two = (drawn(sample, size=16, extent=extent).compute() for extent in (1.0, 2.0))
    # The same velocity lies at half the radius: between the pixels 2 k and 2 k + 1.
    row = one[:, 1, 0, :, 0]
    inner, same = two[:, 1, 0, 1:8, 0], (row[:, 2::2] + row[:, 3::2]) / 2
    assert np.corrcoef(inner.ravel(), same.ravel())[0, 1] > 0.9
    assert np.corrcoef(inner.ravel(), row[:, 1:8].ravel())[0, 1] < 0.6


def test_both_renderings_can_be_compared_in_one_sweep(sample):
    _, profiles, flux, fits, _ = sample
    sweep = sweep_of({"features.rendering": ["corrected", "published"]}, size=8)
    corrected, published = features.draw_images(profiles, flux, fits, sweep).values()
    assert corrected.compute().min() < 0  # differences of the sides have a sign
    assert published.compute().min() >= 0


def test_jpegs_carry_the_published_names_and_are_painted_one_by_one(sample):
    _, profiles, flux, fits, _ = sample
    assert features.paint_jpegs(profiles, flux, fits, FeatureParameters()) == {}
    jpegs = features.paint_jpegs(profiles, flux, fits, FeatureParameters(published_jpegs=True))
    assert len(jpegs) == 3 * len(profiles)
    name = f"{profiles['id'][0]}_rot_im_2.jpeg"
    picture = jpegs[name]()
    assert isinstance(picture, Image.Image)
    assert picture.mode == "RGB"


def test_figures_of_the_sample_and_of_one_galaxy(sample):
    _, profiles, flux, fits, asymmetry = sample
    parameters = FeatureParameters(n_halves_figures=2, panel_id=profiles["id"][5])
    halves, pages, panel = features.draw_galaxy_figures(profiles, flux, fits, asymmetry, parameters)
    assert list(halves) == [f"{i}.png" for i in profiles["id"][:2]]
    assert isinstance(halves[f"{profiles['id'][0]}.png"](), Figure)
    assert len(pages) == 4
    assert panel.axes[0].get_title() == profiles["id"][5]
    assert panel.axes[0].get_xlabel() == "velocity (km/s)"


def test_an_unknown_panel_id_is_named(sample):
    _, profiles, flux, fits, asymmetry = sample
    with pytest.raises(ValueError, match="CIG999999"):
        features.draw_galaxy_figures(
            profiles, flux, fits, asymmetry, FeatureParameters(panel_id="CIG999999")
        )


def test_pages_say_how_many_galaxies_do_not_fit(sample):
    _, profiles, flux, fits, asymmetry = sample
    _, pages, _ = features.draw_galaxy_figures(
        profiles, flux, fits, asymmetry, FeatureParameters(figure_galaxies=4)
    )
    assert f"{len(profiles) - 4} more not shown" in pages[0].get_suptitle()


def test_features_of_the_baselines_are_indexed_by_galaxy(sample):
    _, profiles, _, fits, asymmetry = sample
    indices = features.baseline_features(profiles, fits, asymmetry)
    assert indices.index.tolist() == profiles["id"].tolist()
    np.testing.assert_allclose(indices["a_flux"], np.log(asymmetry["a_flux"]))
    offset = (asymmetry["equality_velocity"] - asymmetry["mid_velocity"]).abs() / fits["w20"]
    np.testing.assert_allclose(indices["equality_offset"], offset)
