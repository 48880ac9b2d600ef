"""Made-up fields have the stars that they say, as bright and as sharp as they say."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from skyloom.simulate.star_fields import (
    DETECTORS,
    add_stars,
    draw_fields,
    flux_of_unit_snr,
    moffat,
    observe_field,
    sky_noise,
)


def fields(n=6, seed=0, **changes):
    return draw_fields(n, np.random.default_rng(seed), **changes)


def plain(**changes):
    """A field without anything but round stars on an even sky."""
    field = fields(1, photographic_share=0, artefact_share=0, nebulosity_share=0).iloc[0].copy()
    quiet = {"gradient": 0.0, "fwhm_gradient": 0.0, "ellipticity": 0.0, "galaxy_share": 0.0}
    quiet |= {"halo": 0.0, "spikes": 0.0, "cluster_share": 0.0}
    for name, value in (quiet | changes).items():
        field[name] = value
    return field


def test_the_same_seed_gives_the_same_image():
    pd.testing.assert_frame_equal(fields(), fields())
    one, other = (
        observe_field(fields().iloc[0], np.random.default_rng(3), size=64) for _ in range(2)
    )
    np.testing.assert_array_equal(one.image, other.image)
    pd.testing.assert_frame_equal(one.stars, other.stars)


def test_density_artefacts_and_detector_are_drawn_independently():
    table = fields(3000)
    numbers = table.assign(plate=table["detector"] == DETECTORS[1])
    numbers["artefacts"] = table.filter(regex="^n_").sum(axis=1) > 0
    found = numbers[["density", "plate", "artefacts", "fwhm"]].astype(float).corr("spearman")
    assert np.abs(found.to_numpy()[np.triu_indices(4, 1)]).max() < 0.07


@pytest.mark.parametrize("beta", [2.5, 4.0])
@pytest.mark.parametrize("fwhm", [1.8, 4.0])
def test_a_star_has_its_flux_and_its_width(fwhm, beta):
    field = plain(fwhm=fwhm, beta=beta)
    light = np.zeros((181, 181))
    add_stars(light, pd.DataFrame({"x": [90.3], "y": [89.8], "flux": [1e6]}), field)
    assert light.sum() == pytest.approx(1e6, rel=0.02)  # the wings reach beyond the image
    centre = ndimage.center_of_mass(light[80:101, 80:101])
    assert centre == pytest.approx((9.8, 10.3), abs=0.05)
    half = moffat(np.array([fwhm / 2]), np.zeros(1), fwhm, beta)
    assert half / moffat(np.zeros(1), np.zeros(1), fwhm, beta) == pytest.approx(0.5)


def test_stars_beyond_the_edge_shine_in():
    light = np.zeros((40, 40))
    add_stars(light, pd.DataFrame({"x": [-2.0], "y": [20.0], "flux": [1e4]}), plain())
    assert light[20, 0] > 0


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_snr_of_a_star_is_that_of_the_matched_filter(detector):
    """Faint stars at known places; the filter has the star's own profile."""
    rng = np.random.default_rng(1)
    field = plain(detector=detector, fwhm=3.0, beta=3.5, density=1e-6, sky=500.0)
    unit = flux_of_unit_snr(3.0, 3.5, sky_noise(field))
    size, grid = 300, np.arange(-12, 13)
    kernel = moffat(grid[None, :], grid[:, None], 3.0, 3.5)
    places = np.arange(20, 290, 30)
    x, y = (each.ravel().astype(float) for each in np.meshgrid(places, places))
    from skyloom.simulate import star_fields

    light = np.full((size, size), field["sky"])
    add_stars(light, pd.DataFrame({"x": x, "y": y, "flux": 5 * unit}), field)
    develop = star_fields._read_out if detector == DETECTORS[0] else star_fields._expose_plate
    image, _ = develop(light, field, rng)
    filtered = ndimage.correlate(image - np.median(image), kernel)
    empty = np.ones((size, size), bool)
    for column, row in zip(x.astype(int), y.astype(int), strict=True):
        empty[row - 10 : row + 11, column - 10 : column + 11] = False
    snr = filtered[y.astype(int), x.astype(int)] / filtered[empty].std()
    assert np.mean(snr) == pytest.approx(5, rel=0.15)


def test_bright_stars_are_saturated_and_wider_on_a_plate():
    field = plain(detector="photographic", full_well=5e4)
    light = np.full((120, 120), field["sky"])
    unit = flux_of_unit_snr(field["fwhm"], field["beta"], sky_noise(field))
    stars = pd.DataFrame({"x": [30.0, 90.0], "y": [60.0, 60.0], "flux": [20 * unit, 2000 * unit]})
    add_stars(light, stars, field)
    from skyloom.simulate.star_fields import _expose_plate

    density, highest = _expose_plate(light, dict(field) | {"grain": 1e-6}, np.random.default_rng(0))
    assert density.max() <= highest / 0.97
    profile = density[60] - np.median(density)
    widths = [
        (profile[part] > profile[part].max() / 2).sum() for part in (slice(60), slice(60, None))
    ]
    assert widths[1] > widths[0] + 1


def test_every_kind_of_field_is_finite_and_says_what_is_in_it():
    for number, field in fields(8, 5, photographic_share=0.5, artefact_share=1).iterrows():
        seen = observe_field(field, np.random.default_rng(number), size=72)
        assert seen.image.shape == (72, 72)
        assert np.isfinite(seen.image).all()
        assert np.ptp(seen.image) > 0
        assert (seen.image <= seen.saturation / 0.97 + 1).all()
        assert seen.stars[["x", "y", "flux", "snr", "magnitude"]].notna().all(axis=None)
        assert (seen.stars["snr"] > 0).all()


def test_more_stars_where_the_density_is_larger():
    numbers = [
        (observe_field(plain(density=d), np.random.default_rng(0), size=100).stars["snr"] > 5).sum()
        for d in (1.0, 8.0)
    ]
    area = 124**2 / 1000
    assert numbers == pytest.approx([area, 8 * area], rel=0.35)


def test_a_measured_star_stands_in_for_the_profile():
    """A long star, as of a telescope that trailed, with its own flux."""
    y, x = np.mgrid[-10:11, -10:11]
    trailed = np.exp(-0.5 * ((x / 4) ** 2 + (y / 1.2) ** 2))
    field = plain(fwhm=3.0)
    light = np.zeros((81, 81))
    star = pd.DataFrame({"x": [40.0], "y": [40.0], "flux": [500.0]})
    add_stars(light, star, field, trailed / trailed.sum())
    assert light.sum() == pytest.approx(500, rel=1e-3)
    row, column = (np.average(grid, weights=light) for grid in np.mgrid[:81, :81])
    assert (row, column) == pytest.approx((40, 40), abs=1e-6)
    spread = [np.average((grid - 40) ** 2, weights=light) for grid in np.mgrid[:81, :81]]
    assert spread[1] > 5 * spread[0]
    seen = observe_field(field, np.random.default_rng(0), size=64, star=trailed)
    assert np.isfinite(seen.stars["snr"]).all()
