"""Tables of integrated 21-cm spectra: FITS, VOTable and text, a row a channel or a spectrum."""

from __future__ import annotations

import re

import numpy as np

from skyloom.raw_files import Reader, UnusableError
from skyloom.raw_files.headers import axis_values, header_number, header_text
from skyloom.raw_files.missing import without_missing
from skyloom.raw_files.units import stated_unit
from skyloom.spectra.columns import Columns, by_place, fits_columns, text_columns
from skyloom.spectra.constants import REST_FREQUENCY, SPEED_OF_LIGHT
from skyloom.spectra.hi.spectrum import (
    Spectrum,
    SpectrumFile,
    flux_factor,
    make_spectrum,
    optical_velocity,
)

VELOCITY_COLUMNS = (
    "velocity", "vhelio", "vhel", "velo", "vel", "vopt", "v_opt", "vrad", "v_rad", "vlsr", "vhi",
    "vbary", "radio_velocity", "optical_velocity", "velocity_radio", "velocity_optical",
    "heliocentric_velocity", "cz", "v",
)  # fmt: skip
FREQUENCY_COLUMNS = ("frequency", "freq", "nu")
FLUX_COLUMNS = (
    "flux", "flux_density", "fluxdensity", "fhi", "f_sum", "intensity", "spectrum", "data", "s",
)  # fmt: skip
_WEIGHT_COLUMNS = ("weight", "weights", "wt")
_AXIS_COLUMNS = (*VELOCITY_COLUMNS, *FREQUENCY_COLUMNS)
_TEMPERATURE = re.compile(r"t_?a\b|t_?mb|t_?sys|temp")
_CONVENTIONS = {
    "radio": r"\bv_?rad|radi-|radio[ _]vel|vel\w*[ _]radio",
    "optical": r"\bv_?opt|opti-|optical[ _]vel|vel\w*[ _]opt|\bcz\b",
}
_FREQUENCY_UNITS = ("Hz", "kHz", "MHz", "GHz")
_NAMES = (*_AXIS_COLUMNS, *FLUX_COLUMNS)


def _is_single_dish(file: SpectrumFile) -> bool:
    return file.is_fits and _single_dish(file) is not None


def _single_dish(file):
    """The first table of SDFITS: spectra in the column DATA, their axes in columns like cards."""
    for hdu in file.hdus:
        columns = getattr(hdu, "columns", None)
        names = {name.upper() for name in columns.names} if columns else set()
        if {"DATA", "CRVAL1", "CDELT1"} <= names:
            return hdu
    return None


def _read_single_dish(file: SpectrumFile) -> Spectrum:
    """SDFITS, as of Green Bank: a row a spectrum, its axis told by columns named like cards."""
    hdu = _single_dish(file)
    if len(hdu.data) != 1:
        raise UnusableError("not a single spectrum", f"SDFITS of {len(hdu.data)} spectra")
    names = {name.upper(): name for name in hdu.columns.names}
    header = dict(hdu.header) | {
        name: hdu.data[written][0] for name, written in names.items() if name != "DATA"
    }
    flux = without_missing(np.ravel(hdu.data[names["DATA"]][0]))
    unit = hdu.columns[names["DATA"]].unit or header_text(header, "BUNIT") or file.flux_unit
    kind = header_text(header, "CTYPE1").upper()
    if not kind.startswith("FREQ"):
        raise UnusableError("wrong units", f"CTYPE1 {kind}, expected FREQ")
    frequency = axis_values(header, 1, flux.size)
    frame = header_number(header, "VFRAME")  # m/s: of the frame in which velocities are told
    if np.isfinite(frame) and kind == "FREQ-OBS":
        ratio = frame / 1e3 / SPEED_OF_LIGHT
        frequency = frequency * np.sqrt((1 + ratio) / (1 - ratio))
    rest = header_number(header, "RESTFREQ", "RESTFRQ") / 1e6
    velocity = optical_velocity(
        frequency, "frequency", header_text(header, "CUNIT1") or "Hz", rest_frequency=rest
    )
    return make_spectrum(
        velocity, flux * flux_factor(unit), "SDFITS", header=header, convention="frequency"
    )


def _is_table(file: SpectrumFile) -> bool:
    return fits_columns(file, _AXIS_COLUMNS) is not None


def _read_table(file: SpectrumFile) -> Spectrum:
    """ALFALFA and Green Bank tables: VHELIO, FREQUENCY, FLUX, BASELINE, WEIGHT; and others."""
    columns, header = fits_columns(file, _AXIS_COLUMNS)
    return _from_columns(columns, file, "table", header)


def _is_text(file: SpectrumFile) -> bool:
    return text_columns(file, _NAMES) is not None


def _read_text(file: SpectrumFile) -> Spectrum:
    """Columns of text, with names and units above them or units as given."""
    return _from_columns(text_columns(file, _NAMES), file, "text", {})


def _from_columns(columns: Columns, file: SpectrumFile, layout, header) -> Spectrum:
    """A spectrum of the columns that are named; of the first two where none is."""
    axis_at, flux_at = columns.find(_AXIS_COLUMNS), columns.find(FLUX_COLUMNS)
    if layout == "text" and (axis_at is None or flux_at is None):
        axis_at, flux_at = by_place(columns, axis_at, flux_at)
    if axis_at is None or flux_at is None:
        found = ", ".join(filter(None, columns.written or columns.names)) or "no names"
        what = "no flux column" if axis_at is not None else "no velocity and flux column"
        value = f"{len(columns.values)} columns: {found}; velocity or frequency, and flux sought"
        raise UnusableError(what, value)
    values, name = columns.values[axis_at], columns.names[axis_at]
    unit = columns.units[axis_at]
    if name in FREQUENCY_COLUMNS or "freq" in name or unit.lower().endswith("hz"):
        convention = "frequency"
        unit = unit or stated_unit(columns.notes, "MHz") or _frequency_unit(values)
    else:
        told = " ".join((name, *columns.notes, header_text(header, "VELDEF"))).lower()
        convention = _convention(told)
        unit = unit or stated_unit(columns.notes, "km/s") or file.velocity_unit
    rest = header_number(header, "RESTFRQ", "RESTFREQ") / 1e6
    velocity = optical_velocity(values, convention, unit, rest_frequency=rest)
    if _TEMPERATURE.match(columns.names[flux_at]):
        raise UnusableError("wrong units", f"column {columns.written[flux_at]!r}, expected mJy")
    flux_unit = columns.units[flux_at] or stated_unit(columns.notes, "mJy") or file.flux_unit
    flux = columns.values[flux_at] * flux_factor(flux_unit)
    weight_at = columns.find(_WEIGHT_COLUMNS)
    if weight_at is not None and columns.values[weight_at].shape == flux.shape:
        flux = np.where(columns.values[weight_at] > 0, flux, np.nan)
    return make_spectrum(velocity, flux, layout, header=header, convention=convention)


def _convention(told):
    """Convention of a velocity by what is written of it."""
    if any(
        word in told
        for word in ("vrad", "v_rad", "radi-", "radio vel", "radio_vel", "velocity_radio")
    ):
        return "radio"
    if any(
        word in told
        for word in ("vopt", "v_opt", "opti-", "optical vel", "optical_vel", "velocity_optical")
    ):
        return "optical"
    return ""


def _frequency_unit(values):
    """Unit of frequencies without one: the only one in which the line can be among them."""
    middle = float(np.nanmedian(np.abs(values)))
    factors = dict(zip(_FREQUENCY_UNITS, (1e-6, 1e-3, 1.0, 1e3), strict=True))
    possible = [
        unit for unit, factor in factors.items() if 0.5 < middle * factor / REST_FREQUENCY < 2
    ]
    if not possible:
        raise UnusableError("wrong units", f"frequencies about {middle:.4g} without a unit")
    return possible[0]


READERS = (
    Reader("SDFITS", _is_single_dish, _read_single_dish),
    Reader("table", _is_table, _read_table),
)
TEXT_READERS = (Reader("text", _is_text, _read_text),)
