"""LAMOST spectra for specutils, which has no reader of its own.

Import this module once, and `specutils.Spectrum.read` reads them: it recognises both layouts, so no
format needs to be named.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from astropy import units as u
from astropy.nddata import InverseVariance
from specutils import Spectrum
from specutils.io.registers import data_loader

from skyloom.raw_files import RawFile, Reader, UnusableError, read_file
from skyloom.spectra.optical.lamost import READERS


def _file(source):
    """What specutils was given, a path or a file object, unpacked."""
    if hasattr(source, "read"):
        position = source.tell()
        content = source.read()
        source.seek(position)
        name = str(getattr(source, "name", ""))
    else:
        name, content = str(source), Path(source).read_bytes()
    return RawFile(name, gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)


def _register(reader: Reader) -> None:
    """Offer one of our readers to specutils."""

    def is_ours(_origin: str, *arguments: Any, **_: Any) -> bool:
        try:
            return reader.identify(_file(arguments[0]))
        except (UnusableError, OSError, TypeError):
            return False

    def load(file_obj: Any, **_: Any) -> Spectrum:
        """Read a LAMOST spectrum.

        Parameters
        ----------
        file_obj : str, path-like or file-like
            FITS file, may be gzipped.

        Returns
        -------
        specutils.Spectrum
            Relative flux against wavelength in vacuum (Angstrom), heliocentric, with inverse
            variance and mask; ``meta`` has the header, the spectral type and the radial velocity.
        """
        file = _file(file_obj)
        found = read_file(
            file.name, file.content, [reader], expected=(reader.layout,) * 2,
            as_file=lambda *_: file,
        )  # fmt: skip
        return Spectrum(
            flux=found.flux * u.dimensionless_unscaled,
            spectral_axis=found.wavelength * u.AA,
            uncertainty=InverseVariance(found.inverse_variance),
            mask=found.mask,
            meta={
                "header": dict(file.hdus[0].header),
                "medium": found.medium,
                "identifier": found.identifier,
                "spectral_type": found.spectral_type,
                "radial_velocity": found.radial_velocity * u.km / u.s,
            },
        )

    data_loader(
        reader.layout, identifier=is_ours, dtype=Spectrum, extensions=["fits", "fits.gz"],
        priority=10,
    )(load)  # fmt: skip


for _reader in READERS:
    _register(_reader)
