"""Spectra on a common grid keep their flux, their noise and their lines."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom.raw_files import UnusableError
from skyloom.simulate.stellar_spectra import draw_truth, observe, wavelength_grid
from skyloom.spectra.constants import SPEED_OF_LIGHT
from skyloom.spectra.optical.preparation import (
    corrected_spectra,
    log_grid,
    normalise,
    on_common_grid,
    pixel_edges,
    pseudo_continuum,
    published_spectrum,
    rebin,
    scalogram,
    wrapped,
)
from skyloom.spectra.optical.spectrum import OpticalSpectrum

GRID = log_grid(3800, 8000)


def spectrum(flux, wavelength=None, **changes):
    wavelength = wavelength_grid() if wavelength is None else wavelength
    given = {
        "inverse_variance": np.full(len(flux), np.nan), "mask": np.zeros(len(flux), bool),
        "layout": "test", "medium": "vacuum",
    } | changes  # fmt: skip
    return OpticalSpectrum(wavelength, np.asarray(flux, float), **given)


def with_line(middle, velocity=0.0, **changes):
    """A flat spectrum with one absorption line that is shifted by a velocity."""
    wavelength = wavelength_grid()
    place = middle * (1 + velocity / SPEED_OF_LIGHT)
    flux = 1 - 0.6 * np.exp(-0.5 * ((wavelength - place) / 3) ** 2)
    return spectrum(flux, radial_velocity=velocity, **changes)


def test_a_logarithmic_grid_ends_where_it_should():
    grid = log_grid(3700, 9000, 1e-4)
    assert grid[0] == 3700
    assert 9000 / 10**1e-4 < grid[-1] <= 9000
    np.testing.assert_allclose(np.diff(np.log10(grid)), 1e-4)


@given(st.integers(50, 200), st.floats(0.3, 4.0), st.integers(0, 1000), st.floats(0, 0.3))
def test_rebinning_keeps_the_flux(n, ratio, seed, masked):
    rng = np.random.default_rng(seed)
    wavelength = np.cumsum(rng.uniform(0.5, 1.5, n)) + 4000
    flux, good = rng.random(n), rng.random(n) > masked
    good[n // 2] = True
    edges = pixel_edges(wavelength)
    new = np.linspace(edges[0] - 5, edges[-1] + 5, max(8, int(n / ratio)))
    mean, variance, coverage = rebin(wavelength, flux, np.ones(n), good, new)
    width = np.diff(pixel_edges(new))
    whole = (np.diff(edges) * flux * good).sum()
    assert np.nansum(np.nan_to_num(mean) * coverage * width) == pytest.approx(whole)
    assert (coverage * width).sum() == pytest.approx((np.diff(edges) * good).sum())
    assert (coverage >= -1e-12).all()
    assert (coverage <= 1 + 1e-9).all()
    assert np.isfinite(variance[coverage > 1e-9]).all()


def test_rebinning_to_the_same_grid_changes_nothing():
    rng = np.random.default_rng(0)
    wavelength, flux, variance = log_grid(4000, 4400), rng.random(414), rng.random(414) + 0.1
    mean, error, coverage = rebin(wavelength, flux, variance, np.ones(414, bool), wavelength)
    np.testing.assert_allclose(mean, flux, rtol=1e-6)
    np.testing.assert_allclose(error, variance, rtol=1e-6)
    np.testing.assert_allclose(coverage, 1)


@pytest.mark.parametrize("ratio", [0.5, 1.7, 4.0])
def test_the_noise_of_a_wide_band_is_what_the_variances_say(ratio):
    """Sums over many new pixels scatter as their variances add up to."""
    rng = np.random.default_rng(1)
    wavelength = 4000 + np.arange(400.0)
    grid = np.arange(4000.0, 4399, ratio)
    sums = []
    for _ in range(400):
        noise = rng.normal(0, 2, 400)
        mean, variance, _ = rebin(wavelength, noise, np.full(400, 4.0), np.ones(400, bool), grid)
        sums.append(mean[5:-5].sum())
    assert np.std(sums) == pytest.approx(np.sqrt(variance[5:-5].sum()), rel=0.12)


@pytest.mark.parametrize("velocity", [-400.0, 0.0, 250.0])
def test_a_star_is_seen_at_rest(velocity):
    flux, _, coverage = on_common_grid(with_line(6564.6, velocity), GRID)
    near = np.abs(GRID - 6564.6) < 30
    middle = np.average(GRID[near], weights=1 - flux[near])
    assert middle == pytest.approx(6564.6, abs=0.05)
    assert coverage == 1


def test_the_velocity_of_a_catalogue_goes_before_that_of_the_file():
    own = with_line(5000.0, 300.0)
    wrong = OpticalSpectrum(**(vars(own) | {"radial_velocity": np.nan}))
    right, _, errors = corrected_spectra([own], GRID)
    told, _, _ = corrected_spectra([wrong], GRID, velocities=[300.0])
    np.testing.assert_array_equal(right, told)
    unknown, _, _ = corrected_spectra([wrong], GRID, velocities=[np.nan])
    assert np.abs(unknown - right).max() > 0.3
    assert errors == [None]


def test_masked_pixels_leave_no_trace():
    clean, broken = with_line(5000.0), with_line(5000.0)
    broken.flux[1000:1003] = 1e6
    broken.mask[1000:1003] = True
    first, _, _ = corrected_spectra([clean], GRID)
    second, weight, _ = corrected_spectra([broken], GRID)
    assert np.abs(first - second).max() < 0.02
    assert (weight == 0).sum() in (3, 4)


def test_errors_are_those_of_normalised_fluxes():
    truth = draw_truth(
        40, np.random.default_rng(0), class_shares=(0, 0, 0, 1, 0, 0, 0), snr=(20, 40)
    )
    many = truth.iloc[np.zeros(200, int)]
    flux, inverse_variance = observe(many, np.random.default_rng(1))
    quiet = (GRID > 4500) & (GRID < 5500)
    spectra = [spectrum(f, inverse_variance=v, radial_velocity=0.0)
               for f, v in zip(flux, inverse_variance, strict=True)]  # fmt: skip
    corrected, weight, _ = corrected_spectra(spectra, GRID)
    pull = ((corrected - corrected.mean(axis=0)) * np.sqrt(weight))[:, quiet]
    # Neighbours share noise where a pixel lies across two, so each has a little less of it.
    assert 0.65 < pull.std() < 1.02


def test_a_continuum_is_followed_and_lines_stay():
    slope = np.linspace(0.5, 2.0, len(wavelength_grid()))
    flux, _, errors = corrected_spectra([spectrum(slope * with_line(5000.0).flux)], GRID)
    assert errors == [None]
    away = (np.abs(GRID - 5000) > 200) & (GRID > 4200) & (GRID < 7500)
    np.testing.assert_allclose(flux[0, away], 1, atol=0.03)
    assert flux[0].min() == pytest.approx(0.4, abs=0.05)


@given(st.floats(1e-20, 1e20))
def test_the_unit_of_the_flux_does_not_matter(factor):
    plain = spectrum(with_line(5000.0).flux, inverse_variance=np.full(3909, 100.0))
    scaled = spectrum(plain.flux * factor, inverse_variance=plain.inverse_variance / factor**2)
    first, weight, _ = corrected_spectra([plain], GRID)
    second, other, _ = corrected_spectra([scaled], GRID)
    np.testing.assert_allclose(first, second, rtol=1e-4)
    np.testing.assert_allclose(weight, other, rtol=1e-3)


def test_a_continuum_does_not_look_at_pixels_without_weight():
    flux, weight = np.ones((1, 500)), np.ones((1, 500))
    flux[0, 200:210], weight[0, 200:210] = 50.0, 0.0
    np.testing.assert_allclose(pseudo_continuum(flux, weight, 20), 1, rtol=1e-9)
    weight[:] = 0
    weight[0, 0] = 1
    np.testing.assert_allclose(pseudo_continuum(flux, weight, 5), 1, rtol=1e-6)


def test_where_nothing_is_known_there_is_the_continuum():
    flux, weight = normalise(np.full((1, 300), -2.0), np.ones((1, 300)), 20)
    assert (flux == 1).all()
    assert (weight == 0).all()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mask": np.arange(3909) > 2000}, "covers too little"),
        ({"mask": np.ones(3909, bool)}, "covers too little"),
        ({"flux": -with_line(5000.0).flux}, "no light"),
    ],
)
def test_spectra_that_cannot_be_used_say_why(changes, reason):
    bad = OpticalSpectrum(**(vars(with_line(5000.0)) | changes))
    flux, weight, errors = corrected_spectra([with_line(5000.0), bad], GRID)
    assert errors[0] is None
    assert errors[1].reason == reason
    assert (flux[1] == 1).all()
    assert (weight[1] == 0).all()


def test_spectra_do_not_depend_on_their_neighbours():
    truth = draw_truth(6, np.random.default_rng(2))
    flux, inverse_variance = observe(truth, np.random.default_rng(3))
    spectra = [spectrum(f, inverse_variance=v) for f, v in zip(flux, inverse_variance, strict=True)]
    together, _, _ = corrected_spectra(spectra, GRID)
    alone, _, _ = corrected_spectra(spectra[4:5], GRID)
    np.testing.assert_allclose(together[4:5], alone, rtol=1e-6)


# --- the published recipe -------------------------------------------------------------------------


def test_the_published_pixels_end_at_8287_angstrom():
    """3500 of LAMOST's pixels are fewer than its window has."""
    flux = np.ones(3909)
    line = np.argmin(np.abs(wavelength_grid() - 8287))
    flux[line - 1 : line + 2] = 0
    cut = published_spectrum(spectrum(flux))
    assert cut.shape == (3500,)
    assert (cut[:3480] == 1).all()
    assert np.argmin(cut) > 3490
    late = np.ones(3909)
    late[np.argmin(np.abs(wavelength_grid() - 8400)) :] = 0
    with pytest.raises(UnusableError, match="constant flux"):
        published_spectrum(spectrum(late))


def test_the_published_spectrum_is_smooth_and_runs_from_0_to_1():
    rng = np.random.default_rng(0)
    flux = 500 + 100 * rng.random(3909)
    cut = published_spectrum(spectrum(flux))
    assert (cut.min(), cut.max()) == (0, 1)
    # Pixel 0 is bluer than the window, the first two in it are dropped.
    expected = np.array([flux[k - 2 : k + 1].mean() for k in range(3, 3503)])
    np.testing.assert_allclose(cut, (expected - expected.min()) / np.ptp(expected), atol=1e-6)
    assert wavelength_grid()[3502] == pytest.approx(8287, abs=0.5)


def test_a_short_spectrum_is_filled_with_zeros():
    wavelength = np.arange(4000.0, 7000)
    cut = published_spectrum(spectrum(np.linspace(1, 2, 3000), wavelength))
    assert (cut[2990:3500] == 0).sum() >= 500
    with pytest.raises(UnusableError, match="no flux in the window"):
        published_spectrum(spectrum(np.linspace(1, 2, 100), np.arange(9000.0, 9100)))


# --- images ---------------------------------------------------------------------------------------


def test_a_wrapped_spectrum_is_read_row_by_row():
    image = wrapped(np.arange(20.0).reshape(2, 10), 3)
    assert image.shape == (2, 3, 3)
    assert image[1].ravel().tolist() == list(range(10, 19))


def test_a_scalogram_shows_a_line_at_its_place_and_scale():
    flux = np.ones((2, 1024))
    pixels = np.arange(1024)
    flux[0] -= 0.5 * np.exp(-0.5 * ((pixels - 300) / 3) ** 2)
    flux[1] -= 0.5 * np.exp(-0.5 * ((pixels - 800) / 40) ** 2)
    image = scalogram(flux, 16, 64)
    assert image.shape == (2, 16, 64)
    (fine, left), (coarse, right) = (
        np.unravel_index(np.argmin(each), each.shape) for each in image
    )
    assert (left, right) == (300 // 16, 800 // 16)
    assert fine < coarse
