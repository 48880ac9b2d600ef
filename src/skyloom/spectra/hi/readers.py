"""Readers of integrated 21-cm spectra, in the order in which they are asked."""

from __future__ import annotations

from functools import partial

from skyloom.raw_files import read_file
from skyloom.spectra.hi import images, tables
from skyloom.spectra.hi.spectrum import Spectrum, SpectrumFile

READERS = (*tables.READERS, *images.READERS, *tables.TEXT_READERS)


def read_spectrum(
    name: str, content: bytes, *, velocity_unit: str = "km/s", flux_unit: str = "mJy"
) -> Spectrum:
    """Read one spectrum of any supported layout.

    Parameters
    ----------
    name : str
        File name, for messages only.
    content : bytes
        The whole file; may be gzipped.
    velocity_unit, flux_unit : str
        Units to assume where the file states none.

    Returns
    -------
    Spectrum

    Raises
    ------
    UnusableError
        If the bytes are no spectrum in a supported layout; no other exception leaves this
        function, whatever the bytes are.
    """
    return read_file(
        name,
        content,
        READERS,
        expected=("a spectrum", "a text table"),
        as_file=partial(SpectrumFile, velocity_unit=velocity_unit, flux_unit=flux_unit),
    )
