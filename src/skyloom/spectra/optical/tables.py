"""Optical spectra in columns, whatever these are called: FITS, VOTable and text tables."""

from __future__ import annotations

import re

import numpy as np

from skyloom.raw_files import RawFile, Reader, UnusableError
from skyloom.raw_files.headers import header_position, header_text
from skyloom.raw_files.names import file_stem
from skyloom.raw_files.units import stated_unit
from skyloom.spectra.columns import Columns, by_place, fits_columns, text_columns
from skyloom.spectra.optical.spectrum import (
    OpticalSpectrum,
    checked,
    inverse_variance_of,
    medium_of,
    per_wavelength,
    wavelengths_in,
)

LOG_COLUMNS = (
    "loglam", "log_lam", "log_lambda", "loglambda", "log_wave", "logwave", "log10", "log10_lambda",
    "log10_wave", "log_wavelength", "log",
)  # fmt: skip
WAVELENGTH_COLUMNS = tuple(
    f"{name}{medium}"
    for medium in ("", "_vac", "_vacuum", "_air")
    for name in ("wavelength", "wave", "lambda", "lam", "spectral_axis", "wl", "wavelengths", "ll")
) + (
    "vac_wave",
    "vac_wl",
    "air_wave",
    "awav",
    "vacwave",
    "airwave",
    "vac_wavelength",
    "air_wavelength",
)
OTHER_AXES = {"frequency": "Hz", "freq": "Hz", "nu": "Hz", "energy": "eV", "wavenumber": "cm-1"}
FLUX_COLUMNS = (
    "flux", "flux_density", "fluxdensity", "f_lambda", "flam", "flux_reduced", "spectrum", "spec",
    "intensity", "data",
)  # fmt: skip
_ERROR_COLUMNS = (
    "err", "error", "errors", "sigma", "uncertainty", "flux_err", "flux_error", "err_flux", "eflux",
    "err_reduced", "staterror", "noise", "std", "uncertainties", "stddev", "flux_sigma",
)  # fmt: skip
_INVERSE_VARIANCE_COLUMNS = ("ivar", "inverse_variance", "invvar")
_VARIANCE_COLUMNS = ("var", "variance", "flux_var")
_WEIGHT_COLUMNS = ("weight", "weights", "wt", "wgt")
_MASK_COLUMNS = ("and_mask", "andmask", "mask", "flag", "flags", "qual", "quality", "dq", "bad")
_NATURAL_LOG_COLUMNS = ("ln", "ln_lambda", "lnlambda", "ln_wave", "lnlam", "ln_lam")
_AXIS_COLUMNS = (*WAVELENGTH_COLUMNS, *LOG_COLUMNS, *_NATURAL_LOG_COLUMNS, *OTHER_AXES)
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
    name = columns.names[axis_at]
    unit = columns.units[axis_at] or stated_unit(columns.notes, "Angstrom")
    if name in LOG_COLUMNS:
        unit = f"log10({unit})"
    elif name in _NATURAL_LOG_COLUMNS:
        unit = f"ln({unit})"
    wavelength = wavelengths_in(wavelength, unit or OTHER_AXES.get(name, "Angstrom"))
    error = np.full(len(flux), np.nan) if error_at is None else columns.values[error_at]
    for names, as_error in (
        (_INVERSE_VARIANCE_COLUMNS, lambda values: 1 / np.sqrt(values)),
        (_VARIANCE_COLUMNS, np.sqrt),
    ):
        if (at := columns.find(names)) is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                known = as_error(columns.values[at])
            error = np.where(np.isfinite(known), known, 0.0)
            break
    if not len(wavelength) == len(flux) == len(error):
        raise UnusableError("columns differ in length", f"{len(wavelength)} and {len(flux)}")
    flux, error, unit = per_wavelength(flux, error, wavelength, columns.units[flux_at])
    inverse_variance = inverse_variance_of(error)
    mask = inverse_variance == 0
    for names, is_bad in ((_MASK_COLUMNS, np.not_equal), (_WEIGHT_COLUMNS, np.less_equal)):
        at = columns.find(names)
        if at is not None and columns.values[at].shape == mask.shape:
            mask = mask | is_bad(columns.values[at], 0)
    ra, dec = header_position(header)
    return checked(
        OpticalSpectrum(
            wavelength,
            flux,
            inverse_variance,
            mask,
            layout,
            medium=_medium(columns, axis_at, header),
            flux_unit=unit,
            identifier=header_text(header, "OBJECT")
            or header_text(header, "TARGETID")
            or file_stem(file.name),
            spectral_type=header_text(header, "SPECTYPE"),
            ra=ra,
            dec=dec,
        )
    )


def _medium(columns, axis_at, header):
    """Medium of the wavelengths of a column; air where nothing tells it."""
    heading = columns.heading(axis_at)
    said = [line for line in columns.notes if not line.startswith("TUCD")]
    # What is said of other columns does not count.
    others = tuple(f"{name}:" for name in columns.written if name != heading)
    said = [line for line in said if not line.startswith(others)]
    meanings = " ".join(said).lower()
    if columns.names[axis_at] in OTHER_AXES:
        return "vacuum"
    # ESO's archive calls wavelengths em.wl in vacuum, em.wl;obs.atmos in air. CALSPEC's are vacuum.
    vacuum = re.search(r"em\.wl(?!\w|;obs\.atmos)", meanings)
    calspec = header_text(header, "DBTABLE") == "CRSPECTRUM"
    otherwise = "vacuum" if vacuum or calspec else "air"
    kind = next(
        (f[1] for f in (re.search(r"ctype1\W+(\w{4})\b", line.lower()) for line in said) if f), ""
    )
    return medium_of(header, kind.upper(), otherwise, (heading, *said))


READERS = (Reader("table", _is_table, _read_table),)
TEXT_READERS = (Reader("text", _is_text, _read_text),)
