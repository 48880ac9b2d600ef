"""Text tables of integrated 21-cm spectra."""

from __future__ import annotations

import re

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
    velocity_at = next((names.index(n) for n in VELOCITY_COLUMNS if n in names), None)
    flux_at = next((names.index(n) for n in FLUX_COLUMNS if n in names), None)
    if velocity_at is None or flux_at is None:
        if table.shape[1] != 2:
            raise UnusableError("no velocity and flux column", ", ".join(names) or "no header")
        velocity_at, flux_at = 0, 1
        # A heading of bare units ("km/s mJy") is a unit line.
        if len(names) == 2 and names[0] in _UNIT_WORDS:
            units = list(names)
    units += [None] * (table.shape[1] - len(units))
    velocity = table[:, velocity_at] * unit_factor(units[velocity_at] or file.velocity_unit, "km/s")
    flux = table[:, flux_at] * unit_factor(units[flux_at] or file.flux_unit, "mJy")
    return make_spectrum(velocity, flux, "text")


READERS = (Reader("text", _is_text, _read_text),)
