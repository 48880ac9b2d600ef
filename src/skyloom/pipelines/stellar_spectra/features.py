"""Node functions of the features: what a network sees, and the strengths of lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from skyloom.pipelines.stellar_spectra.parameters import FeatureParameters, Sweep
from skyloom.raw_files import UnusableError
from skyloom.simulate.stellar_spectra import wavelength_grid
from skyloom.spectra.optical.line_indices import LINE_INDICES, line_indices
from skyloom.spectra.optical.preparation import (
    PUBLISHED_WINDOW,
    corrected_spectra,
    published_spectrum,
    scalogram,
    unstack_spectra,
    wrapped,
)
from skyloom.spectra.optical.spectral_types import CLASSES
from skyloom.spectra.optical.spectrum import OpticalSpectrum

_CHUNK = 256
_N_SHOWN = 6  # stars of a class in the figure of the sample
# Lines by which a star is told to be like those of the sample.
_LIKENESS = ("H delta", "G band", "H gamma", "Fe I 4383", "H beta", "Mg b", "Na D", "TiO 6200")


def prepare_spectra(
    spectra: list[OpticalSpectrum], features: FeatureParameters
) -> tuple[np.ndarray, np.ndarray, list[UnusableError | None]]:
    """Spectra that can be compared with each other.

    Returns
    -------
    flux : numpy.ndarray of float32, shape (n, n_pixels)
        Corrected or as published; constant where a spectrum cannot be used.
    inverse_variance : numpy.ndarray of float32, shape (n, n_pixels)
        Of it; 0 where nothing is known, 1 everywhere in published ones.
    errors : list of UnusableError or None
        Why a spectrum cannot be used.
    """
    if features.preparation == "corrected":
        return corrected_spectra(
            spectra,
            features.grid,
            width=features.continuum_width / features.step,
            min_coverage=features.min_coverage,
        )
    flux = np.zeros((len(spectra), features.n_pixels), np.float32)
    errors: list[UnusableError | None] = [None] * len(spectra)
    for k, spectrum in enumerate(spectra):
        try:
            flux[k] = published_spectrum(spectrum)
        except UnusableError as error:
            errors[k] = error
    return flux, np.ones_like(flux), errors


def as_input(flux: np.ndarray, features: FeatureParameters) -> np.ndarray:
    """Prepared spectra in the shape of the network's input.

    Parameters
    ----------
    flux : numpy.ndarray, shape (n, n_pixels)
        Prepared as the features say.

    Returns
    -------
    numpy.ndarray of float32, shape (n, *features.input_shape)
        Corrected spectra as departures from their continuum, from -1 to 1: a network learns them
        sooner than spectra that are about 1 everywhere, and what is beyond is noise.
    """
    if features.preparation == "corrected":
        flux = np.clip(flux, 0, 2)
    if features.form == "scalogram":
        flux = scalogram(flux, features.height, features.n_columns)
    elif features.preparation == "corrected":
        flux = flux - 1
    if features.form == "wrapped":
        flux = wrapped(flux, features.height)
    return np.ascontiguousarray(flux.reshape(len(flux), *features.input_shape), np.float32)


def measure_stars(
    stars: pd.DataFrame, stacked_spectra: np.ndarray, sweep: Sweep
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure lines, and find the spectra that cannot be prepared.

    Returns
    -------
    sample : pandas.DataFrame
        The stars, with the reason why further ones are not kept.
    measurements : pandas.DataFrame
        ``id``, equivalent widths (Angstrom) by the name of the line and, with ``error of`` before
        it, their standard errors.
    """
    table, errors = measure_all(stars, stacked_spectra, list(sweep.preparations.values()))
    sample = stars.copy()
    for label, error in zip(stars.index, errors, strict=True):
        if error is not None and sample.loc[label, "keep"]:
            sample.loc[label, ["keep", "reason", "value"]] = [False, *error]
    return sample, table


def measure_all(
    stars: pd.DataFrame, spectra: np.ndarray, preparations: list[FeatureParameters]
) -> tuple[pd.DataFrame, list[tuple[str, str] | None]]:
    """Measure lines, and find out why a spectrum cannot be prepared in one of some ways.

    Parameters
    ----------
    stars, spectra
        As in `measure_stars`.
    preparations : list of FeatureParameters
        How spectra are to be prepared; lines are measured on the grid of the first.

    Returns
    -------
    measurements : pandas.DataFrame
        As of `measure_stars`.
    errors : list of tuple of (str, str) or None
        Reason and value, where a spectrum cannot be used.
    """
    import dask

    base = preparations[0].model_copy(update={"preparation": "corrected"})
    others = [each for each in preparations if each.prepared != base.prepared]
    parts = _in_chunks(_measure, stars, spectra, base, others, len(others) < len(preparations))
    measured = dask.compute(*(part for part, _ in parts), scheduler="threads")
    table = pd.concat([widths for widths, _ in measured], ignore_index=True)
    table.insert(0, "id", stars["id"].to_numpy())
    return table, [error for _, part in measured for error in part]


def lines_of(flux: np.ndarray, features: FeatureParameters) -> pd.DataFrame:
    """Equivalent widths of lines in prepared spectra, such as made ones.

    Returns
    -------
    pandas.DataFrame
        Equivalent widths (Angstrom) by the name of the line. All NaN of the published
        preparation, which has neither a continuum nor a rest frame.
    """
    if features.preparation != "corrected":
        return pd.DataFrame(np.nan, index=range(len(flux)), columns=list(LINE_INDICES))
    widths, _ = line_indices(wavelengths(features), flux.astype(float), np.ones(flux.shape))
    return widths


def line_widths(measurements: pd.DataFrame) -> pd.DataFrame:
    """Equivalent widths as the classical classifiers take them, from `measure_stars`.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``id``, Angstrom; NaN where a line could not be measured.
    """
    return measurements.set_index("id")[list(LINE_INDICES)]


def likeness_features(measurements: pd.DataFrame) -> pd.DataFrame:
    """What decides whether a star is like those of the training, from `measure_stars`.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``id``: equivalent widths, Angstrom; NaN outside of the window.
    """
    return line_widths(measurements)[list(_LIKENESS)]


def _measure(spectra, base, others, needed):
    """Lines of some spectra, and why one cannot be used in some way of preparing them."""
    flux, weight, errors = prepare_spectra(spectra, base)
    widths, spread = line_indices(base.grid, flux.astype(float), weight.astype(float))
    # Lines are measured on corrected spectra also where the sweep uses published ones alone: then
    # it does not matter that a spectrum cannot be corrected.
    asked = [errors] if needed else []
    asked += [prepare_spectra(spectra, features)[2] for features in others]
    first = [next((e for e in each if e is not None), None) for each in zip(*asked, strict=True)]
    reasons = [None if error is None else (error.reason, error.value) for error in first]
    return widths.join(spread.add_prefix("error of ")), reasons


def _in_chunks(function, stars, spectra, *arguments):
    """Delayed results of a function for some spectra at a time, in order, and their numbers."""
    import dask

    ends = np.append(0, np.cumsum(stars["n_pixels"].to_numpy(int)))

    def of(first):
        part = stars.iloc[first : first + _CHUNK]
        pixels = spectra[ends[first] : ends[first + len(part)]]
        return function(unstack_spectra(pixels, part["n_pixels"], part["velocity"]), *arguments)

    later = dask.delayed(of, pure=False)  # else Dask would hash gigabytes of spectra
    return [
        (later(first), min(_CHUNK, len(stars) - first)) for first in range(0, len(stars), _CHUNK)
    ]


def prepare_sample(
    stars: pd.DataFrame, stacked_spectra: np.ndarray, sweep: Sweep
) -> dict[str, Any]:
    """Prepare all spectra in every way that the sweep compares.

    Returns
    -------
    dict of str to dask.array.Array of float32, shape (n, n_pixels)
        By `FeatureParameters.prepared`; computed some at a time as they are saved.
    """
    return {
        name: prepare_all(stars, stacked_spectra, features)
        for name, features in sweep.preparations.items()
    }


def prepare_all(stars: pd.DataFrame, spectra: np.ndarray, features: FeatureParameters) -> Any:
    """Prepare all spectra in one way, as a `dask.array.Array` of float32, shape (n, n_pixels)."""
    import dask.array as da

    parts = _in_chunks(_flux_only, stars, spectra, features)
    return da.concatenate(
        [da.from_delayed(part, (n, features.n_pixels), np.float32) for part, n in parts]
    )


def _flux_only(spectra, features):
    return prepare_spectra(spectra, features)[0]


def draw_inputs(
    prepared_spectra: dict[str, Callable[[], np.ndarray]], sweep: Sweep
) -> dict[str, Any]:
    """Prepared spectra in every form that the sweep compares.

    Returns
    -------
    dict of str to dask.array.Array of float32, shape (n, *input_shape)
        By variant.
    """
    import dask
    import dask.array as da

    def later(load, features):
        # Not an array of dask's: it would make a copy of all spectra.
        @dask.delayed(pure=False)
        def some(first):
            return as_input(load()[first : first + _CHUNK], features)

        n = len(load())
        parts = [(some(first), min(_CHUNK, n - first)) for first in range(0, n, _CHUNK)]
        shape = features.input_shape
        return da.concatenate(
            [da.from_delayed(part, (size, *shape), np.float32) for part, size in parts]
        )

    return {
        variant: later(prepared_spectra[member.features.prepared], member.features)
        for variant, member in sweep.input_variants.items()
    }


def draw_sample_figure(
    sample: pd.DataFrame, prepared_spectra: dict[str, Callable[[], np.ndarray]], sweep: Sweep
) -> Any:
    """Some spectra of each class as the network sees them.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from skyloom.plots.stellar_spectra import classes_figure

    features = sweep.base.features
    flux, wavelength = prepared_spectra[features.prepared](), wavelengths(features)
    kept = sample[sample["keep"]]
    shown = {
        name: np.asarray(flux[np.sort(kept.index[kept["class"] == name][:_N_SHOWN])])
        for name in CLASSES
        if (kept["class"] == name).any()
    }
    return classes_figure(wavelength, shown)


def wavelengths(features: FeatureParameters) -> np.ndarray:
    """Wavelengths of prepared spectra.

    Returns
    -------
    numpy.ndarray, shape (n_pixels,)
        Angstrom in vacuum. Of the published preparation those of LAMOST's pixels (other surveys
        have other ones, and none are at rest), in the middle of the rolling mean: from 3702.2 to
        8285 Angstrom, and not to 8671.6, over which it was drawn.
    """
    if features.preparation == "corrected":
        return features.grid
    wavelength = wavelength_grid()
    low, high = PUBLISHED_WINDOW
    inside = wavelength[(wavelength >= low) & (wavelength <= high)]
    return inside[1 : 1 + features.n_pixels]
