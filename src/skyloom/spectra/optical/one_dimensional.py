"""FITS images of one axis: MILES, STELIB and others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from skyloom.raw_files import RawFile, Reader, UnusableError
from skyloom.raw_files.headers import (
    axis_values,
    header_number,
    header_position,
    header_text,
    long_axis,
    number_of,
)
from skyloom.raw_files.names import file_stem
from skyloom.spectra.optical.spectrum import (
    OpticalSpectrum,
    checked,
    inverse_variance_of,
    medium_of,
    per_wavelength,
    wavelengths_in,
)

if TYPE_CHECKING:
    from astropy.io import fits

_LONGEST = 1e-3  # m; wavelengths of the standard's unit are shorter


def _is_one_dimensional(file: RawFile) -> bool:
    hdu = file.image_hdu
    if hdu is None or np.squeeze(hdu.data).ndim != 1:
        return False
    return f"CRVAL{long_axis(hdu.data.shape)}" in file.image_header


def _read_one_dimensional(file: RawFile) -> OpticalSpectrum:
    """MILES, STELIB and others: a linear or logarithmic axis, at rest, in air unless it says so."""
    header, flux = file.image_header, np.squeeze(file.image_hdu.data).astype(float)
    wavelength, kind = _wavelengths(header, long_axis(file.image_hdu.data.shape), len(flux))
    return _spectrum(file, wavelength, kind, flux, np.full(len(flux), np.nan), "1-D image")


def _is_multiband(file: RawFile) -> bool:
    hdu = file.image_hdu
    return hdu is not None and hdu.data.ndim in (2, 3) and "BANDID1" in file.image_header


def _read_multiband(file: RawFile) -> OpticalSpectrum:
    """IRAF's ``apall``: the extracted spectrum, then others of the same pixels, such as sigma."""
    hdu = file.image_hdu
    header, bands = file.image_header, hdu.data.reshape(-1, *hdu.data.shape[-2:]).astype(float)
    if hdu.data.ndim == 2:  # one spectrum in each band
        bands = hdu.data[:, None].astype(float)
    if bands.shape[1] != 1:
        raise UnusableError("not a single spectrum", f"{bands.shape[1]} apertures")
    names = [header_text(header, f"BANDID{k + 1}").lower() for k in range(len(bands))]
    error = next(
        (band[0] for band, name in zip(bands, names, strict=True) if "sigma" in name),
        np.full(bands.shape[2], np.nan),
    )
    wavelength, kind = _wavelengths(header, 1, bands.shape[2])
    return _spectrum(file, wavelength, kind, bands[0, 0], error, "IRAF bands")


def _spectrum(file, wavelength, kind, flux, error, layout):
    header = file.image_header
    ra, dec = header_position(header)
    if "STARIDEN" in header and abs(ra) <= 2 * np.pi and abs(dec) <= np.pi / 2:
        ra, dec = np.degrees(ra), np.degrees(dec)  # STELIB, which is known by this card
    flux, error, unit = per_wavelength(flux, error, wavelength, header_text(header, "BUNIT"))
    inverse_variance = inverse_variance_of(error)
    mask = (flux == 0) | (inverse_variance == 0)  # zeros are how STELIB fills gaps
    beside = _beside(file, flux.shape)
    mask |= beside.get("mask", 0) != 0
    if "inverse_variance" in beside and np.isnan(error).all():
        inverse_variance = beside["inverse_variance"]
        mask |= ~(inverse_variance > 0)
    return checked(
        OpticalSpectrum(
            wavelength,
            flux,
            inverse_variance,
            mask,
            layout,
            medium=medium_of(header, kind),
            flux_unit=unit,
            identifier=header_text(header, "OBJECT") or file_stem(file.name),
            spectral_type=header_text(header, "SPECTYPE"),
            ra=ra,
            dec=dec,
        )
    )


_EXTENSIONS = {
    "IVAR": lambda values: values, "INVVAR": lambda values: values,
    "ERR": lambda values: 1 / values**2, "ERRS": lambda values: 1 / values**2,
    "ERROR": lambda values: 1 / values**2, "SIGMA": lambda values: 1 / values**2,
    "VAR": lambda values: 1 / values, "VARIANCE": lambda values: 1 / values,
}  # fmt: skip


def _beside(file, shape):
    """Mask and inverse variance in extensions of the same pixels."""
    found = {}
    for hdu in file.hdus:
        if not hdu.is_image or hdu.data is None or np.squeeze(hdu.data).shape != shape:
            continue
        values, name = np.squeeze(hdu.data).astype(float), hdu.name.upper()
        if name in {"MASK", "DQ", "FLAGS", "QUAL", "QUALITY"}:
            found["mask"] = values
        elif name in _EXTENSIONS:
            with np.errstate(divide="ignore", invalid="ignore"):
                known = _EXTENSIONS[name](values)
            found["inverse_variance"] = np.where(np.isfinite(known), known, 0.0)
    return found


def _wavelengths(header, axis, n):
    """Wavelengths in Angstrom along an axis, and its kind."""
    kind = header_text(header, f"CTYPE{axis}").upper()
    iraf = _iraf(header)
    if found := re.search(r'spec1\s*=\s*"([^"]+)"', iraf):
        values, logarithmic = _multispec(found[1], n)
    else:
        values = axis_values(header, axis, n)
        logarithmic = header_number(header, "DC-FLAG") == 1 or kind.startswith("LOG")
    unit = header_text(header, f"CUNIT{axis}")
    if not unit and (found := re.search(r"units=([^\s\"]+)", iraf)):
        unit = found[1]
    if kind.endswith("-LOG"):  # Greisen et al. (2006), eq. 5
        start = header_number(header, f"CRVAL{axis}")
        values = start * np.exp((values - start) / start)
    if told := re.match(r"(LN|LOG10|LOG)\b", kind):
        unit = unit if re.match(r"(?i)ln|log", unit) else f"{told[1]}({unit})"
    elif logarithmic or (not unit and 3 < values.min() <= values.max() < 6):
        # Where no unit is told, such numbers can be nothing else.
        unit = unit if re.match("(?i)log", unit) else f"log10({unit})"
    elif not unit and re.match(r"(WAVE|AWAV)(-|$)", kind) and values.max() < _LONGEST:
        unit = "m"  # as the standard has it
    elif not unit and kind.startswith("FREQ"):
        unit = "Hz"
    return wavelengths_in(values, unit or "Angstrom"), kind


def _iraf(header):
    """What IRAF writes of the axes: text over several cards."""
    cards = sorted(name for name in header if re.fullmatch(r"WAT[12]_\d{3}", str(name)))
    # Blanks at the end of a card are lost in FITS, so a card is filled up to its 68 characters.
    return "".join(str(header[name]).ljust(68) for name in cards)


def _multispec(text, n):
    """Axis of the first spectrum: aperture, beam, type, first value, step, number, redshift ..."""
    numbers = [number_of(word) for word in text.split()]
    if len(numbers) < 7 or numbers[2] not in (0, 1):
        raise UnusableError("no values along the axis", f"multispec {text[:40]!r}")
    _, _, kind, start, step, _, redshift = numbers[:7]
    return (start + step * np.arange(n)) / (1 + redshift), kind == 1


READERS = (
    Reader("IRAF bands", _is_multiband, _read_multiband),
    Reader("1-D image", _is_one_dimensional, _read_one_dimensional),
)


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
