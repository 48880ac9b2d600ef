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


# --- what files state, in every way in which they do ---------------------------------------------
@pytest.mark.parametrize(
    ("cards", "medium"),
    [
        ({"VACUUM": "F"}, "air"),
        ({"VACUUM": "False"}, "air"),
        ({"VACUUM": 0}, "air"),
        ({"VACUUM": False, "CTYPE1": "WAVE"}, "air"),
        ({"VACUUM": "T"}, "vacuum"),
        ({"VACUUM": True}, "vacuum"),
        ({"AIRORVAC": "vac"}, "vacuum"),
        ({"AIRORVAC": "air", "CTYPE1": "WAVE"}, "air"),
        ({"CTYPE1": "WAVE"}, "vacuum"),
        ({"VACUUM": ""}, "air"),
    ],
    ids=str,
)
def test_air_or_vacuum_is_what_the_header_says(cards, medium):
    assert read_spectrum("a.fits", one_dimensional(**cards)).medium == medium


@pytest.mark.parametrize("word", ["F", "False", False, 0])
def test_lamost_is_in_vacuum_unless_it_says_otherwise(word):
    assert read_spectrum("a.fits", lamost(VACUUM=word)).medium == "air"
    assert read_spectrum("a.fits", lamost(VACUUM=None)).medium == "vacuum"


WAVELENGTH = 4000 + 2.0 * np.arange(300)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("ANGSTROMS", 1), ("ANGSTROM", 1), ("A", 1), ("AA", 1), ("NM", 10), ("micron", 1e4),
     ("um", 1e4), ("Micrometers", 1e4), ("m", 1e10)],
)  # fmt: skip
def test_units_of_wavelengths_as_people_spell_them(unit, factor):
    axis = {"CRVAL1": 4000 / factor, "CDELT1": 2 / factor}
    iraf = {"CTYPE1": "LINEAR", "WAT1_001": f"wtype=linear label=Wavelength units={unit}"}
    for cards in ({"CUNIT1": unit}, iraf):
        read = read_spectrum("a.fits", one_dimensional(**axis, **cards))
        np.testing.assert_allclose(read.wavelength, WAVELENGTH)


def test_micrometres_are_no_logarithms():
    read = read_spectrum("a.fits", one_dimensional(CRVAL1=3.6, CDELT1=1e-3, CUNIT1="um"))
    assert read.wavelength[0] == pytest.approx(36000)


def test_a_standard_axis_without_a_unit_is_in_metres_where_that_is_possible():
    for axis in ({"CRVAL1": 4e-7, "CDELT1": 2e-10}, {}):
        read = read_spectrum("a.fits", one_dimensional(CTYPE1="AWAV", **axis))
        np.testing.assert_allclose(read.wavelength, WAVELENGTH)


@pytest.mark.parametrize("cards", [{"CD1_1": 2.0}, {"CDELT1": 1.0, "CD1_1": 2.0}], ids=str)
def test_the_step_is_that_of_the_matrix(cards):
    hdu = fits.PrimaryHDU(np.linspace(1, 2, 300))
    hdu.header.update({"CRVAL1": "4000.0", "CRPIX1": 1} | cards)
    np.testing.assert_allclose(read_spectrum("a", as_bytes(hdu)).wavelength, WAVELENGTH)


def test_descending_wavelengths_are_turned_with_all_that_belongs_to_them():
    error = np.linspace(0.1, 0.2, 300)
    rows = zip(WAVELENGTH[::-1], np.arange(300) + 1.0, error, strict=True)
    text = "wave,flux,err\n" + "\n".join(f"{w},{f},{e}" for w, f, e in rows)
    read = read_spectrum("a.csv", text.encode())
    np.testing.assert_array_equal(read.wavelength, WAVELENGTH)
    np.testing.assert_array_equal(read.flux, np.arange(300)[::-1] + 1.0)
    np.testing.assert_allclose(read.inverse_variance, 1 / error[::-1] ** 2)


@pytest.mark.parametrize(
    ("ra", "dec", "place"),
    [
        (3.5, -12.25, (3.5, -12.25)),
        ("12:34:56.7", "-00:12:15", (188.73625, -0.2041667)),
        ("12 34 56.7", "-00 12 15", (188.73625, -0.2041667)),
        ("188.73625", "-0.2041667", (188.73625, -0.2041667)),
        (-999.0, -999.0, (np.nan, np.nan)),
        ("unknown", "", (np.nan, np.nan)),
    ],
)
def test_positions_as_headers_have_them(ra, dec, place):
    for content in (one_dimensional(RA=ra, DEC=dec), lamost(RA=ra, DEC=dec)):
        read = read_spectrum("a.fits", content)
        np.testing.assert_allclose((read.ra, read.dec), place, atol=1e-6)


def test_a_declination_beyond_the_pole_is_refused():
    for content in (one_dimensional(RA=10.0, DEC=127.0), lamost(RA=10.0, DEC=127.0)):
        with pytest.raises(UnusableError, match=r"impossible position: DEC 127\.0"):
            read_spectrum("a.fits", content)


def test_stelib_alone_has_radians():
    read = read_spectrum("a.fits", one_dimensional(RA=0.5, DEC=-0.25, STARIDEN="HD002857"))
    assert (read.ra, read.dec) == pytest.approx(np.degrees([0.5, -0.25]))


def columns_of(arrays, units=(), one_row=False, **header):
    made = []
    for (name, values), unit in zip(arrays.items(), [*units, *[None] * 9], strict=False):
        kind, array = (f"{len(values)}D", [values]) if one_row else ("D", values)
        made.append(fits.Column(name, kind, unit, array=array))
    hdu = fits.BinTableHDU.from_columns(made)
    hdu.header.update(header)
    return as_bytes(fits.PrimaryHDU(), hdu)


FLUXES = np.linspace(1, 2, 300)


@pytest.mark.parametrize(
    ("content", "medium", "error"),
    [
        (columns_of({"WAVELENGTH": WAVELENGTH, "FLUX": FLUXES}, ["ANGSTROMS", "FLAM"]), "air", 0),
        (columns_of({"WAVELENGTH": WAVELENGTH, "FLUX": FLUXES}, DBTABLE="CRSPECTRUM"), "vacuum", 0),
        (
            columns_of(
                {"WAVE": WAVELENGTH / 10, "FLUX": FLUXES, "ERR": FLUXES / 10}, ["nm"], one_row=True
            ),
            "air",
            0.1,
        ),
        (
            columns_of({"spectral_axis": WAVELENGTH / 1e4, "flux": FLUXES,
                        "uncertainty": FLUXES / 10}, ["um"], TUCD1="em.wl"),
            "vacuum",
            0.1,
        ),
        (columns_of({"loglam": np.log10(WAVELENGTH), "flux": FLUXES}), "air", 0),
    ],
    ids=["CALSPEC-like", "CALSPEC", "ESO", "specutils", "logarithm"],
)  # fmt: skip
def test_tables_of_any_archive(content, medium, error):
    read = read_spectrum("a.fits", content)
    assert (read.layout, read.medium) == ("table", medium)
    np.testing.assert_allclose(read.wavelength, WAVELENGTH)
    np.testing.assert_allclose(read.flux, FLUXES)
    expected = 1 / (error * FLUXES) ** 2 if error else np.full(300, np.nan)
    np.testing.assert_allclose(read.inverse_variance, expected)


def test_fluxes_per_frequency_become_those_per_wavelength():
    arrays = {"wavelength": WAVELENGTH, "flux": FLUXES, "error": FLUXES / 20}
    read = read_spectrum("a", columns_of(arrays, ["Angstrom", "Jy", "Jy"]))
    slope = read.flux * WAVELENGTH**2 / FLUXES
    np.testing.assert_allclose(slope, slope[0])
    np.testing.assert_allclose(read.flux**2 * read.inverse_variance, 400)


def test_early_sdss_has_errors_and_rows():
    error = np.where(np.arange(300) == 7, 0, 0.5)
    hdu = fits.PrimaryHDU(np.stack([FLUXES, FLUXES - 1, error, 0 * error, 0 * error]))
    hdu.header.update({"TELESCOP": "SDSS 2.5-M", "COEFF0": 3.6, "COEFF1": 1e-4, "RAOBJ": 150.0,
                       "DECOBJ": 2.0, "Z": 1e-4})  # fmt: skip
    read = read_spectrum("spSpec-51630-0266-001.fit", as_bytes(hdu))
    assert (read.layout, read.medium, read.ra, read.dec) == ("SDSS to DR7", "vacuum", 150.0, 2.0)
    assert read.identifier == "spSpec-51630-0266-001"
    assert np.flatnonzero(read.mask).tolist() == [7]
    assert read.inverse_variance[0] == pytest.approx(4)
    np.testing.assert_allclose(read.wavelength, 10 ** (3.6 + 1e-4 * np.arange(300)))


@pytest.mark.parametrize("multispec", [True, False])
def test_the_bands_of_iraf(multispec):
    hdu = fits.PrimaryHDU(np.stack([FLUXES, FLUXES + 9, FLUXES / 10])[:, None])
    names = ("optimally extracted", "raw", "sigma of the optimal")
    hdu.header.update({f"BANDID{k + 1}": name for k, name in enumerate(names)})
    if multispec:
        text = 'wtype=multispec spec1 = "1 1 0 4000. 2. 300 0. 1. 2." spec2 = ""'.ljust(80)
        hdu.header.update({"CTYPE1": "MULTISPE", "WAT2_001": text[:68], "WAT2_002": text[68:]})
    else:
        hdu.header.update({"CTYPE1": "LINEAR", "CRVAL1": 4000.0, "CD1_1": 2.0, "CRPIX1": 1.0})
    read = read_spectrum("a.fits", as_bytes(hdu))
    assert read.layout == "IRAF bands"
    np.testing.assert_allclose(read.wavelength, WAVELENGTH)
    np.testing.assert_allclose(read.flux, FLUXES)
    np.testing.assert_allclose(read.inverse_variance, 100 / FLUXES**2)


@pytest.mark.parametrize("logarithms", [True, False])
def test_both_arms_of_lamosts_medium_resolution(logarithms):
    primary = fits.PrimaryHDU()
    primary.header.update(to_hdu(ROW, FLUX, IVAR).header.copy(strip=True))
    arms = []
    for name, start in (("COADD_R", 6300), ("COADD_B", 4950)):
        wavelength = start + 0.2 * np.arange(200.0)
        axis = ("LOGLAM", np.log10(wavelength)) if logarithms else ("WAVELENGTH", wavelength)
        arrays = {"FLUX": wavelength / 1e3, "IVAR": np.full(200, 4.0), axis[0]: axis[1]}
        columns = [fits.Column(n, "D", array=v) for n, v in arrays.items()]
        arms.append(fits.BinTableHDU.from_columns(columns, name=name))
    read = read_spectrum("med.fits", as_bytes(primary, *arms))
    assert read.layout == "LAMOST medium resolution"
    assert (read.wavelength[0], len(read.wavelength)) == (pytest.approx(4950), 400)
    np.testing.assert_allclose(read.flux, read.wavelength / 1e3)


@pytest.mark.parametrize(
    "head",
    ["", "# wavelength flux error\n", "lambda flux sigma\n", "% wave flux err\n",
     '"Wavelength (nm)" "Flux" "err"\n', "# wavelengths in nm\n", "# l\u00e4nge\n"],
)  # fmt: skip
@pytest.mark.parametrize("change", ["none", "latin-1", "D", "comma"])
def test_text_of_any_hand(head, change):
    factor = 10 if "nm" in head else 1
    rows = zip(WAVELENGTH / factor, FLUXES, FLUXES / 10, strict=True)
    body = "".join(f"{w:.6e} {f:.6e} {e:.6e}\n" for w, f, e in rows)
    body = {"D": body.replace("e", "D"), "comma": body.replace(".", ",")}.get(change, body)
    content = (head + body).encode("latin-1" if change == "latin-1" else "utf-8")
    read = read_spectrum("star.txt", content)
    np.testing.assert_allclose(read.wavelength, WAVELENGTH, rtol=1e-5)
    np.testing.assert_allclose(read.flux, FLUXES, rtol=1e-5)
    np.testing.assert_allclose(read.inverse_variance, 100 / FLUXES**2, rtol=1e-4)


def test_missing_values_are_masked():
    flux = FLUXES.copy()
    flux[:20], flux[50] = -999.0, 1e34
    read = read_spectrum("a", columns_of({"wave": WAVELENGTH, "flux": flux}))
    assert np.flatnonzero(read.mask).tolist() == [*range(20), 50]


BROKEN = {
    "empty file": b"",
    "truncated": lamost()[:20000],
    "no wavelengths": pilot(COEFF0=None),
    "no usable pixel": lamost(rows={1: 0}),
    "constant flux": lamost(rows={0: 7.0}),
    "too few pixels": one_dimensional(20),
    "no values along the axis": one_dimensional(CDELT1=0.0),
    "wavelengths not increasing": b"\n".join(b"%d 1.%d" % (4000 + k % 150, k) for k in range(200)),
    "wavelengths not in Angstrom": one_dimensional(CRVAL1=400.0, CDELT1=0.2),
    "wrong units": one_dimensional(CUNIT1="km/s"),
    "not FITS and not a table of two columns": b"<html>not found</html>",
    "no wavelength and flux column": b"a b c d\n" + 200 * b"1 2 3 4\n",
    "damaged text": b"4000 1\n4001 2\n4002\n",
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
