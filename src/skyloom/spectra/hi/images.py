"""FITS images that hold one integrated 21-cm spectrum, with an axis or, as published, without."""

from __future__ import annotations

import numpy as np

from skyloom.raw_files import Reader, UnusableError
from skyloom.raw_files.headers import axis_values, header_number, header_text, long_axis
from skyloom.raw_files.missing import without_missing
from skyloom.spectra.constants import SPEED_OF_LIGHT
from skyloom.spectra.hi.spectrum import (
    Spectrum,
    SpectrumFile,
    flux_factor,
    make_spectrum,
    optical_velocity,
)

_RADIO_VELREF = 256  # AIPS adds it where a velocity is a radio one
_CELESTIAL = ("RA", "DEC", "GLON", "GLAT", "STOKES")


def _image_flux(hdu, file: SpectrumFile) -> np.ndarray:
    """Fluxes in mJy of an image that holds a single spectrum."""
    long_axis(hdu.data.shape)  # raises where there are several
    unit = header_text(file.image_header, "BUNIT") or file.flux_unit
    return without_missing(np.ravel(hdu.data)) * flux_factor(unit)


def _has_no_axis(header, axis) -> bool:
    return not header_text(header, f"CTYPE{axis}") and f"CRVAL{axis}" not in header


def _is_flux_only(file: SpectrumFile) -> bool:
    hdu = file.image_hdu
    return hdu is not None and _has_no_axis(file.image_header, 1) and np.squeeze(hdu.data).ndim == 1


def _read_flux_only(file: SpectrumFile) -> Spectrum:
    """A (1, N) image without any velocity axis, as published: channels are used."""
    hdu = file.image_hdu
    flux = _image_flux(hdu, file)
    return make_spectrum(
        np.arange(flux.size, dtype=float), flux, "flux only", "channel", file.image_header
    )


def _is_image(file: SpectrumFile) -> bool:
    return file.image_hdu is not None


def _read_image(file: SpectrumFile) -> Spectrum:
    """An image with one long axis, wherever it stands: of velocity or frequency."""
    hdu = file.image_hdu
    axis, flux, header = long_axis(hdu.data.shape), _image_flux(hdu, file), file.image_header
    kind = header_text(header, f"CTYPE{axis}").upper()
    convention = _convention(kind, header)
    if convention is None:
        raise UnusableError("wrong units", f"CTYPE{axis} {kind}, expected a velocity or FREQ")
    rest = header_number(header, "RESTFRQ", "RESTFREQ", "RESTFRQ0") / 1e6
    unit = header_text(header, f"CUNIT{axis}")
    if convention == "frequency":
        values, unit = axis_values(header, axis, flux.size), unit or "Hz"
        if abs(header_number(header, f"CRVAL{axis}")) < 0.1 * 1e6 * rest and not _near_line(values):
            values, convention, unit = _offsets(header, axis, values)
    else:
        values = axis_values(header, axis, flux.size)
        # A standard axis without a unit is in SI units; what else there is, is the user's to say.
        unit = unit or ("m/s" if kind else file.velocity_unit)
    velocity = optical_velocity(values, convention, unit, rest_frequency=rest)
    return make_spectrum(velocity, flux, "image", header=header, convention=convention)


def _near_line(hertz):
    return 1e8 < abs(float(np.median(hertz))) < 1e10


def _convention(kind, header):
    """What an axis is of; None where it is none of ours."""
    if kind.startswith("FREQ"):
        return "frequency"
    if kind.startswith("VRAD") or header_text(header, "VELDEF").upper().startswith("RADI"):
        return "radio"
    if kind.startswith(("VOPT", "FELO")):
        return "optical"
    if kind.startswith("VELO"):
        reference = header_number(header, "VELREF")
        if np.isnan(reference):
            return ""
        return "radio" if reference > _RADIO_VELREF else "optical"
    return "" if not kind or kind in {"LINEAR", "CZ"} else None


def _offsets(header, axis, values):
    """Frequencies that count from the line's, as CLASS writes them, and the velocity there."""
    name = next((name for name in header if str(name).startswith(("VELO-", "VLSR"))), None)
    if name is None:
        value = f"CRVAL{axis} {values[0]:g} Hz and no velocity beside it"
        raise UnusableError("wrong velocity axis", value)
    rest = header_number(header, "RESTFRQ", "RESTFREQ")
    # m/s, as the standard has it; the channel at frequency offset zero moves at this velocity.
    velocity = header_number(header, name) - 1e3 * SPEED_OF_LIGHT * values / rest
    return velocity, "radio", "m/s"


READERS = (
    Reader("flux only", _is_flux_only, _read_flux_only),
    Reader("image", _is_image, _read_image),
)
