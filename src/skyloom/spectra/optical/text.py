"""Two columns of text."""

from __future__ import annotations

import io

import numpy as np

from skyloom.raw_files import RawFile, Reader, UnusableError
from skyloom.raw_files.names import file_stem
from skyloom.spectra.optical.spectrum import OpticalSpectrum, checked


def _is_text(file: RawFile) -> bool:
    return not file.is_fits and b"\x00" not in file.content


def _read_text(file: RawFile) -> OpticalSpectrum:
    """Two columns, named (as of Jacoby et al. 1984: FLUX, WAVELENGTH) or wavelength first."""
    import pandas as pd

    try:
        text = file.content.decode()
        table = pd.read_csv(io.StringIO(text), sep=r"[\s,;|]+", engine="python", comment="#")
    except (ValueError, UnicodeDecodeError) as error:
        raise UnusableError("not a table", str(error)[:100]) from error
    names = {str(name).strip().upper(): name for name in table.columns}
    if not {"FLUX", "WAVELENGTH"} <= set(names):
        table = pd.read_csv(
            io.StringIO(text), sep=r"[\s,;|]+", engine="python", comment="#", header=None
        )
        if table.shape[1] != 2:
            raise UnusableError("not a table", f"{table.shape[1]} columns, none named FLUX")
        names = {"WAVELENGTH": 0, "FLUX": 1}
    columns = table[[names["WAVELENGTH"], names["FLUX"]]].apply(pd.to_numeric, errors="coerce")
    if columns.iloc[:, 0].isna().any():
        raise UnusableError("not a table", "wavelengths that are no numbers")
    wavelength, flux = columns.to_numpy(float).T
    return checked(
        OpticalSpectrum(
            wavelength, flux, np.full(len(flux), np.nan), np.zeros(len(flux), bool), "text",
            identifier=file_stem(file.name),
        )
    )  # fmt: skip


READERS = (Reader("text", _is_text, _read_text),)
