"""An integrated 21-cm spectrum as read, and what its readers share."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skyloom.raw_files import RawFile, UnusableError

_BLANK_FLUX = 1e30  # mJy; larger values stand for none, or are damaged bytes
VELOCITY_COLUMNS = ("velocity", "vhelio", "velo", "vel", "vopt", "vrad", "cz", "v")
FLUX_COLUMNS = ("flux", "flux_density", "fluxdensity", "intensity", "s")
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


def unit_factor(unit: str, target: str) -> float:
    """Factor from a unit as written in a file to another.

    Parameters
    ----------
    unit : str
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
    """
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


def make_spectrum(
    velocity: ArrayLike,
    flux: ArrayLike,
    layout: str,
    axis: str = "velocity",
    header: Mapping[str, Any] | None = None,
) -> Spectrum:
    """Spectrum in ascending velocity, its blank values masked.

    Parameters
    ----------
    velocity : array_like, shape (m,)
        km/s, or channel numbers.
    flux : array_like, shape (m,)
        mJy.
    layout, axis : str
        See `Spectrum`.
    header : mapping, optional
        Where the name of the object and its velocity may stand.

    Returns
    -------
    Spectrum

    Raises
    ------
    UnusableError
        If the axis is not finite or as long as the fluxes.
    """
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
