"""FITS images that hold one integrated 21-cm spectrum, with an axis or, as published, without."""

from __future__ import annotations

import numpy as np

from skyloom.raw_files import Reader, UnusableError
from skyloom.spectra.constants import REST_FREQUENCY, SPEED_OF_LIGHT
from skyloom.spectra.hi.spectrum import Spectrum, SpectrumFile, make_spectrum, unit_factor


def _axis_kind(header) -> str:
    return str(header.get("CTYPE1", "")).strip().upper()


def _image_flux(hdu, file: SpectrumFile) -> np.ndarray:
    """Fluxes in mJy of an image that holds a single spectrum."""
    if max(hdu.data.shape, default=0) != hdu.data.size:
        raise UnusableError("not a single spectrum", f"shape {hdu.data.shape}")
    unit = str(hdu.header.get("BUNIT", file.flux_unit)).strip() or file.flux_unit
    return np.ravel(hdu.data).astype(float) * unit_factor(unit, "mJy")


def _is_flux_only(file: SpectrumFile) -> bool:
    hdu = file.image_hdu
    return hdu is not None and not _axis_kind(hdu.header) and "CRVAL1" not in hdu.header


def _read_flux_only(file: SpectrumFile) -> Spectrum:
    """A (1, N) image without any velocity axis, as published: channels are used."""
    hdu = file.image_hdu
    flux = _image_flux(hdu, file)
    return make_spectrum(
        np.arange(flux.size, dtype=float), flux, "flux only", "channel", hdu.header
    )


def _is_image(file: SpectrumFile) -> bool:
    return file.image_hdu is not None


def _read_image(file: SpectrumFile) -> Spectrum:
    """A (1, N) or (N,) image with a velocity or frequency axis."""
    hdu = file.image_hdu
    flux, header, kind = _image_flux(hdu, file), hdu.header, _axis_kind(hdu.header)
    axis = _linear_axis(header, flux.size)
    if kind.startswith(("VELO", "VRAD", "VOPT", "FELO")) or not kind:
        velocity = axis * unit_factor(header.get("CUNIT1") or file.velocity_unit, "km/s")
    elif kind.startswith("FREQ"):
        frequency = axis * unit_factor(header.get("CUNIT1") or "Hz", "MHz")
        velocity = SPEED_OF_LIGHT * (REST_FREQUENCY / frequency - 1)
    else:
        raise UnusableError("wrong units", f"CTYPE1 {kind}, expected a velocity or FREQ")
    return make_spectrum(velocity, flux, "image", header=header)


def _linear_axis(header, size):
    try:
        value, step = float(header["CRVAL1"]), float(header["CDELT1"])
        pixel = float(header.get("CRPIX1", 1.0))
    except (KeyError, TypeError, ValueError) as error:
        raise UnusableError("wrong velocity axis", f"{error}") from error
    return value + (np.arange(size) + 1 - pixel) * step


READERS = (
    Reader("flux only", _is_flux_only, _read_flux_only),
    Reader("image", _is_image, _read_image),
)
