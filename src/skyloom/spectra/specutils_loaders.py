"""LAMOST spectra for specutils, which has no reader of its own.

Import this module once, and `specutils.Spectrum.read` reads them: it recognises both layouts, so no
format needs to be named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from astropy import units as u
from astropy.nddata import InverseVariance
from specutils import Spectrum
from specutils.io.registers import data_loader

from skyloom.raw_files import RawFile, UnusableError, read_file
from skyloom.spectra.stellar_readers import (
    READERS,
    is_lamost_image,
    is_lamost_table,
)

_LAMOST = {reader.layout: reader for reader in READERS if reader.layout.startswith("LAMOST")}


def _file(source):
    """The bytes and name of what specutils was given: a path, a file object, or HDUs."""
    if hasattr(source, "read"):
        position = source.tell()
        content = source.read()
        source.seek(position)
        return RawFile(str(getattr(source, "name", "")), content)
    return RawFile(str(source), Path(source).read_bytes())


def _identifier(identify):
    def recognises(_origin: str, *arguments: Any, **_: Any) -> bool:
        try:
            return identify(_unpacked(_file(arguments[0])))
        except (UnusableError, OSError, TypeError):
            return False

    return recognises


def _unpacked(file):
    import gzip

    packed = file.content[:2] == b"\x1f\x8b"
    return RawFile(file.name, gzip.decompress(file.content)) if packed else file


def _read(source, layout):
    file = _file(source)
    reader = _LAMOST[layout]
    found = read_file(file.name, file.content, [reader], expected=(layout, layout))
    header = dict(_unpacked(file).hdus[0].header)
    return Spectrum(
        flux=found.flux * u.dimensionless_unscaled,
        spectral_axis=found.wavelength * u.AA,
        uncertainty=InverseVariance(found.inverse_variance),
        mask=found.mask,
        meta={
            "header": header,
            "medium": found.medium,
            "identifier": found.identifier,
            "spectral_type": found.spectral_type,
            "radial_velocity": found.radial_velocity * u.km / u.s,
        },
    )


@data_loader(
    "LAMOST image", identifier=_identifier(is_lamost_image), dtype=Spectrum,
    extensions=["fits", "fits.gz"], priority=10,
)  # fmt: skip
def lamost_image_loader(file_obj: Any, **_: Any) -> Spectrum:
    """Read a LAMOST spectrum of a release before DR8, or of the pilot survey.

    Parameters
    ----------
    file_obj : str, path-like or file-like
        FITS file, may be gzipped.

    Returns
    -------
    specutils.Spectrum
        Relative flux against wavelength in vacuum (Angstrom), heliocentric, with inverse variance
        and mask; ``meta`` has the header, the spectral type and the radial velocity.
    """
    return _read(file_obj, "LAMOST image")


@data_loader(
    "LAMOST table", identifier=_identifier(is_lamost_table), dtype=Spectrum,
    extensions=["fits", "fits.gz"], priority=10,
)  # fmt: skip
def lamost_table_loader(file_obj: Any, **_: Any) -> Spectrum:
    """Read a LAMOST spectrum of DR8 or a later release.

    Parameters
    ----------
    file_obj : str, path-like or file-like
        FITS file, may be gzipped.

    Returns
    -------
    specutils.Spectrum
        As of `lamost_image_loader`.
    """
    return _read(file_obj, "LAMOST table")
