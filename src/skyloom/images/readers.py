"""Readers of cut-outs of radio images: one *identify* and one *read* function per layout."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from skyloom.raw_files import RawFile, Reader, UnusableError, read_file

_PICTURES = (b"\x89PNG", b"\xff\xd8\xff")


@dataclass(frozen=True)
class CutOut:
    """An image as read.

    Attributes
    ----------
    image : numpy.ndarray of float32, shape (height, width)
        mJy/beam, or counts where the file is a picture; NaN where nothing was observed.
    unit : {"mJy/beam", "counts"}
        Of the image.
    layout : str
        Name of the reader.
    pixel_scale : float
        arcsec; NaN where the file gives none.
    ra, dec : float
        Of the middle of the image (ICRS, deg); NaN where the file gives none.
    """

    image: np.ndarray
    unit: str
    layout: str
    pixel_scale: float = np.nan
    ra: float = np.nan
    dec: float = np.nan


def _is_image(file: RawFile) -> bool:
    return file.image_hdu is not None


def _read_fits(file: RawFile) -> CutOut:
    """A plane in Jy/beam with a celestial WCS; axes of one pixel (frequency ...) are dropped."""
    hdu = file.image_hdu
    image = np.squeeze(hdu.data)
    if image.ndim != 2:
        raise UnusableError("not a single image", f"shape {hdu.data.shape}")
    image = image * _factor(str(hdu.header.get("BUNIT", "")).strip())
    image = _checked(image.astype(np.float32))
    return CutOut(image, "mJy/beam", "FITS", *_place(hdu.header, image.shape))


def _factor(unit):
    """Factor from a unit of brightness to mJy/beam; FIRST's own where none is stated."""
    from astropy import units as u

    spelled = {"": "Jy / beam", "jy/beam": "Jy / beam", "mjy/beam": "mJy / beam"}
    try:
        return u.Unit(spelled.get(unit.lower().replace(" ", ""), unit)).to("mJy / beam")
    except (ValueError, TypeError, u.UnitConversionError) as error:
        raise UnusableError("wrong units", f"{unit!r}, expected Jy/beam") from error


def _place(header, shape):
    """Pixel scale (arcsec), right ascension and declination of the middle (deg)."""
    from astropy.wcs import WCS
    from astropy.wcs.utils import proj_plane_pixel_scales

    try:
        wcs = WCS(header).celestial
        if not wcs.has_celestial:
            return np.nan, np.nan, np.nan
        middle = wcs.pixel_to_world((shape[1] - 1) / 2, (shape[0] - 1) / 2).icrs
        scale = float(np.mean(proj_plane_pixel_scales(wcs))) * 3600
    except Exception as error:
        # astropy raises many kinds of exception on headers that contradict themselves.
        raise UnusableError("wrong WCS", f"{type(error).__name__}: {error}") from error
    return scale, float(middle.ra.deg), float(middle.dec.deg)


def _is_picture(file: RawFile) -> bool:
    return file.content.startswith(_PICTURES)


def _read_picture(file: RawFile) -> CutOut:
    """A PNG or JPEG picture of 8 or 16 bits; colours become their luminance."""
    from PIL import Image

    with Image.open(io.BytesIO(file.content)) as picture:
        grey = picture if picture.mode in {"L", "I;16", "I", "F"} else picture.convert("L")
        return CutOut(_checked(np.asarray(grey, np.float32)), "counts", "picture")


def _checked(image):
    """An image that shows something."""
    if min(image.shape) < 2:
        raise UnusableError("not a single image", f"shape {image.shape}")
    seen = image[np.isfinite(image)]
    if not seen.size:
        raise UnusableError("empty image", "no finite pixel")
    if np.ptp(seen) == 0:
        raise UnusableError("empty image", f"all pixels {seen[0]:g}")
    return image


READERS = (
    Reader("FITS", _is_image, _read_fits),
    Reader("picture", _is_picture, _read_picture),
)


def read_cut_out(name: str, content: bytes) -> CutOut:
    """Read one cut-out of any supported layout.

    Parameters
    ----------
    name : str
        File name, for messages only.
    content : bytes
        The whole file; may be gzipped.

    Returns
    -------
    CutOut

    Raises
    ------
    UnusableError
        If the bytes are no image in a supported layout; no other exception leaves this function,
        whatever the bytes are.
    """
    return read_file(name, content, READERS, expected=("an image", "a picture"))
