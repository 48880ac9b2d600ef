"""Spectra of SDSS and BOSS, and templates made of them."""

from __future__ import annotations

import numpy as np

from skyloom.raw_files import RawFile, Reader
from skyloom.raw_files.headers import header_number, header_position, header_text
from skyloom.raw_files.names import file_stem
from skyloom.spectra.constants import SPEED_OF_LIGHT
from skyloom.spectra.optical.spectrum import (
    OpticalSpectrum,
    checked,
    column_names,
    medium_of,
)

_SDSS_BAD = 1 << 23 | 1 << 24  # BRIGHTSKY, NODATA; most of the other bits are mere remarks


def _is_sdss(file: RawFile) -> bool:
    return {"FLUX", "LOGLAM", "IVAR"} <= column_names(file)


def _read_sdss(file: RawFile) -> OpticalSpectrum:
    """``spec-*`` and ``spec-lite-*``: a table, and what the pipeline found in the next one."""
    header, table = file.hdus[0].header, _upper(file.hdus[1].data)
    found = {}
    if len(file.hdus) > 2 and file.hdus[2].columns is not None and len(file.hdus[2].data) == 1:
        found = {name: value[0] for name, value in _upper(file.hdus[2].data).items()}
    ra, dec = header_position({**header, **found}, ("PLUG_RA", "PLUG_DEC"), ("RA", "DEC"))
    snr = np.atleast_1d(found.get("SN_MEDIAN", np.nan)).astype(float)
    bits = table.get("AND_MASK", np.zeros(len(table["FLUX"]), int)).astype(np.int64)
    return checked(
        OpticalSpectrum(
            10 ** table["LOGLAM"].astype(float),
            table["FLUX"].astype(float),
            table["IVAR"].astype(float),
            (bits & _SDSS_BAD != 0) | ~(table["IVAR"] > 0),
            "SDSS",
            medium="vacuum",
            flux_unit=str(header.get("BUNIT", "1E-17 erg/cm^2/s/Ang")).strip(),
            identifier=file_stem(file.name),
            spectral_type=str(found.get("SUBCLASS", "")).strip()
            if str(found.get("CLASS", "")).strip() == "STAR"
            else str(found.get("CLASS", "")).strip(),
            radial_velocity=float(found.get("Z", np.nan)) * SPEED_OF_LIGHT,
            ra=ra,
            dec=dec,
            snr=snr[1] if len(snr) == 5 else np.nan,
        )
    )


def _is_early_sdss(file: RawFile) -> bool:
    hdu = file.image_hdu
    return (
        hdu is not None
        and hdu.data.ndim == 2
        and hdu.data.shape[0] in (3, 4, 5)
        and {"COEFF0", "COEFF1"} <= set(file.image_header)
        and "SDSS" in header_text(file.image_header, "TELESCOP").upper()
    )


def _read_early_sdss(file: RawFile) -> OpticalSpectrum:
    """``spSpec-*`` to DR7: rows of flux, flux without continuum, error, mask, sky."""
    header, rows = file.image_header, file.image_hdu.data.astype(float)
    flux, _, error = rows[:3]
    usable = np.isfinite(error) & (error > 0)
    start, step = header_number(header, "COEFF0"), header_number(header, "COEFF1")
    ra, dec = header_position(header, ("RAOBJ", "DECOBJ"), ("RA", "DEC"))
    return checked(
        OpticalSpectrum(
            10 ** (start + step * np.arange(len(flux))),
            flux,
            np.divide(1, error**2, out=np.zeros_like(error), where=usable),
            ~usable,
            "SDSS to DR7",
            medium=medium_of(header, otherwise="vacuum"),
            flux_unit=header_text(header, "BUNIT") or "1E-17 erg/cm^2/s/Ang",
            identifier=file_stem(file.name),
            radial_velocity=header_number(header, "Z") * SPEED_OF_LIGHT,
            ra=ra,
            dec=dec,
            snr=header_number(header, "SN_G"),
        )
    )


def _is_template(file: RawFile) -> bool:
    return {"LOGLAM", "FLUX", "PROPERR"} <= column_names(file)


def _read_template(file: RawFile) -> OpticalSpectrum:
    """BOSS templates of Kesseli et al. (2017): means over stars, at rest; the type is the name."""
    table = _upper(file.hdus[1].data)
    error = table["PROPERR"].astype(float)
    usable = np.isfinite(error) & (error > 0)
    inverse_variance = np.divide(1, error**2, out=np.zeros_like(error), where=usable)
    name = file_stem(file.name)
    return checked(
        OpticalSpectrum(
            10 ** table["LOGLAM"].astype(float), table["FLUX"].astype(float), inverse_variance,
            ~usable, "BOSS template", medium="vacuum", identifier=name,
            spectral_type=name.partition("_")[0],
        )
    )  # fmt: skip


def _upper(table):
    return {name.upper(): table[name] for name in table.names}


READERS = (
    Reader("SDSS", _is_sdss, _read_sdss),
    Reader("SDSS to DR7", _is_early_sdss, _read_early_sdss),
    Reader("BOSS template", _is_template, _read_template),
)
