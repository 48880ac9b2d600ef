"""Node functions of the features: what a network sees, and the strengths of lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from skyloom.pipelines.stellar_spectra.parameters import FeatureParameters
from skyloom.raw_files import UnusableError, load_bytes
from skyloom.spectra.line_indices import line_indices
from skyloom.spectra.stellar_preparation import (
    corrected_spectra,
    log_grid,
    published_spectrum,
    scalogram,
    wrapped,
)
from skyloom.spectra.stellar_readers import StellarSpectrum, read_spectrum

_CHUNK = 256


def prepare_spectra(
    spectra: list[StellarSpectrum], velocities: np.ndarray, features: FeatureParameters
) -> tuple[np.ndarray, list[UnusableError | None]]:
    """Spectra as a network takes them.

    Parameters
    ----------
    spectra : list of StellarSpectrum
        As read.
    velocities : numpy.ndarray, shape (n,)
        Of a catalogue, km/s; NaN where it has none.
    features : FeatureParameters
        ``stellar_spectra.features``.

    Returns
    -------
    inputs : numpy.ndarray of float32, shape (n, ...)
        In the shape that the features ask for; constant where a spectrum cannot be used.
    errors : list of UnusableError or None
        Why it cannot.
    """
    if features.preparation == "published":
        flux, errors = np.zeros((len(spectra), features.n_pixels), np.float32), []
        for row, spectrum in zip(flux, spectra, strict=True):
            try:
                row[:] = published_spectrum(spectrum)
            except UnusableError as error:
                errors.append(error)
            else:
                errors.append(None)
    else:
        grid = log_grid(features.low, features.high, features.step)
        flux, _, errors = corrected_spectra(
            spectra, grid, velocities=velocities, width=features.continuum_width / features.step,
            min_coverage=features.min_coverage,
        )  # fmt: skip
    return as_input(flux, features), errors


def as_input(flux: np.ndarray, features: FeatureParameters) -> np.ndarray:
    """Prepared spectra in the shape of the network's input.

    Parameters
    ----------
    flux : numpy.ndarray, shape (n, n_pixels)
        Prepared.
    features : FeatureParameters
        ``stellar_spectra.features``.

    Returns
    -------
    numpy.ndarray of float32, shape (n, *features.input_shape)
    """
    if features.form == "wrapped":
        flux = wrapped(flux, features.height)
    elif features.form == "scalogram":
        flux = scalogram(flux, features.height, features.n_columns)
    return np.ascontiguousarray(flux.reshape(len(flux), *features.input_shape), np.float32)


def read_again(
    stars: pd.DataFrame, files: dict[str, Callable[[], bytes]]
) -> Iterator[tuple[slice, list[StellarSpectrum]]]:
    """The spectra of some stars, some at a time, so that memory does not grow with their number.

    Parameters
    ----------
    stars : pandas.DataFrame
        With the column ``file``.
    files : dict of str to callable
        Path to a function that returns the bytes.

    Yields
    ------
    rows : slice
        Which stars.
    spectra : list of StellarSpectrum
        Theirs.
    """
    names = stars["file"].tolist()
    for first in range(0, len(names), _CHUNK):
        part = names[first : first + _CHUNK]
        yield (
            slice(first, first + len(part)),
            [read_spectrum(name, load_bytes(files[name])) for name in part],
        )


def draw_spectra(
    stars: pd.DataFrame, files: dict[str, Callable[[], bytes]], features: FeatureParameters
) -> np.ndarray:
    """Prepare the spectra of all stars.

    Parameters
    ----------
    stars : pandas.DataFrame
        From `skyloom.pipelines.stellar_spectra.ingestion.ingest_spectra`.
    files : dict of str to callable
        Path to a function that returns the bytes.
    features : FeatureParameters
        ``stellar_spectra.features``.

    Returns
    -------
    numpy.ndarray of float32, shape (n, *features.input_shape)
    """
    inputs = np.empty((len(stars), *features.input_shape), np.float32)
    for rows, spectra in read_again(stars, files):
        velocities = stars["velocity"].to_numpy()[rows]
        inputs[rows], _ = prepare_spectra(spectra, velocities, features)
    return inputs


def measure_stars(
    stars: pd.DataFrame, files: dict[str, Callable[[], bytes]], features: FeatureParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure lines, and find the spectra that cannot be prepared.

    Parameters
    ----------
    stars : pandas.DataFrame
        From `skyloom.pipelines.stellar_spectra.ingestion.ingest_spectra`.
    files : dict of str to callable
        Path to a function that returns the bytes.
    features : FeatureParameters
        ``stellar_spectra.features``.

    Returns
    -------
    sample : pandas.DataFrame
        The stars, with the reason why further ones are not kept.
    measurements : pandas.DataFrame
        ``id``, equivalent widths (Angstrom) by the name of the line and, with ``error of`` before
        it, their standard errors.
    """
    grid = log_grid(features.low, features.high, features.step)
    parts, sample = [], stars.copy()
    for rows, spectra in read_again(stars, files):
        velocities = stars["velocity"].to_numpy()[rows]
        _, errors = prepare_spectra(spectra, velocities, features)
        for label, error in zip(stars.index[rows], errors, strict=True):
            if error is not None and sample.loc[label, "keep"]:
                sample.loc[label, ["keep", "reason", "value"]] = [False, error.reason, error.value]
        flux, weight, _ = corrected_spectra(
            spectra, grid, velocities=velocities, width=features.continuum_width / features.step,
            min_coverage=0.0,
        )  # fmt: skip
        widths, spread = line_indices(grid, flux.astype(float), weight.astype(float))
        parts.append(widths.join(spread.add_prefix("error of ")))
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "id", stars["id"].to_numpy())
    return sample, table
