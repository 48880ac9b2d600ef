"""Units as files write them."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterable
from typing import Any

from skyloom.raw_files.files import UnusableError

# Words that astropy does not know, or takes for something else, in lower case.
_SPELLED = {
    "jy": "Jy", "mjy": "mJy", "ujy": "uJy", "jansky": "Jy", "janskys": "Jy",
    "kms": "km/s", "kms-1": "km/s", "kmps": "km/s", "km": "km", "s": "s", "sec": "s", "m": "m",
    "beam": "beam", "bm": "beam",
    "hz": "Hz", "khz": "kHz", "mhz": "MHz", "ghz": "GHz",
    "angstrom": "Angstrom", "angstroms": "Angstrom", "ang": "Angstrom", "aa": "Angstrom",
    "\N{ANGSTROM SIGN}": "Angstrom", "\N{LATIN SMALL LETTER A WITH RING ABOVE}": "Angstrom",
    "nm": "nm", "nanometer": "nm", "nanometers": "nm", "nanometre": "nm", "nanometres": "nm",
    "um": "um", "micron": "um", "microns": "um", "micrometer": "um", "micrometers": "um",
    "\N{MICRO SIGN}m": "um", "\N{GREEK SMALL LETTER MU}m": "um",
    "k": "K", "kelvin": "K", "ta": "K", "ta*": "K", "tmb": "K", "tr*": "K",
    "deg": "deg", "degree": "deg", "degrees": "deg",
    "rad": "rad", "radian": "rad", "radians": "rad",
}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+\*?")
# As these stand they mean something else: a megajansky, and an ampere where no length is sought.
_AS_WRITTEN = {"MJy"}


def parse_unit(written: Any, *, a_is_angstrom: bool = False) -> Any:
    """Understand a unit.

    Parameters
    ----------
    written : object
        As in a file: ``JY/BEAM``, ``KM/S``, ``km s-1``, ``ANGSTROMS``, ``micron`` ...
    a_is_angstrom : bool
        Whether an ``A`` is no ampere.

    Returns
    -------
    astropy.units.Unit or None
        None where it is none that anybody uses.

    Examples
    --------
    >>> parse_unit("KM/SEC"), parse_unit("A", a_is_angstrom=True), parse_unit("flux")
    (Unit("km / s"), Unit("Angstrom"), None)
    """
    from astropy import units as u  # slow to import

    def spelled(match):
        word = match[0]
        if word in _AS_WRITTEN:
            return word
        if a_is_angstrom and word == "A":
            return "Angstrom"
        return _SPELLED.get(word.lower(), word)

    text = str(written).strip()
    whole = None if text in _AS_WRITTEN else _SPELLED.get(re.sub(r"\s", "", text).lower())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of spellings that are out of use
        for attempt in filter(None, (whole, _WORD.sub(spelled, text), text)):
            try:
                return u.Unit(attempt)
            except (ValueError, TypeError):
                continue
    return None


def unit_factor(written: Any, target: str) -> float:
    """Factor from a unit as written in a file to another.

    Parameters
    ----------
    written : object
        As the file writes it.
    target : str
        As astropy writes it.

    Returns
    -------
    float

    Raises
    ------
    UnusableError
        If the one cannot be converted to the other.

    Examples
    --------
    >>> unit_factor("JY/BEAM", "mJy / beam"), unit_factor("M/S", "km/s")
    (1000.0, 0.001)
    """
    from astropy import units as u

    wanted = u.Unit(target)
    unit = parse_unit(written, a_is_angstrom=wanted.is_equivalent("m"))
    if unit is None:
        raise UnusableError("wrong units", f"{str(written).strip()!r}, expected {target}")
    try:
        return float(unit.to(wanted))
    except u.UnitConversionError as error:
        if unit.is_equivalent("K"):
            msg = f"{str(written).strip()!r} is a temperature, expected {target}"
        else:
            msg = f"{str(written).strip()!r}, expected {target}"
        raise UnusableError("wrong units", msg) from error


_BRACKETS = re.compile(r"[\[({]\s*([^\])}]+?)\s*[\])}]")


def split_heading(heading: str) -> tuple[str, str]:
    """Name and unit of a column as its heading writes both.

    Parameters
    ----------
    heading : str
        Such as ``flux (mJy)``, ``[Jy] Flux Density``, ``FLUX_JY`` or ``wave/nm``.

    Returns
    -------
    name, unit : str
        The name in lower case with underscores for blanks; the unit empty where there is none.

    Examples
    --------
    >>> split_heading("Flux Density [Jy]"), split_heading("FLUX_JY"), split_heading("cz")
    (('flux_density', 'Jy'), ('flux', 'JY'), ('cz', ''))
    """
    text = heading.strip().strip("'\"").strip()
    unit = ""
    if bracketed := _BRACKETS.search(text):
        text, unit = _BRACKETS.sub(" ", text), bracketed[1]
    else:
        for mark in "_/":
            name, _, last = text.partition(mark) if mark == "/" else text.rpartition(mark)
            if name and len(last) > 1 and parse_unit(last) is not None:
                text, unit = name, last
                break
    return re.sub(r"[\s_'\"]+", "_", text).strip("_").lower(), unit


def stated_unit(notes: Iterable[str], target: str) -> str:
    """The unit of a quantity that the lines above a table state.

    Parameters
    ----------
    notes : iterable of str
        Lines.
    target : str
        A unit of the quantity, as astropy writes it.

    Returns
    -------
    str
        As written; empty where none is stated.

    Raises
    ------
    UnusableError
        If the lines state several.

    Examples
    --------
    >>> stated_unit(["# flux in Jy", "# rms = 3 mJy"], "mJy")
    'Jy'
    """
    from astropy import units as u

    wanted, found = u.Unit(target), {}
    kinds = [wanted, wanted / u.beam]
    if wanted.is_equivalent("Jy"):
        kinds.append(u.K)  # an antenna temperature is a statement, too
    for line in notes:
        words = re.split(r"[\s,;:=|()\[\]{}#%]+", line)
        # What follows a number is a value in that unit, not the unit of a column.
        words = [
            word
            for before, word in itertools.pairwise(["", *words])
            if len(word) > 1 and not re.fullmatch(r"[-+.\deE]+", before)
        ]
        for word in (*_BRACKETS.findall(line), *words):
            unit = parse_unit(word, a_is_angstrom=True)
            if unit is not None and any(unit.is_equivalent(kind) for kind in kinds):
                found.setdefault(unit.to_string(), word)
    if len(found) > 1:
        raise UnusableError("units contradict each other", ", ".join(found.values()))
    return next(iter(found.values()), "")
