"""Spectra of LAMOST: images of its pilot survey and early releases, tables since DR8."""

from __future__ import annotations

import numpy as np

from skyloom.raw_files import RawFile, Reader, UnusableError
from skyloom.raw_files.headers import header_number, header_position, header_text
from skyloom.raw_files.names import file_stem
from skyloom.spectra.constants import SPEED_OF_LIGHT
from skyloom.spectra.optical.spectrum import (
    WAVELENGTHS,
    OpticalSpectrum,
    checked,
    column_names,
    medium_of,
)


def _is_lamost_image(file: RawFile) -> bool:
    hdu = file.image_hdu
    return hdu is not None and hdu.data.ndim == 2 and hdu.data.shape[0] == 5 and _is_lamost(file)


def _read_lamost_image(file: RawFile) -> OpticalSpectrum:
    """Releases before DR8: rows of flux, inverse variance, wavelength, masks.

    In place of the wavelength the pilot survey has the flux without continuum, and then the header
    tells the wavelengths.
    """
    header, rows = file.image_header, file.image_hdu.data.astype(float)
    flux, inverse_variance, third, and_mask, _ = rows
    if (np.diff(third) > 0).all() and third[0] > WAVELENGTHS[0]:
        return _lamost(file, header, third, flux, inverse_variance, and_mask, "LAMOST image")
    start, step = header_number(header, "COEFF0"), header_number(header, "COEFF1")
    if not np.isfinite([start, step]).all():
        raise UnusableError("no wavelengths", "neither the third row nor COEFF0, COEFF1")
    wavelength = 10 ** (start + step * np.arange(len(flux)))
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


def _is_medium_resolution(file: RawFile) -> bool:
    return bool(_arms(file)) and _is_lamost(file)


def _arms(file):
    """The coadded spectra of the blue and the red arm."""
    if not file.is_fits:
        return []
    return [hdu for hdu in file.hdus if hdu.name in ("COADD_B", "COADD_R") and not hdu.is_image]


def _read_medium_resolution(file: RawFile) -> OpticalSpectrum:
    """Both arms of the medium-resolution survey, one after the other."""
    parts = []
    for hdu in _arms(file):
        values = {
            name.upper(): np.ravel(hdu.data[name]).astype(float) for name in hdu.columns.names
        }
        if not {"FLUX", "IVAR"} <= set(values) or not {"WAVELENGTH", "LOGLAM"} & set(values):
            raise UnusableError("no wavelengths", f"columns {', '.join(values)} of {hdu.name}")
        wavelength = values["WAVELENGTH"] if "WAVELENGTH" in values else 10 ** values["LOGLAM"]
        masked = values.get("PIXMASK", values.get("ANDMASK", np.zeros_like(wavelength)))
        parts.append((wavelength, values["FLUX"], values["IVAR"], masked))
    arrays = np.concatenate(parts, axis=1)
    # The arms overlap at some settings.
    arrays = arrays[:, np.unique(arrays[0], return_index=True)[1]]
    return _lamost(file, file.hdus[0].header, *arrays, "LAMOST medium resolution")


def _is_lamost(file):
    header = file.hdus[0].header
    return "LAMOST" in f"{header.get('TELESCOP', '')}{header.get('ORIGIN', '')}".upper()


def _lamost(file, header, wavelength, flux, inverse_variance, and_mask, layout):
    redshift = header_number(header, "Z")
    ra, dec = header_position(header, ("RA", "DEC"), ("RA_OBS", "DEC_OBS"))
    return checked(
        OpticalSpectrum(
            wavelength,
            flux,
            inverse_variance,
            (and_mask != 0) | ~(inverse_variance > 0),
            layout,
            medium=medium_of(header, otherwise="vacuum"),
            identifier=header_text(header, "OBSID") or file_stem(file.name),
            spectral_type=header_text(header, "SUBCLASS"),
            # -9999 where the pipeline found none
            radial_velocity=redshift * SPEED_OF_LIGHT if abs(redshift) < 0.1 else np.nan,
            ra=ra,
            dec=dec,
            snr=header_number(header, "SNRG", "SN_G"),
        )
    )


READERS = (
    Reader("LAMOST image", _is_lamost_image, _read_lamost_image),
    Reader("LAMOST medium resolution", _is_medium_resolution, _read_medium_resolution),
    Reader("LAMOST table", _is_lamost_table, _read_lamost_table),
)
