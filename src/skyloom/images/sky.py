"""Readers of sky images, as telescopes and archives write them."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from skyloom.raw_files import RawFile, Reader, UnusableError, read_file
from skyloom.raw_files.headers import celestial_wcs, header_number, header_text
from skyloom.raw_files.missing import without_missing

if TYPE_CHECKING:
    from astropy.io import fits
    from astropy.wcs import WCS

CATALOGUE, PIXEL_MASK, OVERLAY = "STAR_CATALOG", "PIXEL_MASK", "STAR_OVERLAY"
"""Extensions of the published files: stars, discs about them, and a picture of them."""

_MASKS = {"MASK", "DQ", "BPM", "BADPIX", "FLAGS", "FLAG", "QUALITY"}
_VARIANCES = {"VARIANCE", "VAR", "WEIGHT", "WHT", "IVAR", "INVVAR", "ERR", "ERROR", "SIGMA", "RMS"}
_NO_IMAGES = _MASKS | _VARIANCES | {PIXEL_MASK, OVERLAY}
# Planes of the masks of LSST and HSC that say what is wrong; others say what was found.
_BAD_PLANES = ("BAD", "NO_DATA", "CR", "SAT", "UNMASKEDNAN", "INTRP")
_SATURATION = ("SATURATE", "SATLEVEL", "SATUR_LEVEL", "SATURATA", "MAXLIN", "NONLINMAX")
_PLATEAU = 4  # pixels that have the same highest value, where nothing tells it


@dataclass(frozen=True)
class SkyImage:
    """A sky image as read.

    Attributes
    ----------
    image : numpy.ndarray of float32, shape (height, width)
        As in the file; NaN where nothing was observed or a mask says that a pixel is bad.
    layout : str
        Name of the reader.
    saturation : float
        Value that a pixel cannot exceed, as the header tells or as a plateau shows; NaN where
        neither does.
    wcs : astropy.wcs.WCS or None
        Of the sky; None where there is none, with the reason in ``wcs_problem``.
    wcs_problem : str
        Empty where there is none.
    pixel_scale : float
        arcsec; NaN without a WCS.
    epoch : float
        Year of the observation; NaN where the file tells none.
    catalogue : pandas.DataFrame or None
        Stars that the file itself holds, as it writes them.
    """

    image: np.ndarray
    layout: str
    saturation: float = np.nan
    wcs: WCS | None = None
    wcs_problem: str = ""
    pixel_scale: float = np.nan
    epoch: float = np.nan
    catalogue: pd.DataFrame | None = None

    @property
    def centre(self) -> tuple[float, float]:
        """Right ascension and declination of the middle, ICRS, deg; NaN without a WCS."""
        height, width = self.image.shape
        ra, dec = self.sky_positions(np.array([(width - 1) / 2]), np.array([(height - 1) / 2]))
        return float(ra[0]), float(dec[0])

    def sky_positions(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions on the sky.

        Parameters
        ----------
        x, y : numpy.ndarray, shape (n,)
            Pixels; the middle of the first one is 0.

        Returns
        -------
        ra, dec : numpy.ndarray, shape (n,)
            ICRS, deg; NaN without a WCS.
        """
        if self.wcs is None:
            return np.full(len(x), np.nan), np.full(len(x), np.nan)
        places = self.wcs.pixel_to_world(x, y).icrs
        return places.ra.deg, places.dec.deg

    def pixel_positions(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions in the image.

        Parameters
        ----------
        ra, dec : numpy.ndarray, shape (n,)
            ICRS, deg.

        Returns
        -------
        x, y : numpy.ndarray, shape (n,)
            Pixels; the middle of the first one is 0. NaN without a WCS, and where the sky is not
            in its projection.
        """
        from astropy.coordinates import SkyCoord

        nowhere = np.full(len(ra), np.nan)
        if self.wcs is None or not len(ra):
            return nowhere, nowhere
        places = SkyCoord(ra, dec, unit="deg")
        try:
            x, y = self.wcs.world_to_pixel(places)
        except Exception:  # distortions that cannot be inverted for a place far outside
            x, y = self.wcs.celestial.wcs_world2pix(*self._native(places), 0)
        return np.asarray(x, float), np.asarray(y, float)

    def _native(self, places):
        from astropy.wcs.utils import wcs_to_celestial_frame

        there = places.transform_to(wcs_to_celestial_frame(self.wcs)).spherical
        return there.lon.deg, there.lat.deg


def read_sky_image(name: str, content: bytes) -> SkyImage:
    """Read one sky image.

    Parameters
    ----------
    name : str
        File name, for messages only.
    content : bytes
        The whole file; may be packed.

    Returns
    -------
    SkyImage

    Raises
    ------
    UnusableError
        If the bytes are no image of the sky; no other exception leaves this function, whatever
        the bytes are.
    """
    return read_file(name, content, READERS, expected=("an image", "a picture of the sky"))


def _is_sky_image(file: RawFile) -> bool:
    return _image_hdu(file) is not None


def _image_hdu(file: RawFile) -> Any:
    """The first image of two long axes that is no mask and no variance."""
    if not file.is_fits:
        return None
    for hdu in file.hdus:
        if not hdu.is_image or hdu.data is None or hdu.name.upper() in _NO_IMAGES:
            continue
        if sum(side > 1 for side in hdu.data.shape) >= 2:
            return hdu
    return None


def _read_sky_image(file: RawFile) -> SkyImage:
    hdu = _image_hdu(file)
    shape = hdu.data.shape
    # The memory of the HDU becomes that of the image; nothing reads it there any more.
    image = np.squeeze(without_missing(_native(hdu.data), np.float32, copy=False))
    if image.ndim != 2 or min(image.shape) < 8:
        raise UnusableError("not a single image", f"shape {shape}")
    header = file.header_of(hdu)
    for other in file.hdus:
        plane = other.data if other.is_image else None
        if plane is None or np.squeeze(plane).shape != image.shape or other is hdu:
            continue
        kind = other.name.upper()
        if kind in _MASKS:
            image[_is_bad(np.squeeze(plane), other.header)] = np.nan
        elif kind in _VARIANCES:
            image[~np.isfinite(np.squeeze(plane)) | (np.squeeze(plane) <= 0)] = np.nan
    wcs, problem, scale = _wcs_of(header)
    return SkyImage(
        image,
        "FITS",
        _saturation(image, header),
        wcs,
        problem,
        scale,
        _epoch(header),
        _catalogue_of(file),
    )


def _native(data):
    """Numbers in the order of this machine, in the same memory where they may be changed."""
    if data.dtype.isnative or not data.flags.writeable:
        return data
    return data.byteswap(inplace=True).view(data.dtype.newbyteorder("="))


def _is_bad(mask, header):
    """Pixels that a mask calls bad."""
    planes = {
        name[3:]: int(number)
        for name in header
        if name.startswith("MP_") and np.isfinite(number := header_number(header, name))
    }
    if not planes:
        return mask != 0
    bits = sum(1 << number for name, number in planes.items() if name in _BAD_PLANES)
    return (mask.astype(np.int64) & bits) != 0


def _saturation(image, header):
    told = header_number(header, *_SATURATION)
    if np.isfinite(told) and told > 0:
        # Of an image from which the sky was taken, or that was scaled, the card may be too high.
        return told
    # A million pixels tell the spread of a large image.
    sample = image.ravel()[:: max(1, image.size // 1_000_000)]
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return np.nan
    highest = np.fmax.reduce(image, axis=None)
    high, middle = np.percentile(sample, [84, 50])
    plateau = sum(np.count_nonzero(row == highest) for row in image) >= _PLATEAU
    return float(highest) if plateau and highest > middle + 20 * (high - middle) > 0 else np.nan


def _wcs_of(header):
    """WCS of the sky, why there is none, and the scale in arcsec."""
    from astropy.wcs.utils import proj_plane_pixel_scales

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            wcs = celestial_wcs(header)
            if wcs is None:
                return None, "no WCS of the sky, or one without a value or a step", np.nan
            # A WCS that cannot say where the first pixel is will not say where a star is.
            wcs.pixel_to_world(0, 0).icrs  # noqa: B018
            return wcs, "", float(np.mean(proj_plane_pixel_scales(wcs))) * 3600
        except UnusableError as error:
            return None, " ".join(str(error).split()), np.nan
        except Exception as error:
            # astropy raises many kinds of exception on headers that contradict themselves.
            return None, f"{type(error).__name__}: {' '.join(str(error).split())}", np.nan


def _epoch(header):
    """Year of the observation."""
    from astropy.time import Time

    mjd = header_number(header, "MJD-OBS", "MJD-AVG", "MJD", "MJD-BEG")
    if np.isfinite(mjd) and 10_000 < mjd < 100_000:
        return float(Time(mjd, format="mjd").jyear)
    text = header_text(header, "DATE-OBS") or header_text(header, "DATE_OBS")
    if found := re.match(r"(\d{2})[/-](\d{2})[/-](\d{2,4})$", text):
        day, month, year = map(int, found.groups())
        year += 1900 if year < 100 else 0  # the form ended with the century
        text = f"{year:04d}-{month:02d}-{day:02d}"
    if found := re.match(r"\d{4}-\d{2}-\d{2}", text):
        try:
            return float(Time(found[0], format="iso").jyear)
        except ValueError:
            return np.nan
    return np.nan


def _catalogue_of(file):
    """The stars of a published file."""
    for hdu in file.hdus:
        if hdu.name.upper() == CATALOGUE and not hdu.is_image and hdu.data is not None:
            from astropy.table import Table

            return Table(hdu.data).to_pandas()
    return None


READERS = (Reader("FITS", _is_sky_image, _read_sky_image),)


def published_hdus(
    image: np.ndarray, header: fits.Header, stars: pd.DataFrame, mask: np.ndarray
) -> fits.HDUList:
    """A file as published: image, catalogue, pixel mask and overlay.

    Parameters
    ----------
    image : numpy.ndarray, shape (height, width)
        Of the sky.
    header : astropy.io.fits.Header
        With its WCS.
    stars : pandas.DataFrame
        Of any columns.
    mask : numpy.ndarray, shape (height, width)
        1 on a star.

    Returns
    -------
    astropy.io.fits.HDUList
    """
    from astropy.io import fits
    from astropy.table import Table

    overlay = np.where(mask > 0, np.nanmax(image), image)
    return fits.HDUList(
        [
            fits.PrimaryHDU(image.astype(np.float32), header),
            fits.BinTableHDU(Table.from_pandas(stars), name=CATALOGUE),
            fits.ImageHDU(overlay.astype(np.float32), name=OVERLAY),
            fits.ImageHDU(mask.astype(np.uint8), name=PIXEL_MASK),
        ]
    )
