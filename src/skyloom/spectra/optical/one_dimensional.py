"""FITS images of one axis: MILES, STELIB and others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skyloom.raw_files import RawFile, Reader, UnusableError
from skyloom.raw_files.names import file_stem
from skyloom.spectra.optical.spectrum import OpticalSpectrum, checked, header_number

if TYPE_CHECKING:
    from astropy.io import fits


def _is_one_dimensional(file: RawFile) -> bool:
    hdu = file.image_hdu
    return hdu is not None and np.squeeze(hdu.data).ndim == 1 and "CRVAL1" in hdu.header


def _read_one_dimensional(file: RawFile) -> OpticalSpectrum:
    """MILES, STELIB and others: a linear or logarithmic axis, at rest, in air unless it says so."""
    header, flux = file.image_hdu.header, np.squeeze(file.image_hdu.data).astype(float)
    step = header_number(header, "CDELT1", "CD1_1")
    axis = header_number(header, "CRVAL1") + step * (
        np.arange(len(flux)) + 1 - float(header.get("CRPIX1", 1))
    )
    kind = str(header.get("CTYPE1", "")).strip().upper()
    if header.get("DC-FLAG") == 1 or (kind.startswith("LOG") or axis[0] < 10):
        axis = 10**axis
    elif kind.endswith("-LOG"):  # Greisen et al. (2006), eq. 5
        start = header_number(header, "CRVAL1")
        axis = start * np.exp((axis - start) / start)
    vacuum = bool(header.get("VACUUM", False)) or kind.startswith("WAVE")
    ra, dec = (header_number(header, name) for name in ("RA", "DEC"))
    return checked(
        OpticalSpectrum(
            axis * _in_angstrom(header),
            flux,
            np.full(len(flux), np.nan),
            flux == 0,  # how STELIB fills gaps
            "1-D image",
            medium="vacuum" if vacuum else "air",
            flux_unit=str(header.get("BUNIT", "relative")).strip(),
            identifier=str(header.get("OBJECT", "")).strip() or file_stem(file.name),
            spectral_type=str(header.get("SPECTYPE", "")).strip(),
            # STELIB writes radians
            ra=np.degrees(ra) if abs(ra) < 2 * np.pi else ra,
            dec=np.degrees(dec) if abs(ra) < 2 * np.pi else dec,
        )
    )


def _in_angstrom(header):
    from astropy import units as u

    unit = str(header.get("CUNIT1", "Angstrom")).strip() or "Angstrom"
    try:
        return u.Unit(unit.rstrip("s")).to("Angstrom")
    except (ValueError, u.UnitConversionError) as error:
        raise UnusableError("wrong units", f"{unit!r} of the wavelengths") from error


READERS = (Reader("1-D image", _is_one_dimensional, _read_one_dimensional),)


def to_hdu(wavelength: np.ndarray, flux: np.ndarray, **header: Any) -> fits.PrimaryHDU:
    """A spectrum on a logarithmic axis.

    Parameters
    ----------
    wavelength : numpy.ndarray, shape (n,)
        Angstrom in vacuum, evenly spaced in their logarithm.
    flux : numpy.ndarray, shape (n,)
        In the unit that ``BUNIT`` names.
    **header
        Further keywords, such as ``OBJECT`` and ``SPECTYPE``.

    Returns
    -------
    astropy.io.fits.PrimaryHDU

    References
    ----------
    Greisen et al. (2006), A&A 446, 747, eq. 5.
    """
    from astropy.io import fits

    first, second = wavelength[:2]
    hdu = fits.PrimaryHDU(flux.astype(np.float32))
    axis = {
        "CTYPE1": "WAVE-LOG", "CUNIT1": "Angstrom", "CRPIX1": 1.0, "CRVAL1": first,
        "CDELT1": first * np.log(second / first), "VACUUM": True,
    }  # fmt: skip
    hdu.header.update(header | axis)
    return hdu
