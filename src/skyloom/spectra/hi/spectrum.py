"""An integrated 21-cm spectrum as read, and what its readers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skyloom.raw_files import RawFile, UnusableError
from skyloom.raw_files.headers import header_number, header_text
from skyloom.raw_files.units import parse_unit, unit_factor
from skyloom.spectra.constants import REST_FREQUENCY, SPEED_OF_LIGHT

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
    convention : str
        What the file's axis was, ``frequency``, ``radio`` or ``optical``; empty where it does not
        say. The velocities here are optical ones.
    """

    velocity: np.ndarray
    flux: np.ndarray
    axis: str = "velocity"
    layout: str = ""
    object_name: str = ""
    systemic_velocity: float = np.nan
    convention: str = ""


@dataclass(frozen=True)
class SpectrumFile(RawFile):
    """A file, and the units to assume where it states none."""

    velocity_unit: str = "km/s"
    flux_unit: str = "mJy"


def optical_velocity(
    values: np.ndarray, kind: str, unit: str, *, rest_frequency: float = np.nan
) -> np.ndarray:
    """Optical velocities of a spectral axis.

    Parameters
    ----------
    values : numpy.ndarray, shape (m,)
        In the unit of the axis.
    kind : {"frequency", "radio", "optical", ""}
        What they are; a velocity of no stated convention is taken as optical.
    unit : str
        As written.
    rest_frequency : float
        MHz, where the file tells it.

    Returns
    -------
    numpy.ndarray, shape (m,)
        c z, km/s.

    Raises
    ------
    UnusableError
        If the unit is another kind's, the line is not that of hydrogen, or a velocity is beyond
        that of light.

    References
    ----------
    Greisen et al. (2006), A&A 446, 747, table 1.
    """
    if abs(rest_frequency / REST_FREQUENCY - 1) > 0.3:  # telescopes tune nearby
        value = f"rest frequency {rest_frequency:.6g} MHz, expected {REST_FREQUENCY:.6g}"
        raise UnusableError("not the 21-cm line", value)
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "frequency":
            frequency = values * unit_factor(unit, "MHz")
            velocity = SPEED_OF_LIGHT * (REST_FREQUENCY / frequency - 1)
        else:
            velocity = values * unit_factor(unit, "km/s")
            if kind == "radio":
                velocity = velocity / (1 - velocity / SPEED_OF_LIGHT)
    fastest = float(np.nanmax(np.abs(velocity), initial=0.0))
    if not fastest < SPEED_OF_LIGHT:
        raise UnusableError("wrong velocity axis", f"up to {fastest:.4g} km/s, faster than light")
    return velocity


def flux_factor(unit: str) -> float:
    """Factor from a unit of flux to mJy.

    Parameters
    ----------
    unit : str
        As written; a beam is taken to hold the whole galaxy, as single-dish spectra do.

    Returns
    -------
    float

    Raises
    ------
    UnusableError
        If it is none of a flux density.
    """
    parsed = parse_unit(unit)
    return unit_factor(unit, "mJy / beam" if parsed and "beam" in str(parsed) else "mJy")


def make_spectrum(
    velocity: ArrayLike,
    flux: ArrayLike,
    layout: str,
    axis: str = "velocity",
    header: Mapping[str, Any] | None = None,
    convention: str = "",
) -> Spectrum:
    """Spectrum in ascending velocity.

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
    convention : str
        See `Spectrum`.

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
    header = header or {}
    return Spectrum(
        velocity, flux, axis, layout, header_text(header, "OBJECT"),
        header_number(header, *_SYSTEMIC_KEYWORDS), convention,
    )  # fmt: skip
