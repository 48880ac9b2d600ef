"""Spectra are prepared and measured in chunks as they would be one by one."""

import numpy as np
import pandas as pd
import pytest

from skyloom.learning.fitting import TrainingParameters
from skyloom.pipelines.stellar_spectra import features as module
from skyloom.pipelines.stellar_spectra.features import (
    as_input,
    draw_inputs,
    lines_of,
    measure_stars,
    prepare_sample,
    wavelengths,
)
from skyloom.pipelines.stellar_spectra.ingestion import configure_sweep
from skyloom.pipelines.stellar_spectra.parameters import (
    AugmentationParameters,
    FeatureParameters,
    NetworkParameters,
    SweepsParameters,
)
from skyloom.simulate.stellar_spectra import draw_truth, observe, wavelength_grid
from skyloom.spectra.optical.preparation import (
    corrected_spectra,
    scalogram,
    stack_spectra,
    unstack_spectra,
)
from skyloom.spectra.optical.spectrum import OpticalSpectrum

FEATURES = FeatureParameters(low=4000, high=6800, step=5e-4, height=8)
TRUTH = draw_truth(9, np.random.default_rng(3), snr=(50.0, 60.0))


def sweep_of(features=FEATURES, **grid):
    grid = {f"features.{name}": values for name, values in grid.items()}
    grid = grid or {"features.form": ["spectrum"]}
    sweeps = SweepsParameters(chosen="a", named={"a": {"grid": grid}})
    return configure_sweep(
        sweeps, features, AugmentationParameters(), NetworkParameters(), TrainingParameters()
    )


def spectra_of(truth):
    flux, weight = observe(truth, np.random.default_rng(4))
    nothing = np.zeros(flux.shape[1], bool)
    return [
        OpticalSpectrum(wavelength_grid(), one.astype(float), ivar.astype(float), nothing.copy(),
                        "test", medium="vacuum", radial_velocity=velocity)
        for one, ivar, velocity in zip(flux, weight, truth["velocity"], strict=True)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def sample():
    spectra = spectra_of(TRUTH)
    # One of them ends early, one is shorter in pixels.
    short = spectra[2]
    cut = slice(0, 500)
    spectra[2] = OpticalSpectrum(
        short.wavelength[cut], short.flux[cut], short.inverse_variance[cut], short.mask[cut],
        "test", medium="vacuum", radial_velocity=0.0,
    )  # fmt: skip
    stars = pd.DataFrame(
        {
            "id": TRUTH["id"], "class": TRUTH["class"], "velocity": TRUTH["velocity"],
            "n_pixels": [len(each.flux) for each in spectra], "keep": True, "reason": "",
            "value": "",
        }
    )  # fmt: skip
    return stars, spectra, stack_spectra(spectra)


@pytest.mark.parametrize("chunk", [2, 256])
def test_chunks_change_nothing(sample, monkeypatch, chunk):
    stars, spectra, stack = sample
    monkeypatch.setattr(module, "_CHUNK", chunk)
    (prepared,) = prepare_sample(stars, stack, sweep_of()).values()
    expected, _, _ = corrected_spectra(
        spectra, FEATURES.grid, width=FEATURES.continuum_width / FEATURES.step,
        min_coverage=FEATURES.min_coverage,
    )  # fmt: skip
    np.testing.assert_allclose(prepared.compute(), expected, atol=2e-3)
    kept, lines = measure_stars(stars, stack, sweep_of())
    assert lines["id"].tolist() == stars["id"].tolist()
    assert kept["keep"].tolist() == [k != 2 for k in range(len(stars))]
    assert kept.loc[2, "reason"] == "covers too little"
    assert lines.loc[lines.index != 2, "H beta"].notna().all()
    assert lines.loc[2].drop("id").isna().all()


def test_a_spectrum_must_be_usable_in_every_preparation(sample):
    stars, _, stack = sample
    sweep = sweep_of(preparation=["corrected", "published"])
    kept, _ = measure_stars(stars, stack, sweep)
    assert kept["keep"].sum() == 8
    prepared = prepare_sample(stars, stack, sweep)
    assert sorted(flux.shape[1] for flux in prepared.values()) == [FEATURES.n_pixels, 3500]


@pytest.mark.parametrize("form", ["spectrum", "published", "wrapped", "scalogram"])
def test_inputs_have_the_shape_that_a_network_is_told(sample, form):
    stars, _, stack = sample
    sweep = sweep_of(form=[form])
    prepared = prepare_sample(stars, stack, sweep)
    known = {name: flux.compute for name, flux in prepared.items()}
    features = FEATURES.model_copy(update={"form": form})
    base = known[features.prepared]()
    (inputs,) = draw_inputs(known, sweep).values()
    assert inputs.dtype == np.float32
    assert inputs.shape == (9, *features.input_shape)
    found = inputs.compute()
    np.testing.assert_array_equal(found, as_input(base, features))
    departures = np.clip(base, 0, 2) - 1
    if form == "scalogram":
        expected = scalogram(departures + 1, 8, features.n_columns)[..., None]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    else:
        np.testing.assert_allclose(found.reshape(9, -1), departures[:, : found[0].size], atol=1e-6)


def test_spikes_beyond_the_continuum_are_cut():
    flux = np.array([[1.0, 40.0, -30.0, 0.5] * 20], np.float32)
    features = FeatureParameters(low=4000, high=4000 * 10 ** (79.5 * 5e-4), step=5e-4, height=8)
    shown = as_input(flux, features)[..., 0]
    np.testing.assert_array_equal(shown[0, :4], [0, 1, -1, -0.5])


def test_wavelengths_of_published_pixels_are_the_true_ones():
    published = FeatureParameters(preparation="published")
    grid = wavelengths(published)
    assert len(grid) == 3500
    assert grid[-1] == pytest.approx(8285, abs=1)  # not 8671.6
    line = 1 - 0.5 * np.exp(-0.5 * ((wavelength_grid() - 6564.6) / 3) ** 2)
    spectrum = OpticalSpectrum(
        wavelength_grid(), line, np.full(len(line), np.nan), np.zeros(len(line), bool), "test",
        medium="vacuum",
    )  # fmt: skip
    flux, _, _ = module.prepare_spectra([spectrum], published)
    assert grid[flux[0].argmin()] == pytest.approx(6564.6, abs=0.8)
    np.testing.assert_array_equal(wavelengths(FEATURES), FEATURES.grid)
    # Neither continuum nor rest frame: no equivalent widths.
    assert lines_of(flux, published).isna().all(axis=None)


def test_lines_of_made_spectra_are_those_of_the_same_observed_ones(sample):
    stars, _, stack = sample
    (prepared,) = prepare_sample(stars, stack, sweep_of()).values()
    _, measured = measure_stars(stars, stack, sweep_of())
    again = lines_of(prepared.compute(), FEATURES)
    rows = [k for k in range(9) if k != 2]
    np.testing.assert_allclose(again.loc[rows, "H beta"], measured.loc[rows, "H beta"], atol=0.05)


def test_a_stack_gives_back_what_was_read(sample):
    _, spectra, stack = sample
    lengths = [len(each.flux) for each in spectra]
    again = unstack_spectra(stack, lengths, [each.radial_velocity for each in spectra])
    for one, other in zip(spectra, again, strict=True):
        np.testing.assert_allclose(other.wavelength, one.wavelength, rtol=1e-7)
        unit = np.median(np.abs(one.flux))
        np.testing.assert_allclose(other.flux * unit, one.flux, rtol=1e-5)
        np.testing.assert_allclose(
            other.inverse_variance / unit**2, one.inverse_variance, rtol=1e-5
        )
        assert other.radial_velocity == one.radial_velocity
        assert other.medium == "vacuum"
    assert stack_spectra([]).shape == (0, 4)


def test_tiny_fluxes_keep_their_noise():
    wavelength = wavelength_grid()
    flux = np.full(len(wavelength), 3e-17)
    spectrum = OpticalSpectrum(
        wavelength, flux, np.full(len(flux), 1e36), np.zeros(len(flux), bool), "test",
        medium="vacuum",
    )  # fmt: skip
    (again,) = unstack_spectra(stack_spectra([spectrum]), [len(flux)], [0.0])
    assert np.isfinite(again.inverse_variance).all()
    np.testing.assert_allclose(again.flux**2 * again.inverse_variance, 900, rtol=1e-5)
