"""Files as they come: their bytes, who can read them, and why one cannot be used."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

_BLOCK = 2880  # bytes, of FITS
_LARGE = 1_000_000  # bytes, of which no copy is made
_BLANK_CARD = re.compile(rb"BLANK   = ('\s*-?\d+\s*'|\s*-?\d+\.0*)(?=[ /])")
_AXIS_CARD = re.compile(r"(CTYPE|CRVAL|CRPIX|CDELT|CROTA|CUNIT)\d$|(CD|PC)\d_\d$")


class UnusableError(ValueError):
    """An observation cannot be used; says why and which value failed.

    Parameters
    ----------
    reason : str
        Short and from a fixed vocabulary, e.g. ``"no detection"``.
    value : object
        What failed, e.g. the signal-to-noise ratio.
    """

    def __init__(self, reason: str, value: object) -> None:
        super().__init__(f"{reason}: {value}")
        self.reason = reason
        self.value = str(value)


class _Shared(io.BytesIO):
    """A stream that gives large parts of its bytes without a copy of them."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._view = memoryview(content)

    def read(self, size: int | None = -1) -> Any:
        if size is None or size < _LARGE:
            return super().read(size)
        start = self.tell()
        part = self._view[start : start + size]
        self.seek(start + len(part))
        return part


@dataclass(frozen=True)
class RawFile:
    """The bytes of a file and its name."""

    name: str
    content: bytes

    @functools.cached_property
    def is_fits(self) -> bool:
        """Whether the bytes begin like a FITS file."""
        return self.content[:9] == b"SIMPLE  ="

    @functools.cached_property
    def hdus(self):
        """The HDUs, all read into memory.

        Raises
        ------
        UnusableError
            If the file is truncated or damaged.
        """
        from astropy.io import fits

        size = len(self.content)
        # Many programs leave out the zeros that fill the last block: nothing is lost without them.
        padded = self.content + bytes(-size % _BLOCK)
        if b"BLANK   = " in padded:
            padded = _BLANK_CARD.sub(_as_whole_number, padded)
        read = functools.partial(fits.open, memmap=False, lazy_load_hdus=False)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what is truncated, which is checked here
                # Sizes are those in the file, so compressed images stay the tables that they are.
                try:
                    hdus = read(_Shared(padded), disable_image_compression=True)
                except OSError:
                    padded = _without_tail(padded)
                    hdus = read(_Shared(padded), disable_image_compression=True)
                for number, hdu in enumerate(hdus):
                    needed = hdu.fileinfo()["datLoc"] + hdu.size
                    if needed > size:
                        what = f"{size} bytes of at least {needed}, in HDU {number}"
                        raise UnusableError("truncated", what)
                if any("ZIMAGE" in hdu.header for hdu in hdus):
                    hdus = read(_Shared(padded))
                for hdu in hdus:
                    _ = hdu.data
        except UnusableError:
            raise
        except Exception as error:
            # astropy raises many kinds of exception on damaged bytes.
            raise UnusableError("damaged FITS", f"{type(error).__name__}: {error}") from error
        return hdus

    @property
    def image_hdu(self):
        """The first image HDU with data, or None."""
        if not self.is_fits:
            return None
        images = [hdu for hdu in self.hdus if hdu.is_image and hdu.data is not None]
        # Some write a single number where the standard wants a primary without data.
        return next((hdu for hdu in images if hdu.data.size > 1), next(iter(images), None))

    @functools.cached_property
    def image_header(self):
        """Header of `image_hdu`, with what an extension inherits of the primary one.

        Raises
        ------
        AttributeError
            If there is no image.
        """
        return self.header_of(self.image_hdu)

    def header_of(self, hdu):
        """Header of an HDU, with what an extension inherits of the primary one.

        Parameters
        ----------
        hdu : astropy HDU
            Of this file.

        Returns
        -------
        astropy.io.fits.Header
        """
        own, primary = hdu.header, self.hdus[0].header
        if own is primary:
            return own
        # Axes are inherited as a whole: a step beside another's reference would be nobody's.
        axes = any(_AXIS_CARD.match(name) for name in own)
        inherited = primary.copy(strip=True)
        for name in list(inherited):
            if axes and _AXIS_CARD.match(name):
                inherited.remove(name, ignore_missing=True, remove_all=True)
        inherited.update(own)
        return inherited


def _as_whole_number(card):
    """A card BLANK of text or with a decimal point as the standard has it."""
    number = re.search(rb"-?\d+", card[1])[0]
    return b"BLANK   = " + number.rjust(len(card[1]))


def _without_tail(content):
    """FITS without what is no HDU at its end: a line feed, a page of a server ..."""
    from astropy.io import fits

    end = 0
    while content[end:].startswith((b"SIMPLE", b"XTENSION")):
        stream = io.BytesIO(content[end:])
        header = fits.Header.fromfile(stream)
        axes = [header[f"NAXIS{k}"] for k in range(1, header["NAXIS"] + 1)]
        n_values = math.prod(axes) if axes else 0
        size = abs(header["BITPIX"]) // 8 * header.get("GCOUNT", 1)
        size *= header.get("PCOUNT", 0) + n_values
        end += stream.tell() + -(-size // _BLOCK) * _BLOCK
    return content[:end]


def load_bytes(read: Callable[[], bytes]) -> bytes:
    """Bytes of a file; one that cannot be opened is rejected as a damaged one is.

    Parameters
    ----------
    read : callable
        Returns them.

    Returns
    -------
    bytes

    Raises
    ------
    UnusableError
        If it cannot.
    """
    try:
        return read()
    except UnusableError:
        raise
    except Exception as error:
        # Each file system has its own exceptions.
        raise UnusableError("unreadable", f"{type(error).__name__}: {error}") from error


class Reader(NamedTuple):
    """How one layout is recognised and read."""

    layout: str
    identify: Callable[[Any], bool]
    read: Callable[[Any], Any]


def read_file(
    name: str,
    content: bytes,
    readers: Sequence[Reader],
    *,
    expected: tuple[str, str],
    as_file: Callable[[str, bytes], RawFile] = RawFile,
) -> Any:
    """Let the first reader that recognises a file read it.

    Parameters
    ----------
    name : str
        File name, for messages only.
    content : bytes
        The whole file; may be gzipped.
    readers : sequence of Reader
        In the order in which they are asked.
    expected : tuple of 2 str
        What a FITS file and any other should have held.
    as_file : callable
        Makes what the readers are given of the name and the unpacked bytes.

    Returns
    -------
    object
        Whatever the reader returns.

    Raises
    ------
    UnusableError
        If no reader can read the bytes; no other exception leaves this function, whatever the
        bytes are.
    """
    try:
        content = unpacked(content)
        if not content:
            raise UnusableError("empty file", "0 bytes")
        file = as_file(name, content)
        with warnings.catch_warnings():
            # Damaged bytes make libraries warn; what is wrong is checked by the readers.
            warnings.simplefilter("ignore")
            for reader in readers:
                if reader.identify(file):
                    return reader.read(file)
    except UnusableError:
        raise
    except Exception as error:
        # The boundary to bytes from anywhere: one bad file must not stop the others.
        raise UnusableError("unreadable", f"{type(error).__name__}: {error}") from error
    fits, other = expected
    kind = f"FITS without {fits}" if file.is_fits else f"not FITS and not {other}"
    raise UnusableError(kind, contents_of(file))


def unpacked(content: bytes) -> bytes:
    """Bytes of a file, without the compression that it may have.

    Parameters
    ----------
    content : bytes
        As they are, or compressed by gzip, bzip2 or xz.

    Returns
    -------
    bytes

    Raises
    ------
    OSError, EOFError, lzma.LZMAError, zlib.error
        If the compressed bytes are damaged.
    UnusableError
        If they are compressed in a way that cannot be undone here.
    """
    for mark, module in ((b"\x1f\x8b", gzip), (b"BZh", bz2), (b"\xfd7zXZ\x00", lzma)):
        if content.startswith(mark):
            return module.decompress(content)
    if content.startswith(b"\x1f\x9d"):
        raise UnusableError("compressed by compress (.Z)", "unpack it, or compress it by gzip")
    return content


# What files begin with that some have for observations.
_MARKS = {
    b"\x93NUMPY": "an npy array", b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture",
    b"PK\x03\x04": "a ZIP archive or an Excel file", b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF document", b"II*\x00": "a TIFF picture", b"MM\x00*": "a TIFF picture",
    b"GIF8": "a GIF picture", b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a RAR archive",
}  # fmt: skip


def contents_of(file: RawFile) -> str:
    r"""What is in a file, in words.

    Parameters
    ----------
    file : RawFile
        Unpacked.

    Returns
    -------
    str
        Shapes and columns of FITS, the kind of other files, the beginning of text.

    Examples
    --------
    >>> contents_of(RawFile("a", b"Dear colleague,\nplease"))
    "text that begins 'Dear colleague,'"
    """
    if file.is_fits:
        return "; ".join(_hdu_in_words(hdu) for hdu in list(file.hdus)[:4])
    for mark, words in _MARKS.items():
        if file.content.startswith(mark):
            return words
    from skyloom.raw_files.text import decode

    try:
        first = decode(file.content).strip().partition("\n")[0][:60]
    except UnusableError:
        return f"bytes that begin {file.content[:16]!r}"
    return f"text that begins {first!r}"


def _hdu_in_words(hdu):
    if hdu.data is None:
        return "no data"
    if hdu.is_image:
        return f"an image of shape {hdu.data.shape}"
    names = ", ".join(hdu.columns.names[:12])
    return f"a table of {len(hdu.data)} rows with columns {names}"
