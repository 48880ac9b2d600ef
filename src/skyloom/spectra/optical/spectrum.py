"""An optical spectrum as read, and what its readers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from skyloom.raw_files import RawFile, UnusableError

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
    for name in names:
        try:
            return float(header[name])
        except (KeyError, TypeError, ValueError):
            continue
    return np.nan


def checked(spectrum: OpticalSpectrum) -> OpticalSpectrum:
    """The spectrum, its bad values masked, if it is one at all.

    Parameters
    ----------
    spectrum : OpticalSpectrum
        As a reader found it; its mask is changed.

    Returns
    -------
    OpticalSpectrum

    Raises
    ------
    UnusableError
        If it has too few pixels, none to use, no light, or wavelengths that cannot be right.
    """
    wavelength, flux = spectrum.wavelength, spectrum.flux
    if len(flux) < _FEWEST_PIXELS:
        raise UnusableError("too few pixels", len(flux))
    if not np.isfinite(wavelength).all() or (np.diff(wavelength) <= 0).any():
        raise UnusableError(
            "wavelengths not increasing", f"{wavelength[0]:g} to {wavelength[-1]:g}"
        )
    low, high = WAVELENGTHS
    if wavelength[0] < low or wavelength[-1] > high:
        value = f"{wavelength[0]:g} to {wavelength[-1]:g}"
        raise UnusableError("wavelengths not in Angstrom", value)
    spectrum.mask[~np.isfinite(flux)] = True
    usable = flux[~spectrum.mask]
    if not len(usable):
        raise UnusableError("no usable pixel", f"all {len(flux)} are masked")
    if usable.min() == usable.max():
        raise UnusableError("constant flux", f"{usable[0]:g}")
    return spectrum
