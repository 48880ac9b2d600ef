"""Made-up stars look like stars of their class, and their noise is what they say."""

import io

import numpy as np
import pytest
from astropy.io import fits

from skyloom.simulate.stellar_spectra import (
    TEMPERATURES,
    draw_truth,
    emitted,
    observe,
    to_hdu,
    wavelength_grid,
)
from skyloom.spectra.optical.preparation import corrected_spectra, log_grid
from skyloom.spectra.optical.readers import read_spectrum
from skyloom.spectra.optical.spectral_types import CLASSES

WAVELENGTH = wavelength_grid()


def between(low, high):
    wavelength = wavelength_grid()
    return (wavelength > low) & (wavelength < high)


def stars(temperatures, **changes):
    """Stars that differ in nothing but their temperature."""
    truth = draw_truth(len(temperatures), np.random.default_rng(0))
    plain = ("metallicity", "hydrogen", "velocity", "reddening", "step", "tilt_blue", "tilt_red")
    usual = {"gravity": 4.3, "sky": 0.0} | dict.fromkeys(plain, 0.0)
    return truth.assign(temperature=np.asarray(temperatures, float), **(usual | changes))


def equivalent_width(flux, low, high, margin=25.0):
    """Equivalent widths (Angstrom) between two wavelengths, against a straight continuum."""
    inside = between(low, high)
    blue = between(low - margin, low)
    red = between(high, high + margin)
    ends = flux[:, blue].mean(axis=1), flux[:, red].mean(axis=1)
    share = (WAVELENGTH[inside] - low + margin / 2) / (high - low + margin)
    continuum = ends[0][:, None] * (1 - share) + ends[1][:, None] * share
    return ((1 - flux[:, inside] / continuum) * np.gradient(WAVELENGTH)[inside]).sum(axis=1)


def test_truths_have_their_classes_and_temperatures():
    truth = draw_truth(700, np.random.default_rng(0), class_shares=(1, 1, 2, 2, 2, 1, 1))
    assert truth["class"].value_counts().to_dict() == {
        "O": 70, "B": 70, "A": 140, "F": 140, "G": 140, "K": 70, "M": 70
    }  # fmt: skip
    for name, part in truth.groupby("class"):
        hot, cool = TEMPERATURES[name]
        assert part["temperature"].between(cool, hot).all()
    assert truth["snr"].between(8, 100).all()
    assert truth["id"].is_unique


def test_the_same_seed_gives_the_same_stars():
    first, second = (
        observe(draw_truth(3, np.random.default_rng(1)), np.random.default_rng(2))[0]
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("low", "high", "strongest"),
    [
        (4830, 4895, 9500),  # H beta
        (4681, 4693, 45000),  # He II
        (4463, 4480, 21000),  # He I
        (3922, 3947, 4300),  # Ca II K
        (5155, 5195, 4100),  # Mg b
        (5880, 5905, 3600),  # Na D
    ],
)  # fmt: skip
def test_lines_are_strongest_where_stars_have_them(low, high, strongest):
    temperatures = np.array([3600, 4200, 5600, 7000, 9500, 14000, 21000, 45000])
    width = equivalent_width(emitted(stars(temperatures)), low, high)
    best = temperatures[np.argmax(width)]
    assert abs(np.log(best / strongest)) < 0.25
    assert width.max() > 0.8


def test_giants_have_narrow_hydrogen_lines_and_m_stars_have_bands():
    dwarf, giant = (emitted(stars([9500.0], gravity=gravity)) for gravity in (4.3, 2.0))
    assert equivalent_width(dwarf, 4800, 4925)[0] > 1.4 * equivalent_width(giant, 4800, 4925)[0]
    cool, warm = emitted(stars([3000.0, 4500.0]))
    head, before = between(7060, 7100), between(7000, 7050)
    step = [np.median(each[head]) / np.median(each[before]) for each in (cool, warm)]
    assert step[0] < 0.6 < 0.95 < step[1]


def test_hydrogen_lines_of_an_a_star_have_the_width_of_real_ones():
    """Vega has 13 to 17 Angstrom in H beta."""
    assert 11 < equivalent_width(emitted(stars([9600.0])), 4790, 4935)[0] < 20


@pytest.mark.parametrize("velocity", [-300.0, 150.0])
def test_velocities_are_undone_by_the_preparation(velocity):
    row = stars([9500.0], velocity=velocity, snr=1e4)
    flux, inverse_variance = observe(row, np.random.default_rng(0))
    stream = io.BytesIO()
    fits.HDUList([to_hdu(row.iloc[0], flux[0], inverse_variance[0])]).writeto(stream)
    read = read_spectrum("a.fits", stream.getvalue())
    grid = log_grid(3900, 8500)
    corrected, _, _ = corrected_spectra([read], grid)
    for line in (4341.7, 4862.7, 6564.6):
        near = np.abs(grid - line) < 12
        depth = 1 - corrected[0, near] - (1 - corrected[0, near]).min()
        assert np.average(grid[near], weights=depth) == pytest.approx(line, abs=0.5)


def test_noise_is_as_large_as_its_variance_says():
    row = stars(np.full(400, 5800.0), snr=20.0)
    flux, inverse_variance = observe(row, np.random.default_rng(0))
    # Sky lines and telluric bands are no noise.
    quiet = (WAVELENGTH < 5500) | between(6400, 6850)
    pull = ((flux - flux.mean(axis=0)) * np.sqrt(inverse_variance))[:, quiet]
    assert pull.std() == pytest.approx(1, abs=0.02)
    g_band = between(4600, 5500)
    snr = np.median(flux[:, g_band] * np.sqrt(inverse_variance[:, g_band]))
    assert snr == pytest.approx(20, rel=0.1)
    blue = between(3700, 3900)
    assert np.median(inverse_variance[:, blue]) < 0.5 * np.median(inverse_variance[:, g_band])


def test_reddening_dims_the_blue():
    clear, red = (stars([9500.0], reddening=value, snr=1e5) for value in (0.0, 1.0))
    first, second = (observe(each, np.random.default_rng(0))[0][0] for each in (clear, red))
    blue, far = between(4400, 4420), between(8000, 8020)
    change = (second[blue].mean() / second[far].mean()) / (first[blue].mean() / first[far].mean())
    # A_V = 3.1; Cardelli et al.: A(4410)/A(V) = 1.33, A(8010)/A(V) = 0.60
    assert -2.5 * np.log10(change) == pytest.approx(3.1 * (1.33 - 0.60), rel=0.1)


def test_classes_can_be_told_apart_and_neighbours_are_alike():
    """The mean spectrum of the own class is nearest for most, a neighbour's for the rest."""
    truth = draw_truth(700, np.random.default_rng(0), snr=(30, 100))
    flux, _ = observe(truth, np.random.default_rng(1))
    number = truth["class"].map(CLASSES.index).to_numpy()
    scaled = flux / np.median(flux, axis=1, keepdims=True)
    scaled = np.log(np.clip(scaled, 0.05, None))
    means = np.stack([scaled[number == k].mean(axis=0) for k in range(7)])
    nearest = np.argmin(((scaled[:, None] - means) ** 2).sum(axis=2), axis=1)
    assert (nearest == number).mean() > 0.55
    assert (np.abs(nearest - number) <= 1).mean() > 0.9
