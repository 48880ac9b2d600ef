"""What FITS headers tell, however their cards are written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skyloom.raw_files.files import UnusableError
from skyloom.raw_files.positions import degrees, position
from skyloom.raw_files.units import unit_factor

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
    word = str(text).strip().strip("'\"").strip()
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


def axis_values(header: Mapping[str, Any], axis: int, n: int) -> np.ndarray:
    """World coordinates of the pixels along an axis.

    Parameters
    ----------
    header : mapping
        Of a FITS image.
    axis : int
        Its number, from 1.
    n : int
        Pixels.

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
    if not re.fullmatch(r"[A-Z]{4}-[A-Z]2[A-Z]", kind):
        return start + (np.arange(n) + 1 - pixel) * step
    from astropy.wcs import WCS

    # The library takes and gives SI units; a header may spell its own in any way.
    unit = header_text(header, f"CUNIT{axis}")
    factor = unit_factor(unit, _SI[kind[0]]) if unit else 1.0
    cards = {"CTYPE1": kind, "CRVAL1": start * factor, "CDELT1": step * factor, "CRPIX1": pixel}
    for name, standard in (("RESTFREQ", "RESTFRQ"), ("RESTFRQ", "RESTFRQ"), ("RESTWAV",) * 2):
        if np.isfinite(value := header_number(header, name)):
            cards[standard] = value
    return WCS(cards).wcs_pix2world(np.arange(n), 0)[0] / factor


_WCS_NUMBER = re.compile(
    r"((CRVAL|CRPIX|CDELT|CROTA)\d|(CD|PC|PV)\d_\d+|LONPOLE|LATPOLE|EQUINOX|EPOCH)$"
)


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

    cards = header.copy()
    for name in list(header):
        if _WCS_NUMBER.match(name) and isinstance(header[name], str):
            is_ra = header_text(header, f"CTYPE{name[-1]}").upper().startswith("RA")
            number = degrees(header[name], hours=is_ra)
            cards[name] = number_of(header[name]) if np.isnan(number) else number
            if np.isnan(cards[name]):
                cards.remove(name)
    for name in cards:
        is_latitude = re.match(r"DEC-|.LAT", header_text(cards, f"CTYPE{name[5:]}").upper())
        if name.startswith("CRVAL") and is_latitude and abs(header_number(cards, name)) > 90:
            raise UnusableError("impossible position", f"{name} {cards[name]:g}")
    try:
        wcs = WCS(cards)
    except Exception as error:
        # astropy raises many kinds of exception on headers that contradict themselves.
        raise UnusableError("wrong WCS", f"{type(error).__name__}: {error}") from error
    if not wcs.has_celestial:
        return None
    for axis in (wcs.wcs.lng + 1, wcs.wcs.lat + 1):
        steps = [axis_step(cards, axis)]
        steps += [header_number(cards, f"CD{axis}_{other}") for other in range(1, wcs.naxis + 1)]
        if not np.isfinite(header_number(cards, f"CRVAL{axis}")) or not np.any(
            np.nan_to_num(steps)
        ):
            return None
    return wcs.celestial


def header_position(header: Mapping[str, Any], *names: tuple[str, str]) -> tuple[float, float]:
    """The first position of some cards that is one.

    Parameters
    ----------
    header : mapping
        Of a FITS file.
    *names : tuple of (str, str)
        Keywords of right ascension and declination, first choice first.

    Returns
    -------
    ra, dec : float
        deg; NaN where there is none. Numbers are degrees, sexagesimal text is hours and degrees.

    Raises
    ------
    UnusableError
        If a position is no place on the sky.
    """
    for ra, dec in names:
        if not {ra, dec} <= set(header):
            continue
        place = position(header[ra], header[dec])
        if np.isfinite(place[0]):
            return place
        beyond = abs(degrees(header[dec]))
        # Numbers such as -99 and -999 stand for none.
        if np.isfinite(degrees(header[ra], hours=True)) and 90 < beyond <= 180 and beyond != 99:
            raise UnusableError("impossible position", f"{dec} {header[dec]}")
    return np.nan, np.nan
