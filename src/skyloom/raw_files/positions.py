"""Positions on the sky as people and programs write them."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np

# Any minus that a text editor, a web page or a typesetter makes.
_MINUS = str.maketrans(
    dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{HYPHEN}\N{NON-BREAKING HYPHEN}", "-")
)


def degrees(value: Any, *, hours: bool = False) -> float:
    """Angle in degrees of a number or text.

    Parameters
    ----------
    value : object
        A number is in degrees, as FITS has it. Text may be a number, with a point or a comma, or
        sexagesimal: ``12:34:56.7``, ``12 34 56.7``, ``12h34m56.7s``, ``-00d12m15s``.
    hours : bool
        Whether sexagesimal text without letters is in hours, as of a right ascension.

    Returns
    -------
    float
        NaN of anything else.

    Examples
    --------
    >>> round(degrees("12:34:56.7", hours=True), 5), degrees("-0,25"), degrees("none")
    (188.73625, -0.25, nan)
    """
    text = str(value).strip().strip("'\"").translate(_MINUS)
    if re.fullmatch(r"[+-]?\d+,\d+", text):
        text = text.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        pass
    from astropy.coordinates import Angle  # slow to import

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # 60 seconds, for instance
            return float(Angle(text.replace(",", "."), "hourangle" if hours else "deg").deg)
    except (ValueError, Warning):
        return np.nan


def position(ra: Any, dec: Any) -> tuple[float, float]:
    """Right ascension and declination in degrees.

    Parameters
    ----------
    ra, dec : object
        As for `degrees`.

    Returns
    -------
    ra, dec : float
        deg; both NaN where one is missing, not understood, or no place on the sky.

    Examples
    --------
    >>> position("10.5", "-00:15:00"), position(10, 127)
    ((10.5, -0.25), (nan, nan))
    """
    place = degrees(ra, hours=True), degrees(dec)
    # A right ascension may be counted from -180.
    if -360 <= place[0] <= 360 and abs(place[1]) <= 90:
        return place[0] % 360, place[1]
    return np.nan, np.nan
