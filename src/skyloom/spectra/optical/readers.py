"""Readers of optical spectra of stars: one *identify* and one *read* function per layout."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from skyloom.raw_files import RawFile, Reader, UnusableError, file_stem, read_file

SPEED_OF_LIGHT = 299792.458  # km/s
_FEWEST_PIXELS = 100
_WAVELENGTHS = (1e3, 3e5)  # Angstrom: what else is not in Angstrom
_SDSS_BAD = 1 << 23 | 1 << 24  # BRIGHTSKY, NODATA; most of the other bits are mere remarks


@dataclass(frozen=True)
class OpticalSpectrum:
    """A spectrum as read.

    Attributes
    ----------
    wavelength : numpy.ndarray, shape (n,)
        Angstrom, increasing.
    flux : numpy.ndarray, shape (n,)
        In units of ``flux_unit``, per wavelength.
    inverse_variance : numpy.ndarray, shape (n,)
        Of the flux; NaN where the file gives none.
    mask : numpy.ndarray of bool, shape (n,)
        Pixels that must not be used.
    layout : str
        Name of the reader.
    medium : {"vacuum", "air"}
        In which the wavelengths are.
    flux_unit : str
        As the file states it, or ``relative``.
    identifier : str
        Of the star or observation; empty where the file gives none.
    spectral_type : str
        As the file writes it; empty where it gives none.
    radial_velocity : float
        By which the spectrum is shifted, km/s; 0 where the file is at rest.
    ra, dec : float
        deg; NaN where the file gives none.
    snr : float
        In the g band where the file tells it, else NaN.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    inverse_variance: np.ndarray
    mask: np.ndarray
    layout: str
    medium: str = "air"
    flux_unit: str = "relative"
    identifier: str = ""
    spectral_type: str = ""
    radial_velocity: float = 0.0
    ra: float = np.nan
    dec: float = np.nan
    snr: float = np.nan


def vacuum_wavelength(spectrum: OpticalSpectrum) -> np.ndarray:
    """Wavelengths in vacuum.

    Parameters
    ----------
    spectrum : OpticalSpectrum
        In air or vacuum.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Angstrom.

    References
    ----------
    Morton (2000), ApJS 130, 403, as IAU standard; see `specutils.utils.wcs_utils.air_to_vac`.
    """
    if spectrum.medium == "vacuum":
        return spectrum.wavelength
    from astropy import units as u
    from specutils.utils.wcs_utils import air_to_vac

    return air_to_vac(spectrum.wavelength * u.AA, scheme="iteration", method="Morton2000").value


# --- LAMOST ---------------------------------------------------------------------------------------


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
    if (np.diff(third) > 0).all() and third[0] > _WAVELENGTHS[0]:
        return _lamost(file, header, third, flux, inverse_variance, and_mask, "LAMOST image")
    if "COEFF0" not in header or "COEFF1" not in header:
        raise UnusableError("no wavelengths", "neither the third row nor COEFF0, COEFF1")
    wavelength = 10 ** (header["COEFF0"] + header["COEFF1"] * np.arange(len(flux)))
    return _lamost(file, header, wavelength, flux, inverse_variance, and_mask, "LAMOST pilot image")


def _is_lamost_table(file: RawFile) -> bool:
    return {"FLUX", "IVAR", "WAVELENGTH"} <= _columns(file) and _is_lamost(file)


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
    redshift = _number(header, "Z")
    return _checked(
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
            ra=_number(header, "RA"),
            dec=_number(header, "DEC"),
            snr=_number(header, "SNRG", "SN_G"),
        )
    )


# --- SDSS and its templates -----------------------------------------------------------------------


def _is_sdss(file: RawFile) -> bool:
    return {"FLUX", "LOGLAM", "IVAR"} <= _columns(file)


def _read_sdss(file: RawFile) -> OpticalSpectrum:
    """``spec-*`` and ``spec-lite-*``: a table, and what the pipeline found in the next one."""
    header, table = file.hdus[0].header, _upper(file.hdus[1].data)
    found = {}
    if len(file.hdus) > 2 and file.hdus[2].columns is not None and len(file.hdus[2].data) == 1:
        found = {name: value[0] for name, value in _upper(file.hdus[2].data).items()}
    snr = np.atleast_1d(found.get("SN_MEDIAN", np.nan)).astype(float)
    bits = table.get("AND_MASK", np.zeros(len(table["FLUX"]), int)).astype(np.int64)
    return _checked(
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
            ra=float(found.get("PLUG_RA", header.get("PLUG_RA", np.nan))),
            dec=float(found.get("PLUG_DEC", header.get("PLUG_DEC", np.nan))),
            snr=snr[1] if len(snr) == 5 else np.nan,
        )
    )


def _is_template(file: RawFile) -> bool:
    return {"LOGLAM", "FLUX", "PROPERR"} <= _columns(file)


def _read_template(file: RawFile) -> OpticalSpectrum:
    """BOSS templates of Kesseli et al. (2017): means over stars, at rest; the type is the name."""
    table = _upper(file.hdus[1].data)
    error = table["PROPERR"].astype(float)
    usable = np.isfinite(error) & (error > 0)
    inverse_variance = np.divide(1, error**2, out=np.zeros_like(error), where=usable)
    name = file_stem(file.name)
    return _checked(
        OpticalSpectrum(
            10 ** table["LOGLAM"].astype(float), table["FLUX"].astype(float), inverse_variance,
            ~usable, "BOSS template", medium="vacuum", identifier=name,
            spectral_type=name.partition("_")[0],
        )
    )  # fmt: skip


# --- images of one axis, and text -----------------------------------------------------------------


def _is_one_dimensional(file: RawFile) -> bool:
    hdu = file.image_hdu
    return hdu is not None and np.squeeze(hdu.data).ndim == 1 and "CRVAL1" in hdu.header


def _read_one_dimensional(file: RawFile) -> OpticalSpectrum:
    """MILES, STELIB and others: a linear or logarithmic axis, at rest, in air unless it says so."""
    header, flux = file.image_hdu.header, np.squeeze(file.image_hdu.data).astype(float)
    step = _number(header, "CDELT1", "CD1_1")
    axis = _number(header, "CRVAL1") + step * (
        np.arange(len(flux)) + 1 - float(header.get("CRPIX1", 1))
    )
    kind = str(header.get("CTYPE1", "")).strip().upper()
    if header.get("DC-FLAG") == 1 or (kind.startswith("LOG") or axis[0] < 10):
        axis = 10**axis
    elif kind.endswith("-LOG"):  # Greisen et al. (2006), eq. 5
        start = _number(header, "CRVAL1")
        axis = start * np.exp((axis - start) / start)
    vacuum = bool(header.get("VACUUM", False)) or kind.startswith("WAVE")
    ra, dec = (_number(header, name) for name in ("RA", "DEC"))
    return _checked(
        OpticalSpectrum(
            axis * _in_angstrom(header),
            flux,
            np.full(len(flux), np.nan),
            flux == 0,  # how STELIB fills gaps
            "1-D image",
            medium="vacuum" if vacuum else "air",
            flux_unit=str(header.get("BUNIT", "relative")).strip(),
            identifier=str(header.get("OBJECT", "")).strip() or file_stem(file.name),
            spectral_type=str(header.get("SPECTYPE", "")).strip(),
            # STELIB writes radians
            ra=np.degrees(ra) if abs(ra) < 2 * np.pi else ra,
            dec=np.degrees(dec) if abs(ra) < 2 * np.pi else dec,
        )
    )


def _in_angstrom(header):
    from astropy import units as u

    unit = str(header.get("CUNIT1", "Angstrom")).strip() or "Angstrom"
    try:
        return u.Unit(unit.rstrip("s")).to("Angstrom")
    except (ValueError, u.UnitConversionError) as error:
        raise UnusableError("wrong units", f"{unit!r} of the wavelengths") from error


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
    return _checked(
        OpticalSpectrum(
            wavelength, flux, np.full(len(flux), np.nan), np.zeros(len(flux), bool), "text",
            identifier=file_stem(file.name),
        )
    )  # fmt: skip


READERS = (
    Reader("LAMOST image", _is_lamost_image, _read_lamost_image),
    Reader("LAMOST table", _is_lamost_table, _read_lamost_table),
    Reader("SDSS", _is_sdss, _read_sdss),
    Reader("BOSS template", _is_template, _read_template),
    Reader("1-D image", _is_one_dimensional, _read_one_dimensional),
    Reader("text", _is_text, _read_text),
)


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


# --- helpers --------------------------------------------------------------------------------------


def _columns(file):
    """Upper-case names of the columns of the first extension, where that is a table."""
    if not file.is_fits or len(file.hdus) < 2 or file.hdus[1].is_image:
        return set()
    return {name.upper() for name in file.hdus[1].columns.names}


def _upper(table):
    return {name.upper(): table[name] for name in table.names}


def _number(header, *names):
    """The first of some header values that is a number, or NaN."""
    for name in names:
        try:
            return float(header[name])
        except (KeyError, TypeError, ValueError):
            continue
    return np.nan


def _checked(spectrum):
    """The spectrum, its bad values masked, if it is one at all."""
    wavelength, flux = spectrum.wavelength, spectrum.flux
    if len(flux) < _FEWEST_PIXELS:
        raise UnusableError("too few pixels", len(flux))
    if not np.isfinite(wavelength).all() or (np.diff(wavelength) <= 0).any():
        raise UnusableError(
            "wavelengths not increasing", f"{wavelength[0]:g} to {wavelength[-1]:g}"
        )
    low, high = _WAVELENGTHS
    if wavelength[0] < low or wavelength[-1] > high:
        value = f"{wavelength[0]:g} to {wavelength[-1]:g}"
        raise UnusableError("wavelengths not in Angstrom", value)
    spectrum.mask[~np.isfinite(flux)] = True
    usable = flux[~spectrum.mask]
    if not len(usable):
        raise UnusableError("no usable pixel", f"all {len(flux)} are masked")
    if usable.min() == usable.max():
        raise UnusableError("constant flux", f"{usable[0]:g}")
    return spectrum
