"""An optical spectrum as read, and what its readers share."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skyloom.raw_files import RawFile, UnusableError
from skyloom.raw_files.headers import header_text
from skyloom.raw_files.missing import without_missing
from skyloom.raw_files.units import parse_unit, unit_factor

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


_YES = {"T", "TRUE", "1", "1.0", "YES", "Y", "ON", "VAC", "VACUUM"}
_MEDIA = {"air", "vac", "vacuum"}
_NO = {"F", "FALSE", "0", "0.0", "NO", "N", "OFF", "AIR"}


def medium_of(
    header: Mapping[str, Any], kind: str = "", otherwise: str = "air", words: Iterable[str] = ()
) -> str:
    """In which medium the wavelengths of a file are.

    Parameters
    ----------
    header : mapping
        Of a FITS file: AIRORVAC and VACUUM count first.
    kind : str
        CTYPE of the axis: ``WAVE`` is in vacuum, ``AWAV`` in air.
    otherwise : str
        Where nothing is said.
    words : iterable of str
        What else is said of the wavelengths: headings, comments.

    Returns
    -------
    str
        ``vacuum`` or ``air``.

    References
    ----------
    Greisen et al. (2006), A&A 446, 747, table 1.
    """
    told = header_text(header, "AIRORVAC").lower()
    if told.startswith(("a", "v")):
        return "air" if told.startswith("a") else "vacuum"
    # A logical card may be a number or text; an empty one says nothing.
    vacuum = str(header.get("VACUUM", "")).strip().strip(".").upper()
    if vacuum in _YES | _NO:
        return "vacuum" if vacuum in _YES else "air"
    if re.fullmatch(r"(WAVE|AWAV|FREQ|ENER|WAVN)(-.*)?", kind):
        return "air" if kind.startswith("AWAV") else "vacuum"
    from astropy.io.fits.verify import VerifyError

    comments = [
        line for name in ("COMMENT", "HISTORY") for line in str(header.get(name, "")).splitlines()
        if re.search(r"(?i)wave|lambda", line)
    ]  # fmt: skip
    cards, axis = [], []
    for name in header:
        with contextlib.suppress(VerifyError):  # of a card that cannot be read
            text = str(header[name]).strip()
            if text.lower() in _MEDIA:  # many have a card of their own for it
                cards.append(text)
            if str(name).startswith(("WAT1_", "CNAME", "CUNIT")):
                axis.append(text)
    for line in (kind, *axis, *words, *cards, *comments):
        if medium := medium_in_words(line):
            return medium
    return otherwise


def medium_in_words(text: str) -> str:
    """The medium of wavelengths that a line names.

    Parameters
    ----------
    text : str
        Such as ``wavelengths in air, not vacuum`` or ``VACUUM = F``.

    Returns
    -------
    str
        ``vacuum``, ``air``, or empty where it names neither, or both alike.

    Examples
    --------
    >>> medium_in_words("converted from vacuum to air"), medium_in_words("WAVE_VAC")
    ('air', 'vacuum')
    """
    text = text.lower()
    if told := re.search(r"airorvac\W+([av])", text):
        return "air" if told[1] == "a" else "vacuum"
    if told := re.search(r"vacuum\s*[:=]\s*['\".]?(\w+)", text):
        return "vacuum" if told[1].upper() in _YES else "air" if told[1].upper() in _NO else ""
    air = r"(?<![a-z])air(?![a-z])"
    named = [medium for medium, word in (("air", air), ("vacuum", "vac")) if re.search(word, text)]
    if len(named) < 2 and not re.search(r"\bnot\s+(in\s+)?(air|vac)", text):
        return next(iter(named), "")
    for medium, word, other in (("air", air, "vac"), ("vacuum", "vac", air)):
        if re.search(rf"(\bto|->|into)\s+(in\s+)?{word}|(not|from)\s+(in\s+)?{other}", text):
            return medium
    return ""


def wavelengths_in(values: np.ndarray, unit: str) -> np.ndarray:
    """Wavelengths of a spectral axis of any kind.

    Parameters
    ----------
    values : numpy.ndarray, shape (n,)
        Wavelengths, frequencies, energies or wavenumbers, or logarithms of wavelengths.
    unit : str
        As written; ``log10(nm)`` and ``ln(Angstrom)`` are those of logarithms.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Angstrom.

    Raises
    ------
    UnusableError
        If the unit is none of these.
    """
    from astropy import units as u

    if logarithm := re.fullmatch(r"(?i)(log_?10|log|dex|ln)\W*(.*?)\W*", unit.strip()):
        values = np.exp(values) if logarithm[1].lower() == "ln" else 10**values
        return values * unit_factor(logarithm[2] or "Angstrom", "Angstrom")
    parsed = parse_unit(unit, a_is_angstrom=True)
    if parsed is None or parsed.is_equivalent("m"):
        return values * unit_factor(unit, "Angstrom")
    try:
        return (values * parsed).to(u.AA, u.spectral()).value
    except u.UnitConversionError as error:
        raise UnusableError("wrong units", f"{unit!r}, expected a wavelength") from error


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


def inverse_variance_of(error: np.ndarray) -> np.ndarray:
    """Inverse variance of errors: NaN where they are not known, 0 where they are not positive.

    Parameters
    ----------
    error : numpy.ndarray
        In the unit of the flux.

    Returns
    -------
    numpy.ndarray
    """
    with np.errstate(divide="ignore"):
        return np.where(error > 0, 1 / error**2, np.where(np.isnan(error), np.nan, 0))


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
