"""FITS tables of integrated 21-cm spectra, as of ALFALFA and Green Bank."""

from __future__ import annotations

import numpy as np

from skyloom.raw_files import Reader, UnusableError
from skyloom.spectra.hi.spectrum import (
    FLUX_COLUMNS,
    VELOCITY_COLUMNS,
    Spectrum,
    SpectrumFile,
    make_spectrum,
    unit_factor,
)

_WEIGHT_COLUMNS = ("weight", "weights")


def _is_table(file: SpectrumFile) -> bool:
    return file.is_fits and any(_column(hdu, VELOCITY_COLUMNS) for hdu in file.hdus)


def _column(hdu, names):
    """Name of the first column of a table HDU that is among ``names``, or None."""
    columns = getattr(hdu, "columns", None)
    by_name = {name.lower(): name for name in (columns.names if columns else ())}
    return next((by_name[name] for name in names if name in by_name), None)


def _read_table(file: SpectrumFile) -> Spectrum:
    """ALFALFA and Green Bank tables: VHELIO, FREQUENCY, FLUX, BASELINE, WEIGHT."""
    hdu = next(hdu for hdu in file.hdus if _column(hdu, VELOCITY_COLUMNS))
    velocity_name, flux_name = _column(hdu, VELOCITY_COLUMNS), _column(hdu, FLUX_COLUMNS)
    if flux_name is None:
        raise UnusableError("no flux column", ", ".join(hdu.columns.names))
    velocity_unit = hdu.columns[velocity_name].unit or file.velocity_unit
    flux_unit = hdu.columns[flux_name].unit or file.flux_unit
    # Some tables hold the whole spectrum in one row.
    velocity = np.ravel(hdu.data[velocity_name]) * unit_factor(velocity_unit, "km/s")
    flux = np.ravel(hdu.data[flux_name]) * unit_factor(flux_unit, "mJy")
    weight_name = _column(hdu, _WEIGHT_COLUMNS)
    if weight_name is not None:
        weight = np.ravel(hdu.data[weight_name])
        flux = np.where(weight > 0, flux, np.nan) if weight.shape == flux.shape else flux
    return make_spectrum(velocity, flux, "table", header=hdu.header)


READERS = (Reader("table", _is_table, _read_table),)
