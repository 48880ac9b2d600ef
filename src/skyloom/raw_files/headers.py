"""What FITS headers tell, however their cards are written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skyloom.raw_files.files import UnusableError
from skyloom.raw_files.positions import degrees, position
from skyloom.raw_files.text import MINUS
from skyloom.raw_files.units import parse_unit, unit_factor

_SI = {"F": "Hz", "V": "m/s", "W": "m", "A": "m"}  # of FREQ, VRAD and VOPT, WAVE, AWAV


def number_of(text: Any) -> float:
    """A number, or NaN.

    Parameters
    ----------
    text : object
        A number or text such as ``5000.0``, ``1.0D+03``, ``'5,5'``.

    Returns
    -------
    float

    Examples
    --------
    >>> number_of("1.5D+03"), number_of("0,5"), number_of("none")
    (1500.0, 0.5, nan)
    """
    try:
        return float(text)
    except (ValueError, TypeError):
        word = str(text).strip().strip("'\"").strip().translate(MINUS)
    word = re.sub(r"(?<=[\d.])[dD](?=[+-]?\d)", "e", word)
    word = re.sub(r"^([+-]?\d*),(\d+)(?=$|[eE])", r"\1.\2", word)
    try:
        return float(word)
    except ValueError:
        return np.nan


def header_number(header: Mapping[str, Any], *names: str) -> float:
    """The first of some header values that is a number.

    Parameters
    ----------
    header : mapping
        Of a FITS file.
    *names : str
        Keywords, first choice first.

    Returns
    -------
    float
        NaN where none is one.
    """
    numbers = (number_of(header[name]) for name in names if name in header)
    return next((number for number in numbers if np.isfinite(number)), np.nan)


def header_text(header: Mapping[str, Any], name: str) -> str:
    """A header value as text; empty where there is none.

    Parameters
    ----------
    header : mapping
        Of a FITS file.
    name : str
        Keyword.

    Returns
    -------
    str
    """
    return str(header.get(name, "") or "").strip()


def long_axis(shape: Sequence[int]) -> int:
    """Number of the only axis with more than one pixel, as FITS counts them.

    Parameters
    ----------
    shape : sequence of int
        Of the array.

    Returns
    -------
    int
        From 1 on, the last axis of the array first.

    Raises
    ------
    UnusableError
        If several axes are long.
    """
    longer = [len(shape) - k for k, size in enumerate(shape) if size > 1]
    if len(longer) > 1:
        raise UnusableError("not a single spectrum", f"shape {tuple(shape)}")
    return longer[0] if longer else 1


def axis_step(header: Mapping[str, Any], axis: int) -> float:
    """Step of an axis of an image from one pixel to the next.

    Parameters
    ----------
    header : mapping
        Of a FITS image.
    axis : int
        Its number, from 1.

    Returns
    -------
    float
        In the unit of the axis; NaN where the header tells none.

    References
    ----------
    Greisen & Calabretta (2002), A&A 395, 1061: CDi_j stands in place of CDELTi, PCi_j beside it.
    """
    step = header_number(header, f"CD{axis}_{axis}")
    if np.isfinite(step) and step:
        return step
    rotation = header_number(header, f"PC{axis}_{axis}")
    return header_number(header, f"CDELT{axis}") * (rotation if np.isfinite(rotation) else 1.0)


def axis_values(
    header: Mapping[str, Any], axis: int, n: int, *, rest_frequency: float = np.nan
) -> np.ndarray:
    """World coordinates of the pixels along an axis.

    Parameters
    ----------
    header : mapping
        Of a FITS image.
    axis : int
        Its number, from 1.
    n : int
        Pixels.
    rest_frequency : float
        Hz, of axes that need one, where the header tells none.

    Returns
    -------
    numpy.ndarray, shape (n,)
        In the unit of the axis.

    Raises
    ------
    UnusableError
        If the header tells no value or no step.

    References
    ----------
    Greisen et al. (2006), A&A 446, 747: axes that are not linear, such as ``VOPT-F2W``.
    """
    start, step = header_number(header, f"CRVAL{axis}"), axis_step(header, axis)
    pixel = header_number(header, f"CRPIX{axis}")
    pixel = 1.0 if np.isnan(pixel) else pixel
    if not (np.isfinite(start) and np.isfinite(step) and step):
        msg = f"CRVAL{axis} {start:g}, step {step:g}"
        raise UnusableError("no values along the axis", msg)
    kind = header_text(header, f"CTYPE{axis}").upper()
    if kind.startswith("FELO"):  # of AIPS: even in frequency, written as velocity
        kind = "VOPT-F2W"
    if not re.fullmatch(r"[A-Z]{4}-[A-Z]2[A-Z]", kind):
        return start + (np.arange(n) + 1 - pixel) * step
    from astropy.wcs import WCS

    # The library takes and gives SI units; a header may spell its own in any way.
    unit = header_text(header, f"CUNIT{axis}")
    factor = unit_factor(unit, _SI[kind[0]]) if unit else 1.0
    cards = {"CTYPE1": kind, "CRVAL1": start * factor, "CDELT1": step * factor, "CRPIX1": pixel}
    for name, standard in (("RESTFREQ", "RESTFRQ"), ("RESTFRQ", "RESTFRQ"), ("RESTWAV",) * 2):
        if header_number(header, name) > 0:
            cards[standard] = header_number(header, name)
    if not {"RESTFRQ", "RESTWAV"} & set(cards) and rest_frequency > 0:
        cards["RESTFRQ"] = rest_frequency
    return WCS(cards).wcs_pix2world(np.arange(n), 0)[0] / factor


_WCS_NUMBER = re.compile(
    r"((CRVAL|CRPIX|CDELT|CROTA)\d|(CD|PC|PV)\d_\d+|LONPOLE|LATPOLE|EQUINOX|EPOCH)$"
)
_OF_AXES = re.compile(r"(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA|CNAME|NAXIS)(\d)$|(CD|PC)(\d)_(\d)$")
_LONGITUDE, _LATITUDE = re.compile(r"(RA-|.LON|..LN)"), re.compile(r"(DEC-|.LAT|..LT)")
_FRAMES = {"J2000": "FK5", "B1950": "FK4"}


def celestial_wcs(header: Mapping[str, Any]) -> Any:
    """Where on the sky the pixels of an image are.

    Parameters
    ----------
    header : astropy.io.fits.Header
        Of a FITS image. Its numbers may be written as text, its right ascension in hours.

    Returns
    -------
    wcs : astropy.wcs.WCS or None
        Of the two celestial axes; None where a value or a step of theirs is missing, which the
        library would take for 0 or 1.

    Raises
    ------
    UnusableError
        If the cards contradict each other, or are of no place on the sky.
    """
    from astropy.wcs import WCS

    cards = _readable_cards(header)
    kinds = {name[5:]: str(cards[name]).upper() for name in cards if re.fullmatch(r"CTYPE\d", name)}
    latitude = next((axis for axis, kind in kinds.items() if _LATITUDE.match(kind)), None)
    longitude = next((axis for axis, kind in kinds.items() if _LONGITUDE.match(kind)), None)
    if latitude is None and longitude is None:
        return None
    if latitude is None or longitude is None:
        raise UnusableError("wrong WCS", f"one axis of the sky alone: {', '.join(kinds.values())}")
    if {latitude, longitude} == {"1", "2"}:  # what the other axes say is not asked here
        for name in list(cards):
            found = _OF_AXES.match(name)
            if found and not {found[2] or found[4], found[5] or "1"} <= {"1", "2"}:
                cards.remove(name)
        cards["NAXIS"] = 2
        cards.remove("WCSAXES", ignore_missing=True)
    for axis in (longitude, latitude):
        cd = [header_number(cards, f"CD{axis}_{other}") for other in kinds]
        step = header_number(cards, f"CDELT{axis}")
        if np.isnan(step):  # a matrix stands for itself
            cd += [header_number(cards, f"PC{axis}_{other}") for other in kinds]
        if np.isnan(header_number(cards, f"CRVAL{axis}")) or not np.any(np.nan_to_num([*cd, step])):
            return None
    value, unit = header_number(cards, f"CRVAL{latitude}"), header_text(cards, f"CUNIT{latitude}")
    if abs(value) * (unit_factor(unit, "deg") if unit else 1) > 90:
        raise UnusableError("impossible position", f"CRVAL{latitude} {value:g}")
    try:
        return WCS(cards).celestial
    except Exception as error:
        # astropy raises many kinds of exception on headers that contradict themselves.
        raise UnusableError("wrong WCS", f"{type(error).__name__}: {error}") from error


def _readable_cards(header):
    """Cards of a header in the standard's own writing, as far as they can be understood."""
    cards = header.copy()
    for name in list(header):
        if not _WCS_NUMBER.match(name) or not isinstance(header[name], str):
            continue
        is_ra = header_text(header, f"CTYPE{name[-1]}").upper().startswith("RA")
        text = re.sub(r"^\s*[JB](?=\d)", "", header[name])
        number = degrees(text, hours=is_ra)
        number = number_of(text) if np.isnan(number) else number
        if np.isnan(number):
            cards.remove(name)
        else:
            cards[name] = number
    for name in ("EQUINOX", "EPOCH"):
        year = header_number(cards, name)
        # 0 is how some say that they do not know it, and EPOCH is often that of the observation.
        if year == 0 or (name == "EPOCH" and year > 1984 and year != 2000):
            cards.remove(name)
    for name in ("RADESYS", "RADECSYS"):
        frame = header_text(cards, name).upper()
        if frame:
            cards[name] = _FRAMES.get(frame, frame)
            if cards[name] not in {"ICRS", "FK5", "FK4", "FK4-NO-E"}:
                cards.remove(name)
    for name in list(cards):
        if re.fullmatch(r"CUNIT\d", name) and (unit := parse_unit(str(cards[name]))) is not None:
            cards[name] = unit.to_string("fits")
    return cards


_POSITION_CARDS = (
    ("RA", "DEC"), ("RA_TARG", "DEC_TARG"), ("RAOBJ", "DECOBJ"), ("RA_OBJ", "DEC_OBJ"),
    ("OBJCTRA", "OBJCTDEC"), ("RA_OBS", "DEC_OBS"), ("PLUG_RA", "PLUG_DEC"), ("RAJ2000", "DEJ2000"),
    ("RA_DEG", "DEC_DEG"), ("RADEG", "DECDEG"), ("CAT-RA", "CAT-DEC"), ("TELRA", "TELDEC"),
    ("RA2000", "DEC2000"), ("OBJRA", "OBJDEC"), ("TARGRA", "TARGDEC"), ("ALPHA", "DELTA"),
)  # fmt: skip
_OTHER_EQUINOX = (1850.0, 2100.0)


def header_position(header: Mapping[str, Any], *names: tuple[str, str]) -> tuple[float, float]:
    """The first position of some cards that is one.

    Parameters
    ----------
    header : mapping
        Of a FITS file. Where it is of astropy, comments such as ``[h]`` and ``[rad]`` count.
    *names : tuple of (str, str)
        Keywords of right ascension and declination, first choice first; then the usual ones.

    Returns
    -------
    ra, dec : float
        deg, of the equinox 2000; NaN where there is none. Numbers are degrees, sexagesimal text is
        hours and degrees, unless the comment says otherwise.

    Raises
    ------
    UnusableError
        If a position is no place on the sky.
    """
    for ra, dec in dict.fromkeys((*names, *_POSITION_CARDS)):
        if not {ra, dec} <= set(header):
            continue
        place = position(*(_in_degrees(header, name) for name in (ra, dec)))
        if np.isfinite(place[0]):
            return _of_2000(*place, header)
        beyond = abs(degrees(header[dec]))
        # Numbers such as -99 and -999 stand for none.
        if np.isfinite(degrees(header[ra], hours=True)) and 90 < beyond <= 180 and beyond != 99:
            raise UnusableError("impossible position", f"{dec} {header[dec]}")
    return np.nan, np.nan


def _in_degrees(header, name):
    """Value of a card, in degrees where its comment states another unit of a number."""
    number = number_of(header[name])
    comments = getattr(header, "comments", None)
    comment = str(comments[name]).lower() if comments is not None else ""
    if np.isnan(number):
        return header[name]
    if re.search(r"\[rad|\bradians?\b", comment):
        return np.degrees(number)
    if name[:2] == "RA" and re.search(r"\[h(ours?|rs?)?\]|\bin hours\b|\(hours\)", comment):
        return 15 * number
    return header[name]


def _of_2000(ra, dec, header):
    """A position of the header's equinox in ICRS."""
    text = re.sub(r"^[JB]", "", header_text(header, "EQUINOX") or header_text(header, "EPOCH"))
    equinox = number_of(text)
    low, high = _OTHER_EQUINOX
    frame = header_text(header, "RADESYS").upper() or header_text(header, "RADECSYS").upper()
    if np.isnan(equinox) and frame in {"FK4", "B1950"}:
        equinox = 1950.0
    # EPOCH is often that of the observation; before 1984 no other equinox was in use.
    told = bool(header_text(header, "EQUINOX")) or equinox < 1984
    if frame == "ICRS" or not low < equinox < high or equinox == 2000 or not told:
        return ra, dec
    from astropy.coordinates import FK4, FK5, SkyCoord

    of_date = FK4(equinox=f"B{equinox}") if equinox < 1984 else FK5(equinox=f"J{equinox}")
    place = SkyCoord(ra, dec, unit="deg", frame=of_date).icrs
    return float(place.ra.deg), float(place.dec.deg)
