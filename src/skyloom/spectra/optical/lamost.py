"""Spectra of LAMOST: images of its pilot survey and early releases, tables since DR8."""

from __future__ import annotations

import numpy as np

from skyloom.raw_files import RawFile, Reader, UnusableError
from skyloom.raw_files.names import file_stem
from skyloom.spectra.constants import SPEED_OF_LIGHT
from skyloom.spectra.optical.spectrum import (
    WAVELENGTHS,
    OpticalSpectrum,
    checked,
    column_names,
    header_number,
)


def _is_lamost_image(file: RawFile) -> bool:
    hdu = file.image_hdu
    return hdu is not None and hdu.data.ndim == 2 and hdu.data.shape[0] == 5 and _is_lamost(file)


def _read_lamost_image(file: RawFile) -> OpticalSpectrum:
    """Releases before DR8: rows of flux, inverse variance, wavelength, masks.

    In place of the wavelength the pilot survey has the flux without continuum, and then the header
    tells the wavelengths.
    """
    header, rows = file.image_hdu.header, file.image_hdu.data.astype(float)
    flux, inverse_variance, third, and_mask, _ = rows
    if (np.diff(third) > 0).all() and third[0] > WAVELENGTHS[0]:
        return _lamost(file, header, third, flux, inverse_variance, and_mask, "LAMOST image")
    if "COEFF0" not in header or "COEFF1" not in header:
        raise UnusableError("no wavelengths", "neither the third row nor COEFF0, COEFF1")
    wavelength = 10 ** (header["COEFF0"] + header["COEFF1"] * np.arange(len(flux)))
    return _lamost(file, header, wavelength, flux, inverse_variance, and_mask, "LAMOST pilot image")


def _is_lamost_table(file: RawFile) -> bool:
    return {"FLUX", "IVAR", "WAVELENGTH"} <= column_names(file) and _is_lamost(file)


def _read_lamost_table(file: RawFile) -> OpticalSpectrum:
    """DR8 and later: a table of one row with an array in each column."""
    table = file.hdus[1].data
    if len(table) != 1:
        raise UnusableError("not a single spectrum", f"{len(table)} rows")
    values = {name.upper(): np.ravel(table[name]).astype(float) for name in table.names}
    masked = values.get("ANDMASK", np.zeros_like(values["FLUX"]))
    arrays = values["WAVELENGTH"], values["FLUX"], values["IVAR"], masked
    return _lamost(file, file.hdus[0].header, *arrays, "LAMOST table")


def _is_lamost(file):
    header = file.hdus[0].header
    return "LAMOST" in f"{header.get('TELESCOP', '')}{header.get('ORIGIN', '')}".upper()


def _lamost(file, header, wavelength, flux, inverse_variance, and_mask, layout):
    redshift = header_number(header, "Z")
    return checked(
        OpticalSpectrum(
            wavelength,
            flux,
            inverse_variance,
            (and_mask != 0) | ~(inverse_variance > 0),
            layout,
            medium="vacuum" if header.get("VACUUM", True) else "air",
            identifier=str(header.get("OBSID", "")).strip() or file_stem(file.name),
            spectral_type=str(header.get("SUBCLASS", "")).strip(),
            # -9999 where the pipeline found none
            radial_velocity=redshift * SPEED_OF_LIGHT if abs(redshift) < 0.1 else np.nan,
            ra=header_number(header, "RA"),
            dec=header_number(header, "DEC"),
            snr=header_number(header, "SNRG", "SN_G"),
        )
    )


READERS = (
    Reader("LAMOST image", _is_lamost_image, _read_lamost_image),
    Reader("LAMOST table", _is_lamost_table, _read_lamost_table),
)
