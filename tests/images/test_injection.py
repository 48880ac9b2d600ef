"""Stars that are put into an image look like its own."""

import numpy as np
import pandas as pd
import pytest

from skyloom.images.injection import (
    StarTemplates,
    draw_injected,
    inject_stars,
    measure_templates,
    usual_templates,
)
from skyloom.images.stars import cut_stamps, matched_filter

SIZE = 240
FWHM = 3.0
SIGMA = FWHM / np.sqrt(8 * np.log(2))


def stars_of(snr, *, size=SIZE, seed=0):
    """Isolated stars of given S/N."""
    rng = np.random.default_rng(seed)
    place = np.arange(20, size - 19, 24)
    x, y = (each.ravel()[: len(snr)] for each in np.meshgrid(place, place))
    x, y = (each + rng.uniform(-0.5, 0.5, each.size) for each in (x, y))
    return pd.DataFrame({"x": x, "y": y, "snr": snr[: len(x)]})


def picture(stars, *, size=SIZE, fwhm=FWHM, seed=0):
    """Gaussians on noise of 1."""
    y, x = np.mgrid[:size, :size]
    image = np.random.default_rng(seed).normal(size=(size, size))
    sigma = fwhm / np.sqrt(8 * np.log(2))
    for star in stars.itertuples():
        apart = (x - star.x) ** 2 + (y - star.y) ** 2
        image += star.snr / (np.sqrt(np.pi) * sigma) * np.exp(-0.5 * apart / sigma**2)
    return image.astype(np.float32)


def width(stamp):
    """Of a disc of the area above half of the peak, of a finer image."""
    from scipy import ndimage

    fine = ndimage.zoom(stamp.astype(float), 5, order=3)
    return 2 * np.sqrt((fine > 0.5 * fine.max()).sum() / np.pi) / 5


@pytest.mark.parametrize("fwhm", [2.5, 3.0, 4.5])
def test_injected_stars_are_as_wide_as_those_of_the_image(fwhm):
    """Stars that are put in are narrower or wider than those that were there."""
    snr = np.exp(np.random.default_rng(1).uniform(np.log(15), np.log(190), 81))
    own = stars_of(snr)
    templates = measure_templates(picture(own, fwhm=fwhm), own)
    assert len(templates.snr) == 3
    assert (np.diff(templates.snr) > 0).all()
    for stamp in templates.stamps:
        assert width(stamp) == pytest.approx(fwhm, rel=0.15)
    further = stars_of(np.full(81, 100.0), seed=2)
    made = inject_stars(np.zeros((SIZE, SIZE), np.float32), further, templates)
    stamps, _ = cut_stamps(made, further, 12)
    assert width(np.median(stamps, axis=0)) == pytest.approx(fwhm, rel=0.15)
    assert made.dtype == np.float32


def test_bright_stars_are_wider_where_the_image_saturates():
    """A bright star that is put in is a faint one made larger, though bright ones saturate."""
    snr = np.repeat([20.0, 50.0, 120.0, 300.0, 2000.0], 16)
    own = stars_of(snr)
    image = np.minimum(picture(own), 60)
    templates = measure_templates(image, own)
    assert len(templates.snr) == 5
    wide = [width(stamp) for stamp in templates.stamps]
    assert wide[4] > 1.5 * wide[0]
    assert wide[3] > wide[1]
    assert templates.stamps.max() < 66
    # Nor may one that is put in go beyond the saturation.
    made = inject_stars(image, stars_of(np.full(9, 8000.0), seed=3), templates, highest=60.0)
    assert made.max() == pytest.approx(image.max())


@pytest.mark.parametrize("kind", ["usual", "measured"])
def test_light_is_in_proportion_to_the_snr(kind):
    """What is put in is not as bright as it is said to be."""
    snr = np.exp(np.random.default_rng(1).uniform(np.log(15), np.log(75), 81))
    own = stars_of(snr)
    templates = usual_templates(FWHM)
    if kind == "measured":
        templates = measure_templates(picture(own), own)
        templates = StarTemplates(templates.snr[:1], templates.stamps[:1])
    flat = np.zeros((SIZE, SIZE), np.float32)
    light = []
    for value in (10.0, 20.0, 40.0):
        star = pd.DataFrame({"x": [100.0], "y": [100.0], "snr": [value]})
        light.append(inject_stars(flat, star, templates).sum())
    np.testing.assert_allclose(light, light[0] * np.array([1, 2, 4]), rtol=1e-4)
    # And the filter finds them with that S/N.
    for value in (15.0, 30.0):
        further = stars_of(np.full(81, value), seed=2)
        made = inject_stars(picture(own[:0], seed=5), further, templates)
        found = matched_filter(made, FWHM)
        row, column = (further[name].round().astype(int) for name in "yx")
        assert np.median(found[row, column]) == pytest.approx(value, rel=0.15)


def test_the_brightest_bin_is_not_led_by_its_brightest_star():
    """One very bright star makes all the others of its bin too faint."""
    snr = np.concatenate([np.full(30, 700.0), np.full(6, 20_000.0)])
    own = stars_of(snr)
    templates = measure_templates(picture(own), own)
    assert len(templates.snr) == 1
    star = pd.DataFrame({"x": [100.0], "y": [100.0], "snr": [700.0]})
    made = inject_stars(np.zeros((SIZE, SIZE), np.float32), star, templates)
    assert made.max() == pytest.approx(700 / (np.sqrt(np.pi) * SIGMA), rel=0.15)


def test_pixels_without_data_stay_so_and_others_are_lit():
    """Stars at the edges or beside masked pixels end in an error, or fill the mask."""
    image = np.ones((40, 50), np.float32)
    image[10:12] = np.nan
    stars = pd.DataFrame(
        {"x": [-0.5, 49.5, 20.0, 60.0, -300.0], "y": [0.0, 39.5, 13.0, 20.0, 5.0], "snr": 50.0}
    )
    made = inject_stars(image, stars, usual_templates(FWHM))
    np.testing.assert_array_equal(np.isnan(made), np.isnan(image))
    assert made.shape == image.shape
    assert made[0, 0] > 3
    assert made[39, 49] > 3
    assert made[13, 20] > 3
    none = inject_stars(image, stars[:0], usual_templates(FWHM))
    np.testing.assert_array_equal(none, image)


def test_an_image_without_stars_has_no_templates():
    """Where there are too few stars, there is an exception instead of no template."""
    image = np.random.default_rng(0).normal(size=(64, 64))
    for stars in (stars_of(np.full(3, 50.0), size=64), stars_of(np.zeros(0), size=64)):
        templates = measure_templates(image, stars)
        assert templates.snr.shape == (0,)
        assert templates.stamps.shape == (0, 25, 25)


def test_drawn_stars_are_as_many_as_asked_for():
    """The density of the stars that are put in is another one than that asked for."""
    templates = usual_templates(FWHM)
    drawn = draw_injected(templates, (500, 400), 4.0, np.random.default_rng(0))
    assert (drawn["snr"] > 5).sum() == pytest.approx(4 * 200, rel=0.15)
    assert drawn["snr"].between(2, 40).all()
    assert drawn["x"].between(-0.5, 399.5).all()
    assert drawn["y"].between(-0.5, 499.5).all()
