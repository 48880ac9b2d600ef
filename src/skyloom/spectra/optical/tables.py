"""Optical spectra in columns, whatever these are called: FITS, VOTable and text tables."""

from __future__ import annotations

import numpy as np

from skyloom.raw_files import RawFile, Reader, UnusableError
from skyloom.raw_files.headers import header_position, header_text
from skyloom.raw_files.names import file_stem
from skyloom.raw_files.units import stated_unit, unit_factor
from skyloom.spectra.columns import Columns, by_place, fits_columns, text_columns
from skyloom.spectra.optical.spectrum import (
    OpticalSpectrum,
    checked,
    medium_of,
    per_wavelength,
)

LOG_COLUMNS = ("loglam", "log_lam", "log_lambda", "loglambda", "log_wave", "logwave")
WAVELENGTH_COLUMNS = (
    "wavelength", "wave", "lambda", "lam", "spectral_axis", "wl", "awav", "wavelengths", "ll",
)  # fmt: skip
FLUX_COLUMNS = (
    "flux", "flux_density", "fluxdensity", "f_lambda", "flam", "flux_reduced", "spectrum", "spec",
    "intensity", "data",
)  # fmt: skip
_ERROR_COLUMNS = (
    "err", "error", "errors", "sigma", "uncertainty", "flux_err", "flux_error", "err_flux", "eflux",
    "err_reduced", "staterror", "noise", "std",
)  # fmt: skip
_INVERSE_VARIANCE_COLUMNS = ("ivar", "inverse_variance", "invvar")
_MASK_COLUMNS = ("and_mask", "andmask", "mask", "qual", "quality", "dq")
_AXIS_COLUMNS = (*WAVELENGTH_COLUMNS, *LOG_COLUMNS)
_NAMES = (*_AXIS_COLUMNS, *FLUX_COLUMNS)


def _is_table(file: RawFile) -> bool:
    return fits_columns(file, _AXIS_COLUMNS) is not None


def _read_table(file: RawFile) -> OpticalSpectrum:
    """Tables of CALSPEC, of ESO's archive, of specutils and others: columns by name."""
    columns, header = fits_columns(file, _AXIS_COLUMNS)
    return _from_columns(file, columns, {**file.hdus[0].header, **header}, "table")


def _is_text(file: RawFile) -> bool:
    return text_columns(file, _NAMES) is not None


def _read_text(file: RawFile) -> OpticalSpectrum:
    """Columns of text: named, or the wavelength first, then the flux, then perhaps its error."""
    return _from_columns(file, text_columns(file, _NAMES), {}, "text")


def _from_columns(file: RawFile, columns: Columns, header, layout) -> OpticalSpectrum:
    axis_at, flux_at = columns.find(_AXIS_COLUMNS), columns.find(FLUX_COLUMNS)
    error_at = columns.find(_ERROR_COLUMNS)
    if layout == "text" and (axis_at is None or flux_at is None):
        axis_at, flux_at = by_place(columns, axis_at, flux_at)
        if axis_at is not None and len(columns.values) == 3 and flux_at == 1:
            error_at = 2
    if axis_at is None or flux_at is None:
        found = ", ".join(filter(None, columns.written)) or "no names"
        value = f"{len(columns.values)} columns: {found}; wavelength and flux sought"
        raise UnusableError("no wavelength and flux column", value)
    wavelength, flux = columns.values[axis_at], columns.values[flux_at]
    if columns.names[axis_at] in LOG_COLUMNS:
        wavelength = 10**wavelength
    else:
        unit = columns.units[axis_at] or stated_unit(columns.notes, "Angstrom")
        wavelength = wavelength * unit_factor(unit or "Angstrom", "Angstrom")
    inverse_variance_at, mask_at = (
        columns.find(names) for names in (_INVERSE_VARIANCE_COLUMNS, _MASK_COLUMNS)
    )
    if inverse_variance_at is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            error = 1 / np.sqrt(columns.values[inverse_variance_at])
        error = np.where(np.isfinite(error), error, 0.0)
    else:
        error = np.full(len(flux), np.nan) if error_at is None else columns.values[error_at]
    if not len(wavelength) == len(flux) == len(error):
        raise UnusableError("columns differ in length", f"{len(wavelength)} and {len(flux)}")
    flux, error, unit = per_wavelength(flux, error, wavelength, columns.units[flux_at])
    with np.errstate(divide="ignore"):
        inverse_variance = np.where(error > 0, 1 / error**2, np.where(np.isnan(error), np.nan, 0))
    mask = inverse_variance == 0
    if mask_at is not None and columns.values[mask_at].shape == mask.shape:
        mask = mask | (columns.values[mask_at] != 0)
    ra, dec = header_position(header, ("RA", "DEC"), ("RA_TARG", "DEC_TARG"))
    return checked(
        OpticalSpectrum(
            wavelength,
            flux,
            inverse_variance,
            mask,
            layout,
            medium=medium_of(header, otherwise=_medium_in_words(columns, header)),
            flux_unit=unit,
            identifier=header_text(header, "OBJECT")
            or header_text(header, "TARGETID")
            or file_stem(file.name),
            spectral_type=header_text(header, "SPECTYPE"),
            ra=ra,
            dec=dec,
        )
    )


def _medium_in_words(columns, header):
    """What else tells the medium of the wavelengths; air where nothing does."""
    words = " ".join((*columns.notes, *columns.written)).lower()
    meanings = [str(value).lower() for name, value in header.items() if name.startswith("TUCD")]
    # ESO's archive calls wavelengths em.wl in vacuum, em.wl;obs.atmos in air. CALSPEC's are vacuum.
    told = "em.wl" in meanings or header_text(header, "DBTABLE") == "CRSPECTRUM"
    return "vacuum" if told or "vacuum" in words or "_vac" in words else "air"


READERS = (Reader("table", _is_table, _read_table),)
TEXT_READERS = (Reader("text", _is_text, _read_text),)
