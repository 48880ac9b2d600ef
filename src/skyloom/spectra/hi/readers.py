"""Readers of integrated 21-cm spectra: one *identify* and one *read* function per layout."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np

from skyloom.raw_files import RawFile, Reader, UnusableError, read_file

REST_FREQUENCY = 1420.405751768  # MHz, HI hyperfine transition
SPEED_OF_LIGHT = 299792.458  # km/s

_BLANK_FLUX = 1e30  # mJy; larger values stand for none, or are damaged bytes

_VELOCITY_COLUMNS = ("velocity", "vhelio", "velo", "vel", "vopt", "vrad", "cz", "v")
_FLUX_COLUMNS = ("flux", "flux_density", "fluxdensity", "intensity", "s")
_WEIGHT_COLUMNS = ("weight", "weights")
_SYSTEMIC_KEYWORDS = ("V21SYS", "VSYS", "VHEL", "V_HELIO")


@dataclass(frozen=True)
class Spectrum:
    """A spectrum as read, in ascending velocity.

    Attributes
    ----------
    velocity : numpy.ndarray, shape (m,)
        km/s, or channel numbers where ``axis`` is ``"channel"``.
    flux : numpy.ndarray, shape (m,)
        mJy; NaN where a channel is masked.
    axis : {"velocity", "channel"}
        ``"channel"`` where the file has no velocity axis.
    layout : str
        Name of the reader.
    object_name : str
        As the file gives it, or empty.
    systemic_velocity : float
        km/s; NaN where the file gives none.
    """

    velocity: np.ndarray
    flux: np.ndarray
    axis: str = "velocity"
    layout: str = ""
    object_name: str = ""
    systemic_velocity: float = np.nan


@dataclass(frozen=True)
class SpectrumFile(RawFile):
    """A file, and the units to assume where it states none."""

    velocity_unit: str = "km/s"
    flux_unit: str = "mJy"


def _is_table(file: SpectrumFile) -> bool:
    return file.is_fits and any(_column(hdu, _VELOCITY_COLUMNS) for hdu in file.hdus)


def _column(hdu, names):
    """Name of the first column of a table HDU that is among ``names``, or None."""
    columns = getattr(hdu, "columns", None)
    by_name = {name.lower(): name for name in (columns.names if columns else ())}
    return next((by_name[name] for name in names if name in by_name), None)


def _read_table(file: SpectrumFile) -> Spectrum:
    """ALFALFA and Green Bank tables: VHELIO, FREQUENCY, FLUX, BASELINE, WEIGHT."""
    hdu = next(hdu for hdu in file.hdus if _column(hdu, _VELOCITY_COLUMNS))
    velocity_name, flux_name = _column(hdu, _VELOCITY_COLUMNS), _column(hdu, _FLUX_COLUMNS)
    if flux_name is None:
        raise UnusableError("no flux column", ", ".join(hdu.columns.names))
    velocity_unit = hdu.columns[velocity_name].unit or file.velocity_unit
    flux_unit = hdu.columns[flux_name].unit or file.flux_unit
    # Some tables hold the whole spectrum in one row.
    velocity = np.ravel(hdu.data[velocity_name]) * _factor(velocity_unit, "km/s")
    flux = np.ravel(hdu.data[flux_name]) * _factor(flux_unit, "mJy")
    weight_name = _column(hdu, _WEIGHT_COLUMNS)
    if weight_name is not None:
        weight = np.ravel(hdu.data[weight_name])
        flux = np.where(weight > 0, flux, np.nan) if weight.shape == flux.shape else flux
    return _spectrum(velocity, flux, "table", header=hdu.header)


def _axis_kind(header) -> str:
    return str(header.get("CTYPE1", "")).strip().upper()


def _image_flux(hdu, file: SpectrumFile) -> np.ndarray:
    """Fluxes in mJy of an image that holds a single spectrum."""
    if max(hdu.data.shape, default=0) != hdu.data.size:
        raise UnusableError("not a single spectrum", f"shape {hdu.data.shape}")
    unit = str(hdu.header.get("BUNIT", file.flux_unit)).strip() or file.flux_unit
    return np.ravel(hdu.data).astype(float) * _factor(unit, "mJy")


def _is_flux_only(file: SpectrumFile) -> bool:
    hdu = file.image_hdu
    return hdu is not None and not _axis_kind(hdu.header) and "CRVAL1" not in hdu.header


def _read_flux_only(file: SpectrumFile) -> Spectrum:
    """A (1, N) image without any velocity axis, as published: channels are used."""
    hdu = file.image_hdu
    flux = _image_flux(hdu, file)
    return _spectrum(np.arange(flux.size, dtype=float), flux, "flux only", "channel", hdu.header)


def _is_image(file: SpectrumFile) -> bool:
    return file.image_hdu is not None


def _read_image(file: SpectrumFile) -> Spectrum:
    """A (1, N) or (N,) image with a velocity or frequency axis."""
    hdu = file.image_hdu
    flux, header, kind = _image_flux(hdu, file), hdu.header, _axis_kind(hdu.header)
    axis = _linear_axis(header, flux.size)
    if kind.startswith(("VELO", "VRAD", "VOPT", "FELO")) or not kind:
        velocity = axis * _factor(header.get("CUNIT1") or file.velocity_unit, "km/s")
    elif kind.startswith("FREQ"):
        frequency = axis * _factor(header.get("CUNIT1") or "Hz", "MHz")
        velocity = SPEED_OF_LIGHT * (REST_FREQUENCY / frequency - 1)
    else:
        raise UnusableError("wrong units", f"CTYPE1 {kind}, expected a velocity or FREQ")
    return _spectrum(velocity, flux, "image", header=header)


def _linear_axis(header, size):
    try:
        value, step = float(header["CRVAL1"]), float(header["CDELT1"])
        pixel = float(header.get("CRPIX1", 1.0))
    except (KeyError, TypeError, ValueError) as error:
        raise UnusableError("wrong velocity axis", f"{error}") from error
    return value + (np.arange(size) + 1 - pixel) * step


def _text(file: SpectrumFile) -> str | None:
    if b"\x00" in file.content:
        return None
    try:
        return file.content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _is_text(file: SpectrumFile) -> bool:
    text = None if file.is_fits else _text(file)
    return text is not None and _first_numbers(text.splitlines()) is not None


def _cells(line: str) -> list[str]:
    """Cells of a line separated by commas, semicolons, tabs or blanks."""
    for separator in (",", ";", "\t"):
        if separator in line:
            return [cell.strip() for cell in line.split(separator)]
    return line.split()


def _first_numbers(lines: list[str]) -> int | None:
    """Index of the first line that holds at least two numbers and nothing else."""
    for index, line in enumerate(lines):
        cells = [cell for cell in _cells(line) if cell]
        try:
            numbers = [float(cell) for cell in cells]
        except ValueError:
            continue
        if len(numbers) >= 2:
            return index
    return None


_UNIT = re.compile(r"[\[(]\s*([^\])]+?)\s*[\])]")
_HEADING_CELL = re.compile(r"[^\s\[(]*\s*[\[(][^\])]*[\])]|\S+")
_UNIT_WORDS = {"km/s", "m/s", "kms-1", "mjy", "jy", "k"}


def _heading(line: str) -> list[str]:
    """Cells of a heading; a unit in brackets belongs to the name before it."""
    line = line.lstrip("#% ").strip()
    return _cells(line) if re.search("[,;\t]", line) else _HEADING_CELL.findall(line)


def _read_text(file: SpectrumFile) -> Spectrum:
    """Two-column text or CSV, with names and units in the header or units as given."""
    lines = _text(file).splitlines()
    start = _first_numbers(lines)
    heading = _heading(lines[start - 1]) if start else []
    names = [_UNIT.sub("", cell).strip().strip('"').lower() for cell in heading]
    units = [(_UNIT.search(cell) or [None, None])[1] for cell in heading]
    rows = []
    for number, line in enumerate(lines[start:], start + 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            rows.append([float(cell) if cell else np.nan for cell in _cells(line)])
        except ValueError as error:
            raise UnusableError("damaged text", f"line {number}: {line[:60]!r}") from error
    widths = {len(row) for row in rows}
    if len(widths) != 1:
        raise UnusableError("damaged text", f"rows of {sorted(widths)} columns")
    table = np.array(rows)
    if len(heading) != table.shape[1]:  # a comment
        names, units = [], []
    velocity_at = next((names.index(n) for n in _VELOCITY_COLUMNS if n in names), None)
    flux_at = next((names.index(n) for n in _FLUX_COLUMNS if n in names), None)
    if velocity_at is None or flux_at is None:
        if table.shape[1] != 2:
            raise UnusableError("no velocity and flux column", ", ".join(names) or "no header")
        velocity_at, flux_at = 0, 1
        # A heading of bare units ("km/s mJy") is a unit line.
        if len(names) == 2 and names[0] in _UNIT_WORDS:
            units = list(names)
    units += [None] * (table.shape[1] - len(units))
    velocity = table[:, velocity_at] * _factor(units[velocity_at] or file.velocity_unit, "km/s")
    flux = table[:, flux_at] * _factor(units[flux_at] or file.flux_unit, "mJy")
    return _spectrum(velocity, flux, "text")


def _factor(unit: str, target: str) -> float:
    """Factor from a unit as written in a file to ``target``."""
    from astropy import units as u

    written = str(unit).strip()
    spelled = {"mjy": "mJy", "jy": "Jy", "kms-1": "km/s", "km/sec": "km/s", "km s-1": "km/s"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parsed = u.Unit(spelled.get(written.lower(), written))
            # A beam is taken to hold the whole galaxy, as single-dish spectra do.
            parsed = parsed * u.beam if u.beam in parsed.bases else parsed
            return parsed.to(u.Unit(target))
        except (ValueError, TypeError, u.UnitConversionError) as error:
            raise UnusableError("wrong units", f"{written!r}, expected {target}") from error


def _spectrum(velocity, flux, layout, axis="velocity", header=None):
    velocity = np.asarray(velocity, dtype=float)
    flux = np.asarray(flux, dtype=float)
    if velocity.shape != flux.shape:
        raise UnusableError("columns differ in length", f"{velocity.size} and {flux.size}")
    if not np.isfinite(velocity).all():
        raise UnusableError("wrong velocity axis", f"{(~np.isfinite(velocity)).sum()} not finite")
    if velocity.size > 1 and velocity[0] > velocity[-1]:
        velocity, flux = velocity[::-1], flux[::-1]
    flux = np.where(np.abs(flux) < _BLANK_FLUX, flux, np.nan)
    header = header or {}
    systemic = np.nan
    for key in _SYSTEMIC_KEYWORDS:
        try:
            systemic = float(header[key])
            break
        except (KeyError, TypeError, ValueError):
            continue
    return Spectrum(velocity, flux, axis, layout, str(header.get("OBJECT", "")).strip(), systemic)


READERS = (
    Reader("table", _is_table, _read_table),
    Reader("flux only", _is_flux_only, _read_flux_only),
    Reader("image", _is_image, _read_image),
    Reader("text", _is_text, _read_text),
)


def read_spectrum(
    name: str, content: bytes, *, velocity_unit: str = "km/s", flux_unit: str = "mJy"
) -> Spectrum:
    """Read one spectrum of any supported layout.

    Parameters
    ----------
    name : str
        File name, for messages only.
    content : bytes
        The whole file; may be gzipped.
    velocity_unit, flux_unit : str
        Units to assume where the file states none.

    Returns
    -------
    Spectrum

    Raises
    ------
    UnusableError
        If the bytes are no spectrum in a supported layout; no other exception leaves this
        function, whatever the bytes are.
    """
    return read_file(
        name,
        content,
        READERS,
        expected=("a spectrum", "a text table"),
        as_file=partial(SpectrumFile, velocity_unit=velocity_unit, flux_unit=flux_unit),
    )
