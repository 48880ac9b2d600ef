"""Readers of cut-outs of radio images: one *identify* and one *read* function per layout."""

from __future__ import annotations

import functools
import io
import threading
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from skyloom.images.cutouts import cut
from skyloom.raw_files import RawFile, Reader, UnusableError, load_bytes, read_file
from skyloom.raw_files.headers import celestial_wcs, header_text
from skyloom.raw_files.missing import without_missing
from skyloom.raw_files.names import is_of_user
from skyloom.raw_files.units import unit_factor

_PICTURES = (b"\x89PNG", b"\xff\xd8\xff")


@dataclass(frozen=True)
class CutOut:
    """An image as read.

    Attributes
    ----------
    image : numpy.ndarray of float32, shape (height, width)
        mJy/beam, or counts where the file is a picture or an array; NaN where nothing was observed.
    unit : {"mJy/beam", "counts"}
        Of the image; counts stand for any unit that is not known.
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
    shape, header = file.image_hdu.data.shape, file.image_header
    image = np.squeeze(without_missing(file.image_hdu.data))
    if image.ndim != 2:
        raise UnusableError("not a single image", f"shape {shape}")
    # Where no unit is stated it is that of FIRST.
    image = image * unit_factor(header_text(header, "BUNIT") or "Jy / beam", "mJy / beam")
    image = _checked(image.astype(np.float32))
    return CutOut(image, "mJy/beam", "FITS", *_place(header, image.shape))


def _place(header, shape):
    """Pixel scale (arcsec), right ascension and declination of the middle (deg)."""
    from astropy.wcs.utils import proj_plane_pixel_scales

    wcs = celestial_wcs(header)
    if wcs is None:
        return np.nan, np.nan, np.nan
    try:
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


def _is_array(file: RawFile) -> bool:
    return file.content.startswith(b"\x93NUMPY")


def _read_array(file: RawFile) -> CutOut:
    """An image, alone or of a stack; see `members_of`."""
    image = np.lib.format.read_array(io.BytesIO(file.content), allow_pickle=False)
    if image.ndim != 2 or image.dtype.kind not in "fiu":
        raise UnusableError("not a single image", f"{image.dtype} {image.shape}")
    return CutOut(_checked(without_missing(image).astype(np.float32)), "counts", "npy")


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
    Reader("npy", _is_array, _read_array),
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


def members_of(name: str, load: Callable[[], bytes]) -> dict[str, Callable[[], bytes]] | None:
    """What is in a ZIP archive or a stack of images.

    Parameters
    ----------
    name : str
        Of the file.
    load : callable
        Returns its bytes; called only where the name ends in ``.zip`` or ``.npy``.

    Returns
    -------
    dict of str to callable, or None
        Bytes of the members by ``name/member``, the images of a stack ``image.npy`` of shape
        (n, height, width), (n, height, width, 1) or (n, 1, height, width) as ``image_0`` ...; None
        of any other file, and of an array that is one image of shape (height, width).

    Raises
    ------
    UnusableError
        If such a file is damaged, or its array is no stack.
    """
    if name.lower().endswith(".zip"):
        try:
            archive = zipfile.ZipFile(io.BytesIO(load_bytes(load)))
        except (zipfile.BadZipFile, OSError) as error:
            raise UnusableError("damaged archive", f"{type(error).__name__}: {error}") from error
        entries = [e for e in archive.infolist() if not e.is_dir() and is_of_user(e.filename)]
        return {f"{name}/{e.filename}": functools.partial(archive.read, e) for e in entries}
    if name.lower().endswith(".npy"):
        try:
            stack = np.lib.format.read_array(io.BytesIO(load_bytes(load)), allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise UnusableError("unreadable", f"{type(error).__name__}: {error}") from error
        if stack.ndim == 2:
            return None
        if stack.ndim == 4 and 1 in (stack.shape[1], stack.shape[3]):
            stack = stack.squeeze(1 if stack.shape[1] == 1 else 3)
        if stack.ndim != 3:
            sought = "(n, height, width), with one channel last or second, or (height, width)"
            raise UnusableError("not a stack of images", f"shape {stack.shape}, sought {sought}")
        stem = PurePosixPath(name).stem
        return {
            f"{name}/{stem}_{k}": functools.partial(_as_file, stack, k) for k in range(len(stack))
        }
    return None


def _as_file(stack: np.ndarray, k: int) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, stack[k], allow_pickle=False)
    return buffer.getvalue()


def read_when_saved(
    files: Sequence[tuple[str, Callable[[], bytes]]], size: int, *, chunk: int = 128
) -> Any:
    """Images of some files, read chunk by chunk as they are asked for.

    Parameters
    ----------
    files : sequence of (str, callable)
        Name, and function that returns the bytes.
    size : int
        Pixels on a side that are kept, about the middle.
    chunk : int
        Files in memory at a time.

    Returns
    -------
    dask.array.Array of float32, shape (n, size, size)
        NaN beyond the edge of an image.
    """
    import dask
    import dask.array as da

    chunks = [files[first : first + chunk] for first in range(0, len(files), chunk)]
    read = dask.delayed(_read_images, pure=False)
    return da.concatenate(
        [da.from_delayed(read(part, size), (len(part), size, size), np.float32) for part in chunks]
    )


_one_at_a_time = threading.Lock()  # threads would mix up the warnings by which files are judged


def _read_images(files, size):
    images = np.empty((len(files), size, size), np.float32)
    with _one_at_a_time:
        for k, (name, load) in enumerate(files):
            image = read_cut_out(name, load_bytes(load)).image
            middle = np.array([[side // 2 for side in image.shape]])
            images[k] = cut(image[None], middle, size, beyond=np.nan)[0]
    return images


def all_members(
    files: dict[str, Callable[[], bytes]],
) -> tuple[dict[str, Callable[[], bytes]], list[tuple[str, str, Any]]]:
    """Files, and what archives and stacks hold in place of these.

    Parameters
    ----------
    files : dict of str to callable
        Name to a function that returns the bytes.

    Returns
    -------
    members : dict of str to callable
        Likewise.
    rejected : list of (str, str, object)
        File, reason and value of those that are damaged or hold nothing.
    """
    members, rejected = {}, []
    for name in sorted(files):
        try:
            inside = members_of(name, files[name])
            if inside is not None and not inside:
                raise UnusableError("empty archive", "no file or image in it")
            members |= {name: files[name]} if inside is None else inside
        except UnusableError as error:
            rejected.append((name, error.reason, error.value))
    return members, rejected
