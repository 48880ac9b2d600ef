"""Line indices recover what was put in, within the errors they report."""

import numpy as np
import pytest

from skyloom.simulate.stellar_spectra import draw_truth, observe, wavelength_grid
from skyloom.spectra.optical.line_indices import LINE_INDICES, line_indices
from skyloom.spectra.optical.preparation import log_grid

GRID = log_grid(3850, 7400)


def flat(n=1, level=3.0, noise=0.01, seed=0):
    rng = np.random.default_rng(seed)
    flux = np.full((n, len(GRID)), level) + noise * rng.standard_normal((n, len(GRID)))
    return flux, np.full(flux.shape, noise**-2)


def test_every_band_lies_between_its_side_bands_and_inside_the_surveys():
    for name, index in LINE_INDICES.items():
        assert index.blue[0] < index.blue[1], name
        assert index.band[0] < index.band[1], name
        assert index.red[0] < index.red[1], name
        assert 3850 < index.blue[0], name  # noqa: SIM300
        assert index.red[1] < 7300, name


@pytest.mark.parametrize("name", ["H beta", "He II 4542", "Na D", "Ca I 4227"])
def test_a_line_has_the_width_that_was_put_in(name):
    index = LINE_INDICES[name]
    middle = np.mean(index.band)
    for width in (0.3, 1.5):
        flux, weight = flat(noise=1e-4)
        profile = np.exp(-0.5 * ((GRID - middle) / 1.5) ** 2) / (1.5 * np.sqrt(2 * np.pi))
        flux *= 1 - width * profile
        flux *= 1 + 0.1 * (GRID - middle) / 100  # a slope is continuum, not line
        found, _ = line_indices(GRID, flux, weight)
        assert found[name][0] == pytest.approx(width, rel=0.06, abs=0.01)


def test_errors_cover_the_truth():
    flux, weight = flat(600, noise=0.15)
    widths, errors = line_indices(GRID, flux, weight)
    inside = (widths.abs() < errors).mean()
    assert inside.between(0.61, 0.75).all(), inside


@pytest.mark.parametrize("factor", [1e-17, 1e6])
def test_the_unit_of_the_flux_does_not_matter(factor):
    flux, weight = flat(3)
    first = line_indices(GRID, flux, weight)
    second = line_indices(GRID, flux * factor, weight / factor**2)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


def test_a_gap_is_left_out_and_too_large_a_one_leaves_nothing():
    flux, weight = flat(2, noise=1e-4)
    index = LINE_INDICES["H beta"]
    middle = np.mean(index.band)
    small = np.abs(GRID - middle) < 4
    large = (index.band[0] < GRID) & (index.band[1] - 5 > GRID)
    flux[0, small], weight[0, small] = 1e9, 0
    flux[1, large], weight[1, large] = 1e9, 0
    widths, errors = line_indices(GRID, flux, weight)
    assert widths["H beta"][0] == pytest.approx(0, abs=0.01)
    assert np.isnan(widths["H beta"][1])
    assert np.isnan(errors["H beta"][1])
    assert np.isfinite(widths["Na D"]).all()


def test_what_is_not_in_the_spectrum_is_not_measured():
    short = log_grid(4500, 6000)
    widths, _ = line_indices(short, np.ones((1, len(short))), np.ones((1, len(short))))
    assert widths.loc[0, ["Ca II K", "H alpha"]].isna().all()
    assert widths.loc[0, ["H beta", "Na D"]].notna().all()


def test_dark_spectra_have_no_widths():
    widths, _ = line_indices(GRID, np.full((1, len(GRID)), -1.0), np.ones((1, len(GRID))))
    assert widths.isna().all(axis=None)


def test_lines_tell_the_classes_of_simulated_stars():
    truth = draw_truth(140, np.random.default_rng(0), snr=(60, 100), velocity=0.0)
    flux, weight = observe(truth, np.random.default_rng(1))
    widths, _ = line_indices(wavelength_grid(), flux.astype(float), weight.astype(float))
    mean = widths.groupby(truth["class"]).mean()
    assert mean["He II 4542"].idxmax() == "O"
    assert mean["He I 4471"].idxmax() == "B"
    assert mean["H beta"].idxmax() == "A"
    assert mean["Ca II K"].idxmax() in ("G", "K")
    assert mean["TiO 7050"].idxmax() == "M"
