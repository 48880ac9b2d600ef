"""An optical spectrum as read, and what its readers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skyloom.raw_files import RawFile, UnusableError
from skyloom.raw_files.headers import header_text
from skyloom.raw_files.missing import without_missing
from skyloom.raw_files.units import parse_unit

_FEWEST_PIXELS = 100
WAVELENGTHS = (1e3, 3e5)  # Angstrom: what else is not in Angstrom


@dataclass(frozen=True)
class OpticalSpectrum:
    """A spectrum as read.

    Attributes
    ----------
    wavelength : numpy.ndarray, shape (n,)
        Angstrom, increasing.
    flux : numpy.ndarray, shape (n,)
        In units of ``flux_unit``, per wavelength.
    inverse_variance : numpy.ndarray, shape (n,)
        Of the flux; NaN where the file gives none.
    mask : numpy.ndarray of bool, shape (n,)
        Pixels that must not be used.
    layout : str
        Name of the reader.
    medium : {"vacuum", "air"}
        In which the wavelengths are.
    flux_unit : str
        As the file states it, or ``relative``.
    identifier : str
        Of the star or observation; empty where the file gives none.
    spectral_type : str
        As the file writes it; empty where it gives none.
    radial_velocity : float
        By which the spectrum is shifted, km/s; 0 where the file is at rest.
    ra, dec : float
        deg; NaN where the file gives none.
    snr : float
        In the g band where the file tells it, else NaN.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    inverse_variance: np.ndarray
    mask: np.ndarray
    layout: str
    medium: str = "air"
    flux_unit: str = "relative"
    identifier: str = ""
    spectral_type: str = ""
    radial_velocity: float = 0.0
    ra: float = np.nan
    dec: float = np.nan
    snr: float = np.nan


def vacuum_wavelength(spectrum: OpticalSpectrum) -> np.ndarray:
    """Wavelengths in vacuum.

    Parameters
    ----------
    spectrum : OpticalSpectrum
        In air or vacuum.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Angstrom.

    References
    ----------
    Morton (2000), ApJS 130, 403, as IAU standard; see `specutils.utils.wcs_utils.air_to_vac`.
    """
    if spectrum.medium == "vacuum":
        return spectrum.wavelength
    from astropy import units as u
    from specutils.utils.wcs_utils import air_to_vac

    return air_to_vac(spectrum.wavelength * u.AA, scheme="iteration", method="Morton2000").value


def column_names(file: RawFile) -> set[str]:
    """Upper-case names of the columns of the first extension, where that is a table.

    Parameters
    ----------
    file : RawFile
        Any.

    Returns
    -------
    set of str
        Empty where there is no table.
    """
    if not file.is_fits or len(file.hdus) < 2 or file.hdus[1].is_image:
        return set()
    return {name.upper() for name in file.hdus[1].columns.names}


_YES, _NO = {"T", "TRUE", "1", "YES", "Y"}, {"F", "FALSE", "0", "NO", "N"}


def medium_of(header: Mapping[str, Any], kind: str = "", otherwise: str = "air") -> str:
    """In which medium the wavelengths of a file are.

    Parameters
    ----------
    header : mapping
        Of a FITS file: AIRORVAC and VACUUM count first.
    kind : str
        CTYPE of the axis: ``WAVE`` is in vacuum, ``AWAV`` in air.
    otherwise : str
        Where nothing is said.

    Returns
    -------
    str
        ``vacuum`` or ``air``.

    References
    ----------
    Greisen et al. (2006), A&A 446, 747, table 1.
    """
    told = header_text(header, "AIRORVAC").lower()
    if told.startswith(("air", "vac")):
        return "air" if told.startswith("air") else "vacuum"
    # A logical card may be a number or text; an empty one says nothing.
    vacuum = str(header.get("VACUUM", "")).strip().upper()
    if vacuum in _YES | _NO:
        return "vacuum" if vacuum in _YES else "air"
    if kind.startswith(("WAVE", "AWAV")):
        return "vacuum" if kind.startswith("WAVE") else "air"
    return otherwise


def per_wavelength(
    flux: np.ndarray, error: np.ndarray, wavelength: np.ndarray, unit: str
) -> tuple[np.ndarray, np.ndarray, str]:
    """Fluxes per wavelength, where they are per frequency.

    Parameters
    ----------
    flux, error : numpy.ndarray, shape (n,)
        In ``unit``.
    wavelength : numpy.ndarray, shape (n,)
        Angstrom.
    unit : str
        As written.

    Returns
    -------
    flux, error : numpy.ndarray, shape (n,)
    unit : str
        The same, or ``erg / (s cm2 Angstrom)`` where it was of a flux per frequency.
    """
    from astropy import units as u

    parsed = parse_unit(unit) if unit else None
    if parsed is None or not parsed.is_equivalent("Jy"):
        return flux, error, unit or "relative"
    density, ours = u.spectral_density(wavelength * u.AA), u.Unit("erg / (s cm2 Angstrom)")
    converted = ((each * parsed).to(ours, density).value for each in (flux, error))
    return *converted, ours.to_string()


def checked(spectrum: OpticalSpectrum) -> OpticalSpectrum:
    """The spectrum, its bad values masked, if it is one at all.

    Parameters
    ----------
    spectrum : OpticalSpectrum
        As a reader found it; the wavelengths may descend.

    Returns
    -------
    OpticalSpectrum

    Raises
    ------
    UnusableError
        If it has too few pixels, none to use, no light, or wavelengths that cannot be right.
    """
    wavelength, flux = spectrum.wavelength, without_missing(spectrum.flux)
    if len(flux) < _FEWEST_PIXELS:
        raise UnusableError("too few pixels", len(flux))
    if len(wavelength) != len(flux):
        raise UnusableError("columns differ in length", f"{len(wavelength)} and {len(flux)}")
    if wavelength[0] > wavelength[-1]:
        names = ("wavelength", "flux", "inverse_variance", "mask")
        return checked(replace(spectrum, **{name: getattr(spectrum, name)[::-1] for name in names}))
    if not np.isfinite(wavelength).all() or (np.diff(wavelength) <= 0).any():
        raise UnusableError(
            "wavelengths not increasing", f"{wavelength[0]:g} to {wavelength[-1]:g}"
        )
    low, high = WAVELENGTHS
    if wavelength[0] < low or wavelength[-1] > high:
        value = f"{wavelength[0]:g} to {wavelength[-1]:g}"
        raise UnusableError("wavelengths not in Angstrom", value)
    mask = spectrum.mask | ~np.isfinite(flux)
    usable = flux[~mask]
    if not len(usable):
        raise UnusableError("no usable pixel", f"all {len(flux)} are masked")
    if usable.min() == usable.max():
        raise UnusableError("constant flux", f"{usable[0]:g}")
    return replace(spectrum, flux=flux, mask=mask)
