import io

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from matplotlib.figure import Figure
from PIL import Image

from skyloom.images.rings import published_image
from skyloom.pipelines.hi_profiles import features
from skyloom.pipelines.hi_profiles.ingestion import ingest_spectra
from skyloom.pipelines.hi_profiles.parameters import FeatureParameters, IngestionParameters
from skyloom.simulate.hi_profiles import draw_truth, to_hdu


@pytest.fixture(scope="module")
def sample():
    truth = draw_truth(14, np.random.default_rng(2), snr_median=60.0)
    files = {}
    for i, row in truth.iterrows():
        buffer = io.BytesIO()
        astropy_fits.HDUList([to_hdu(row, np.random.default_rng(i))]).writeto(buffer)
        files[f"{row['id']}.fits"] = buffer.getvalue
    import pandas as pd

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
    images = features.draw_images(profiles, spoiled, fits, FeatureParameters(size=8)).compute()
    assert (images[0] == 0).all()


def test_images_are_computed_only_when_they_are_needed(sample):
    _, profiles, flux, fits, _ = sample
    images = features.draw_images(profiles, flux, fits, FeatureParameters(size=16))
    assert images.shape == (len(profiles), 3, 16, 16, 1)
    assert images.dtype == np.float32
    values = images.compute()
    assert np.isfinite(values).all()
    assert (np.abs(values[:, 1]).max((1, 2, 3)) > 0.02).all()


def test_lopsided_galaxies_have_stronger_images(sample):
    truth, profiles, flux, fits, _ = sample
    images = features.draw_images(profiles, flux, fits, FeatureParameters(size=16)).compute()
    strength = np.abs(images[:, 1]).mean((1, 2, 3))
    assert np.corrcoef(strength, truth["channel_asymmetry"])[0, 1] > 0.6


def test_published_rendering_is_the_published_picture(sample):
    _, profiles, flux, fits, _ = sample
    parameters = FeatureParameters(rendering="published", quadrant=False, size=32)
    images = features.draw_images(profiles, flux, fits, parameters).compute()
    assert images.dtype == np.uint8
    line = features.line_geometry(profiles.iloc[[3]], flux[[3]], fits.iloc[[3]])
    cut = features.published_cut(line, 0)
    width = profiles["channel_width"][3]
    assert len(cut) == pytest.approx(2 * (fits["w50"][3] / width + 5) + 1, abs=2)
    np.testing.assert_array_equal(images[3, 1], published_image(cut, 2, 32))


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
