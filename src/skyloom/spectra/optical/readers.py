"""Readers of optical spectra, in the order in which they are asked."""

from __future__ import annotations

from skyloom.raw_files import read_file
from skyloom.spectra.optical import lamost, one_dimensional, sdss, tables
from skyloom.spectra.optical.spectrum import OpticalSpectrum

READERS = (
    *lamost.READERS, *sdss.READERS, *tables.READERS, *one_dimensional.READERS,
    *tables.TEXT_READERS,
)  # fmt: skip


def read_spectrum(name: str, content: bytes) -> OpticalSpectrum:
    """Read a spectrum, whatever survey it is from.

    Parameters
    ----------
    name : str
        File name; it names the star where nothing else does.
    content : bytes
        The whole file; may be gzipped.

    Returns
    -------
    OpticalSpectrum

    Raises
    ------
    skyloom.raw_files.UnusableError
        If the bytes hold no spectrum, or one that cannot be used; no other exception leaves this
        function.
    """
    return read_file(
        name, content, READERS, expected=("a spectrum in a known layout", "a table of two columns")
    )
