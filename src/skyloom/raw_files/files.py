"""Files as they come: their bytes, who can read them, and why one cannot be used."""

from __future__ import annotations

import functools
import gzip
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


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

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                hdus = fits.open(io.BytesIO(self.content), memmap=False, lazy_load_hdus=False)
                for hdu in hdus:
                    _ = hdu.data
            except Exception as error:
                # astropy raises many kinds of exception on damaged bytes.
                reason = "truncated" if len(self.content) % 2880 else "damaged FITS"
                raise UnusableError(reason, f"{type(error).__name__}: {error}") from error
        for warning in caught:
            if "truncated" in str(warning.message):
                raise UnusableError("truncated", f"{len(self.content)} bytes")
        return hdus

    @property
    def image_hdu(self):
        """The first image HDU with data, or None."""
        if not self.is_fits:
            return None
        return next((hdu for hdu in self.hdus if hdu.is_image and hdu.data is not None), None)


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
    if not content:
        raise UnusableError("empty file", "0 bytes")
    try:
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
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
    raise UnusableError(kind, repr(content[:16]))
