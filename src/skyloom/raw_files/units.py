"""Units as files write them."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterable
from typing import Any

from skyloom.raw_files.files import UnusableError

# Words that astropy does not know, or takes for something else, in lower case.
_SPELLED = {
    "jy": "Jy", "mjy": "mJy", "ujy": "uJy", "jansky": "Jy", "janskys": "Jy", "millijy": "mJy",
    "mjansky": "mJy", "millijansky": "mJy", "microjy": "uJy", "microjansky": "uJy",
    "kms": "km/s", "kms-1": "km/s", "kmps": "km/s", "km": "km", "s": "s", "sec": "s", "m": "m",
    "kilometer": "km", "kilometers": "km", "kilometre": "km", "kilometres": "km", "second": "s",
    "seconds": "s", "meter": "m", "meters": "m", "metre": "m", "metres": "m",
    "beam": "beam", "bm": "beam", "b": "beam",
    "hz": "Hz", "hertz": "Hz", "khz": "kHz", "mhz": "MHz", "ghz": "GHz",
    "angstrom": "Angstrom", "angstroms": "Angstrom", "ang": "Angstrom", "aa": "Angstrom",
    "angstroem": "Angstrom", "angstr": "Angstrom",
    "\N{ANGSTROM SIGN}": "Angstrom", "\N{LATIN SMALL LETTER A WITH RING ABOVE}": "Angstrom",
    "nm": "nm", "nanometer": "nm", "nanometers": "nm", "nanometre": "nm", "nanometres": "nm",
    "um": "um", "micron": "um", "microns": "um", "micrometer": "um", "micrometers": "um",
    "micrometre": "um", "micrometres": "um", "ev": "eV",
    "\N{MICRO SIGN}m": "um", "\N{GREEK SMALL LETTER MU}m": "um",
    "k": "K", "kelvin": "K", "ta": "K", "ta*": "K", "tmb": "K", "tr*": "K",
    "deg": "deg", "degree": "deg", "degrees": "deg", "arcsec": "arcsec", "arcmin": "arcmin",
    "arcsecs": "arcsec", "arcseconds": "arcsec", "arcminutes": "arcmin",
    "rad": "rad", "radian": "rad", "radians": "rad",
}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+\*?")
_POWER = re.compile(r"1?0?(\^|\*\*|e)[-+]?\d+[ *.]", re.IGNORECASE)  # before a unit: its scale
_VELOCITY, _FLUX = re.compile(r"(?i)k?m(/s|\.?s-1)"), re.compile(r"(?i)[mu]?jy(/beam)?")
_AS_WRITTEN = {"MJy"}  # in lower case it would be a thousandth, not a million
# What a unit may be set in, and how else a quotient may be written.
_DRESS = (
    (r"\$?\^\{?([-+]?\d+)\}?\$?", r"\1"), (r"[\[\]$\\{}<>]", " "), (r"[\u00b7\u22c5]", " "),
    (r"\u207b\u00b9", "-1"), (r"\u207b\u00b2", "-2"), (r"(?i)\bper\b", "/"),
    (r"(?i)\bclean\b", " "), (r"\.$", ""),
)  # fmt: skip


_BRACKETS = re.compile(r"[\[({<]\s*([^\])}>]+?)\s*[\])}>]")


@functools.lru_cache(maxsize=4096)  # astropy is slow where a word is no unit
def parse_unit(written: str, *, a_is_angstrom: bool = False) -> Any:
    """Understand a unit.

    Parameters
    ----------
    written : str
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

    text = written.strip().strip("'\"").strip()
    if not text or (text[0] in "+-.0123456789" and not _POWER.match(text)):
        return None  # a value, perhaps with its unit
    dressed = text
    for pattern, plain in _DRESS:
        dressed = re.sub(pattern, plain, dressed)
    dressed = dressed.strip()
    whole = None if text in _AS_WRITTEN else _SPELLED.get(re.sub(r"\s", "", text).lower())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of spellings that are out of use
        attempts = (whole, _WORD.sub(spelled, text), text, _WORD.sub(spelled, dressed))
        for attempt in filter(None, attempts):
            try:
                return u.Unit(attempt)
            except (ValueError, TypeError):
                continue
    # Flux Density [Jy], km/s (LSR): the unit within the brackets, or before them.
    if (bracketed := _BRACKETS.search(text)) and bracketed[0] != text:
        parts = (bracketed[1], _BRACKETS.sub(" ", text))
        found = (parse_unit(part, a_is_angstrom=a_is_angstrom) for part in parts)
        return next((unit for unit in found if unit is not None), None)
    return None


def unit_factor(written: str, target: str) -> float:
    """Factor from a unit as written in a file to another.

    Parameters
    ----------
    written : str
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
        raise UnusableError("wrong units", f"{written.strip()!r}, expected {target}")
    try:
        return float(unit.to(wanted))
    except u.UnitConversionError as error:
        if unit.is_equivalent("K"):
            msg = f"{written.strip()!r} is a temperature, expected {target}"
        else:
            msg = f"{written.strip()!r}, expected {target}"
        raise UnusableError("wrong units", msg) from error


# What else stands in the brackets of a heading: frames, conventions, media, and kinds of data.
_NO_UNITS = re.compile(
    r"(?i)(radio|optical|relativistic|helio\w*|bary\w*|lsr\w?|topo\w*|geo\w*|cmb|rest|observed|obs"
    r"|frame|in|vac\w*|air|total|raw|smoothed|calibrated|corrected|data|model|peak|mean|sum|log\w*"
    r"|convention|velocity|cz|j2000|icrs|lambda|wave\w*|wl|\d+|[-,;/. ])+"
)


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
    if bracketed := _BRACKETS.findall(text):
        text = _BRACKETS.sub(" ", text)
        bracketed = [part.strip() for each in bracketed for part in re.split("[;,]", each)]
        # As in log10(wavelength/nm).
        bracketed = [re.sub(r"(?i)^(lambda|wave\w*)/", "", each) for each in bracketed]
        stated = [each for each in bracketed if each and not _NO_UNITS.fullmatch(each)]
        understood = [each for each in stated if parse_unit(each, a_is_angstrom=True) is not None]
        unit = next(iter((*understood, *stated)), "")
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
        # What follows or precedes a number is a value in that unit, not the unit of a column.
        line = re.sub(r"[\[({<][^\])}>]*[\])}>]\s*[:=]?\s*[-+]?\.?\d[\d.eE+-]*", " ", line)
        bracketed = _BRACKETS.findall(line)
        words = re.split(r"[\s,;:=|#%'\"]+", _BRACKETS.sub(" ", line))
        of_flux = re.search(r"(?i)flux|unit|temperature|intensity|\by\b", line)
        words = [
            word
            for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False)
            if ((len(word) > 1 and not re.fullmatch(r"[A-Z]\.", word)) or (word == "K" and of_flux))
            and not re.fullmatch(r"[-+]?\.?\d[\d.eE+-]*|from", before)
            # Jy km/s is a unit of neither.
            and not (_FLUX.fullmatch(word) and _VELOCITY.fullmatch(after))
            and not (_FLUX.fullmatch(before) and _VELOCITY.fullmatch(word))
        ]
        for word in (*bracketed, *words):
            unit = parse_unit(word, a_is_angstrom=True)
            if unit is not None and any(unit.is_equivalent(kind) for kind in kinds):
                found.setdefault(unit.to_string(), word)
    if len(found) > 1:
        raise UnusableError("units contradict each other", ", ".join(found.values()))
    return next(iter(found.values()), "")
