"""Every layout of a stellar spectrum is read for what it says, and broken files say why not."""

import contextlib
import gzip
import io

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from skyloom.raw_files import UnusableError
from skyloom.simulate.stellar_spectra import draw_truth, observe, to_hdu, wavelength_grid
from skyloom.spectra.optical.readers import read_spectrum
from skyloom.spectra.optical.spectral_types import parse_spectral_type
from skyloom.spectra.optical.spectrum import vacuum_wavelength

RNG = np.random.default_rng(0)
TRUTH = draw_truth(1, RNG)
FLUX, IVAR = (part[0] for part in observe(TRUTH, RNG))
ROW = TRUTH.iloc[0]


def as_bytes(*hdus):
    stream = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(stream)
    return stream.getvalue()


def lamost(**changes):
    """A LAMOST image as bytes; ``rows`` replaces rows, None takes a keyword away."""
    hdu = to_hdu(ROW, FLUX, IVAR)
    for number, values in changes.pop("rows", {}).items():
        hdu.data[number] = values
    for key, value in changes.items():
        if value is None:
            del hdu.header[key]
        else:
            hdu.header[key] = value
    return as_bytes(hdu)


def pilot(**changes):
    return lamost(rows={2: np.linspace(0.9, 1.1, len(FLUX))}, **changes)


def lamost_table(**columns):
    values = {"FLUX": FLUX, "IVAR": IVAR, "WAVELENGTH": wavelength_grid(),
              "ANDMASK": np.zeros(len(FLUX)), "ORMASK": np.zeros(len(FLUX))} | columns  # fmt: skip
    table = fits.BinTableHDU.from_columns(
        [fits.Column(name, f"{len(v)}E", array=[v]) for name, v in values.items()]
    )
    primary = fits.PrimaryHDU()
    primary.header.update(to_hdu(ROW, FLUX, IVAR).header.copy(strip=True))
    return as_bytes(primary, table)


def sdss(bits=0):
    n = 200
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("flux", "E", array=np.arange(n) + 1.0),
            fits.Column("loglam", "E", array=3.58 + 1e-4 * np.arange(n)),
            fits.Column("ivar", "E", array=np.where(np.arange(n) == 5, 0, 2.0)),
            fits.Column("and_mask", "J", array=np.where(np.arange(n) == 9, bits, 0)),
        ]
    )
    found = fits.BinTableHDU.from_columns(
        [
            fits.Column("CLASS", "10A", array=["STAR"]),
            fits.Column("SUBCLASS", "10A", array=["K7"]),
            fits.Column("Z", "E", array=[1e-4]), fits.Column("PLUG_RA", "D", array=[12.5]),
            fits.Column("PLUG_DEC", "D", array=[-3.5]),
            fits.Column("SN_MEDIAN", "5E", array=[[1, 20, 3, 4, 5]]),
        ]
    )  # fmt: skip
    return as_bytes(fits.PrimaryHDU(), table, found)


def one_dimensional(n=300, **header):
    hdu = fits.PrimaryHDU(np.linspace(1, 2, n))
    hdu.header.update({"CRVAL1": 4000.0, "CDELT1": 2.0, "CRPIX1": 1} | header)
    return as_bytes(hdu)


def test_a_lamost_image_has_everything():
    read = read_spectrum("a.fits", lamost())
    np.testing.assert_allclose(read.flux, FLUX)
    np.testing.assert_allclose(read.inverse_variance, IVAR)
    np.testing.assert_allclose(read.wavelength, wavelength_grid(), rtol=1e-6)
    assert (read.layout, read.medium, read.flux_unit) == ("LAMOST image", "vacuum", "relative")
    assert parse_spectral_type(read.spectral_type).spectral_class == ROW["class"]
    assert read.radial_velocity == pytest.approx(ROW["velocity"])
    assert (read.ra, read.dec, read.snr) == pytest.approx(
        (ROW["ra"], ROW["dec"], ROW["snr"]), abs=0.01
    )
    assert read.identifier == ROW["id"]
    assert not read.mask.any()


def test_the_pilot_survey_has_its_wavelengths_in_the_header():
    read = read_spectrum("a.fits", pilot())
    assert read.layout == "LAMOST pilot image"
    np.testing.assert_allclose(read.wavelength, wavelength_grid())


def test_the_newer_table_holds_the_same_spectrum():
    image, table = read_spectrum("a.fits", lamost()), read_spectrum("a.fits", lamost_table())
    assert table.layout == "LAMOST table"
    for name in ("wavelength", "flux", "inverse_variance", "mask"):
        np.testing.assert_allclose(getattr(table, name), getattr(image, name), rtol=1e-6)
    assert table.spectral_type == image.spectral_type
    assert table.radial_velocity == image.radial_velocity


def test_gzipped_files_are_read_too():
    assert read_spectrum("a.fits.gz", gzip.compress(lamost())).layout == "LAMOST image"


@pytest.mark.parametrize("make", [lamost, pilot])
def test_masked_and_noiseless_pixels_are_not_used(make):
    hdu = fits.open(io.BytesIO(make()))[0]
    hdu.data[3, 100], hdu.data[1, 200], hdu.data[0, 300] = 1, 0, np.nan
    read = read_spectrum("a.fits", as_bytes(hdu))
    assert np.flatnonzero(read.mask).tolist() == [100, 200, 300]


def test_a_redshift_that_the_pipeline_did_not_find_is_no_velocity():
    assert np.isnan(read_spectrum("a.fits", lamost(Z=-9999.0)).radial_velocity)
    assert np.isnan(read_spectrum("a.fits", lamost(Z=None)).radial_velocity)


def test_an_sdss_spectrum_has_its_class_and_position():
    read = read_spectrum("spec-1-2-3.fits", sdss())
    assert (read.layout, read.medium, read.spectral_type) == ("SDSS", "vacuum", "K7")
    assert (read.ra, read.dec, read.snr) == (12.5, -3.5, 20)
    assert read.radial_velocity == pytest.approx(29.979, rel=1e-4)
    assert np.flatnonzero(read.mask).tolist() == [5]
    assert read.identifier == "spec-1-2-3"


@pytest.mark.parametrize(("bits", "masked"), [(1 << 23, [5, 9]), (1 << 24, [5, 9]), (1 << 3, [5])])
def test_of_the_sdss_bits_two_make_a_pixel_useless(bits, masked):
    assert np.flatnonzero(read_spectrum("a.fits", sdss(bits)).mask).tolist() == masked


def test_a_template_is_at_rest_and_named_after_its_type():
    n = 200
    error = np.full(n, 0.5)
    error[3] = 0
    columns = {"LogLam": 3.6 + 1e-4 * np.arange(n), "Flux": np.arange(n) + 1.0,
               "PropErr": error, "Std": error}  # fmt: skip
    table = fits.BinTableHDU.from_columns(
        [fits.Column(name, "E", array=v) for name, v in columns.items()]
    )
    read = read_spectrum("x/O9.fits", as_bytes(fits.PrimaryHDU(), table))
    assert (read.spectral_type, read.radial_velocity) == ("O9", 0)
    assert read.inverse_variance[0] == pytest.approx(4)
    assert np.flatnonzero(read.mask).tolist() == [3]


@pytest.mark.parametrize(
    ("header", "last", "medium"),
    [
        ({}, 4598.0, "air"),
        ({"CRPIX1": 11}, 4578.0, "air"),
        ({"CRVAL1": 3.6, "CDELT1": 1e-4, "DC-FLAG": 1}, 10 ** (3.6 + 0.0299), "air"),
        ({"CRVAL1": 3.6, "CDELT1": 1e-4}, 10 ** (3.6 + 0.0299), "air"),
        ({"CTYPE1": "WAVE-LOG"}, 4000 * np.exp(598 / 4000), "vacuum"),
        ({"CTYPE1": "AWAV"}, 4598.0, "air"),
        ({"CRVAL1": 400.0, "CDELT1": 0.2, "CUNIT1": "nm"}, 4598.0, "air"),
        ({"CUNIT1": "Angstroms"}, 4598.0, "air"),
    ],
)
def test_the_axis_of_an_image_is_linear_or_logarithmic(header, last, medium):
    read = read_spectrum("a.fits", one_dimensional(**header))
    assert read.wavelength[-1] == pytest.approx(last)
    assert read.medium == medium


def test_air_becomes_vacuum():
    read = read_spectrum("a.fits", one_dimensional(CRVAL1=6562.79 - 2 * 150))
    vacuum = vacuum_wavelength(read)
    assert vacuum[150] == pytest.approx(6564.60, abs=0.02)  # H alpha
    np.testing.assert_array_equal(
        vacuum_wavelength(read_spectrum("a.fits", lamost())),
        read_spectrum("a", lamost()).wavelength,
    )


@pytest.mark.parametrize(
    "text",
    [
        "FLUX,WAVELENGTH\n" + "\n".join(f"{k + 1},{4000 + k}" for k in range(200)),
        "# Jacoby\n" + "\n".join(f"{4000 + k}  {k + 1}" for k in range(200)),
    ],
)
def test_two_columns_of_text_are_a_spectrum(text):
    read = read_spectrum("star.csv", text.encode())
    assert (read.wavelength[0], read.flux[0], len(read.flux)) == (4000, 1, 200)
    assert (read.layout, read.identifier) == ("text", "star")


BROKEN = {
    "empty file": b"",
    "truncated": lamost()[:20000],
    "no wavelengths": pilot(COEFF0=None),
    "no usable pixel": lamost(rows={1: 0}),
    "constant flux": lamost(rows={0: 7.0}),
    "too few pixels": one_dimensional(20),
    "wavelengths not increasing": one_dimensional(CDELT1=-2.0),
    "wavelengths not in Angstrom": one_dimensional(CRVAL1=400.0, CDELT1=0.2),
    "wrong units": one_dimensional(CUNIT1="km/s"),
    "not a table": b"<html>not found</html>",
    "FITS without a spectrum in a known layout": as_bytes(fits.PrimaryHDU(np.ones((4, 4)))),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_broken_files_say_why(reason):
    with pytest.raises(UnusableError) as error:
        read_spectrum("a.fits", BROKEN[reason])
    assert error.value.reason == reason


@given(st.binary(max_size=3000))
def test_any_bytes_are_read_or_refused(content):
    with pytest.raises(UnusableError):
        read_spectrum("a.fits", content)


@given(st.integers(0, len(lamost()) - 1), st.integers(0, 255))
def test_a_damaged_byte_never_raises_anything_else(place, value):
    content = bytearray(lamost())
    content[place] = value
    with contextlib.suppress(UnusableError):
        read_spectrum("a.fits", bytes(content))


# --- real files -----------------------------------------------------------------------------------

REAL = {
    "stellar_spectra/lamost/*.fits": (126, "LAMOST pilot image", "AFGKM"),
    "stellar_spectra/miles/*.fits": (682, "1-D image", ""),
    "stellar_spectra/stelib/*.fits": (152, "1-D image", "OBAFGKM"),
    "stellar_spectra/boss_templates/*.fits": (4, "BOSS template", "O"),
    "galaxy_spectra/sdss/*.fits": (32, "SDSS", "FM"),
}


@pytest.mark.parametrize("pattern", REAL)
def test_every_real_file_is_read(real_observations, pattern):
    n, layout, classes = REAL[pattern]
    files = sorted(real_observations.parent.glob(pattern))
    assert len(files) == n
    found, masked = set(), []
    for file in files[:: max(1, n // 60)]:
        read = read_spectrum(file.name, file.read_bytes())
        assert read.layout == layout
        assert read.wavelength[0] < 4000 < 7000 < read.wavelength[-1]
        masked.append(read.mask.mean())
        found.add(parse_spectral_type(read.spectral_type).spectral_class)
    assert found - {""} == set(classes)
    assert np.median(masked) < 0.15
    assert np.max(masked) < 0.8  # one has nothing in the red
