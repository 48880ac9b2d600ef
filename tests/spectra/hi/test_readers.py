"""Readers of 21-cm spectra: every layout, and bytes that are no spectrum."""

import bz2
import gzip
import lzma
import re
import warnings
from io import BytesIO, StringIO

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from skyloom.raw_files import UnusableError
from skyloom.spectra.constants import REST_FREQUENCY, SPEED_OF_LIGHT
from skyloom.spectra.hi.readers import read_spectrum
from skyloom.spectra.hi.spectrum import Spectrum

VELOCITY = 1000 + 5.0 * np.arange(40)
FLUX = np.random.default_rng(1).normal(0, 3, 40)


def to_bytes(*hdus):
    buffer = BytesIO()
    fits.HDUList(list(hdus)).writeto(buffer)
    return buffer.getvalue()


def image(flux=FLUX, **cards):
    hdu = fits.PrimaryHDU(np.asarray(flux))
    hdu.header.update(cards)
    return to_bytes(hdu)


def velocity_image(flux=FLUX, **cards):
    axis = {"CTYPE1": "VELO", "CUNIT1": "km/s", "CRPIX1": 1.0, "CRVAL1": 1000.0, "CDELT1": 5.0}
    return image(flux, **axis | {"BUNIT": "mJy"} | cards)


def column(name, values, unit=None):
    return fits.Column(name, "D", unit, array=values)


def table(columns, **cards):
    hdu = fits.BinTableHDU.from_columns(columns, name="SINGLE DISH")
    hdu.header.update(cards)
    return to_bytes(fits.PrimaryHDU(), hdu)


def survey_table(velocity=VELOCITY, flux=FLUX, weight=None, flux_unit="mJy", **cards):
    return table(
        [
            column("VHELIO", velocity, "km/s"),
            column("FREQUENCY", REST_FREQUENCY / (1 + velocity / SPEED_OF_LIGHT), "MHz"),
            column("FLUX", flux, flux_unit),
            column("BASELINE", np.zeros(len(velocity)), flux_unit),
            column("WEIGHT", np.ones(len(velocity)) if weight is None else weight),
        ],
        **cards,
    )


def text(velocity=VELOCITY, flux=FLUX, *, head="", separator=" ", index=False):
    rows = (
        separator.join(([str(i)] if index else []) + [repr(float(v)), repr(float(s))])
        for i, (v, s) in enumerate(zip(velocity, flux, strict=True))
    )
    return (head + "\n".join(rows) + "\n").encode()


def assert_is(spectrum, layout, axis="velocity", velocity=VELOCITY, flux=FLUX, rtol=0.0):
    assert (spectrum.layout, spectrum.axis) == (layout, axis)
    np.testing.assert_allclose(spectrum.velocity, velocity, rtol=rtol or 1e-13)
    np.testing.assert_allclose(spectrum.flux, flux, rtol=rtol, atol=0)


def refusal(content, **units):
    with pytest.raises(UnusableError) as caught:
        read_spectrum("file", content, **units)
    assert caught.value.value
    assert str(caught.value) == f"{caught.value.reason}: {caught.value.value}"
    return caught.value.reason


# --- images --------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(40,), (1, 40), (1, 1, 40)], ids=str)
def test_velocity_images_of_every_shape_read_alike(shape):
    spectrum = read_spectrum("a.fits", velocity_image(FLUX.reshape(shape), OBJECT="CIG 7"))
    assert_is(spectrum, "image")
    assert spectrum.object_name == "CIG 7"
    assert np.isnan(spectrum.systemic_velocity)


@pytest.mark.parametrize("kind", ["VELO", "VELO-HEL", "VOPT", "FELO-HEL"])
def test_names_of_velocity_axes(kind):
    assert_is(read_spectrum("a.fits", velocity_image(CTYPE1=kind)), "image")


def test_descending_axis_is_turned_with_its_fluxes():
    content = velocity_image(FLUX[::-1], CRVAL1=VELOCITY[-1], CDELT1=-5.0)
    assert_is(read_spectrum("a.fits", content), "image")


def test_reference_pixel_need_not_be_the_first():
    content = velocity_image(CRPIX1=11.0, CRVAL1=1050.0)
    assert_is(read_spectrum("a.fits", content), "image")


def test_units_of_the_image_header_are_converted():
    content = velocity_image(FLUX / 1000, CUNIT1="m/s", CRVAL1=1e6, CDELT1=5e3, BUNIT="Jy")
    assert_is(read_spectrum("a.fits", content), "image", rtol=1e-12)


@pytest.mark.parametrize("unit", ["JY", "Jy/beam", "jy"])
def test_spellings_of_jansky(unit):
    spectrum = read_spectrum("a.fits", velocity_image(FLUX / 1000, BUNIT=unit))
    assert_is(spectrum, "image", rtol=1e-12)


def test_blank_units_of_the_header_are_those_given():
    content = velocity_image(FLUX / 1000, CUNIT1="", CRVAL1=1e6, CDELT1=5e3, BUNIT="")
    spectrum = read_spectrum("a.fits", content, velocity_unit="m/s", flux_unit="Jy")
    assert_is(spectrum, "image", rtol=1e-12)


@pytest.mark.parametrize("cards", [{}, {"CUNIT1": "Hz"}, {"CUNIT1": ""}], ids=str)
def test_frequency_axis_becomes_optical_velocity(cards):
    frequency = 1.41e9 + 25e3 * np.arange(40)
    content = image(FLUX, CTYPE1="FREQ", CRPIX1=1.0, CRVAL1=1.41e9, CDELT1=25e3, **cards)
    velocity = SPEED_OF_LIGHT * (1420.405751768e6 / frequency - 1)
    assert_is(
        read_spectrum("a.fits", content), "image", velocity=velocity[::-1], flux=FLUX[::-1],
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(40,), (1, 40)], ids=str)
def test_image_without_axis_is_in_channels(shape):
    spectrum = read_spectrum("a.fits", image(FLUX.reshape(shape)))
    assert_is(spectrum, "flux only", "channel", velocity=np.arange(40))


def test_masked_channels_are_nan_and_single_precision_is_exact():
    flux = FLUX.astype(np.float32)
    flux[[3, 7]] = np.nan, np.inf
    spectrum = read_spectrum("a.fits", velocity_image(flux))
    assert np.flatnonzero(~np.isfinite(spectrum.flux)).tolist() == [3, 7]
    assert np.isnan(spectrum.flux[[3, 7]]).all()
    np.testing.assert_array_equal(np.delete(spectrum.flux, [3, 7]), np.delete(flux, [3, 7]))


@pytest.mark.parametrize("blank", [1e30, -1e38, 1e300])
def test_blank_values_of_old_packages_are_masked(blank):
    flux = FLUX.copy()
    flux[4] = blank
    spectrum = read_spectrum("a.fits", velocity_image(flux))
    assert np.flatnonzero(np.isnan(spectrum.flux)).tolist() == [4]


# --- tables --------------------------------------------------------------------------------------
def test_survey_table_round_trip():
    spectrum = read_spectrum("a.fits", survey_table(OBJECT="AGC 12895", V21SYS=6746))
    assert_is(spectrum, "table")
    assert spectrum.object_name == "AGC 12895"
    assert spectrum.systemic_velocity == 6746


@pytest.mark.parametrize("written", ["6746", "unknown"])
def test_systemic_velocity_may_be_text(written):
    spectrum = read_spectrum("a.fits", survey_table(V21SYS=written))
    np.testing.assert_equal(spectrum.systemic_velocity, 6746.0 if written == "6746" else np.nan)


def test_zero_weights_and_nan_fluxes_are_masked():
    weight = np.ones(40)
    weight[[5, 6, 39]] = 0, -1, np.nan
    flux = FLUX.copy()
    flux[20] = np.nan
    spectrum = read_spectrum("a.fits", survey_table(flux=flux, weight=weight))
    assert np.flatnonzero(np.isnan(spectrum.flux)).tolist() == [5, 6, 20, 39]
    np.testing.assert_array_equal(spectrum.flux[7:20], FLUX[7:20])


def test_descending_table_is_turned_with_its_weights():
    weight = np.ones(40)
    weight[0] = 0
    content = survey_table(VELOCITY[::-1], FLUX[::-1], weight)
    spectrum = read_spectrum("a.fits", content)
    np.testing.assert_array_equal(spectrum.velocity, VELOCITY)
    np.testing.assert_array_equal(spectrum.flux, np.append(FLUX[:-1], np.nan))


def test_units_of_the_table_are_converted():
    content = table([column("velocity", VELOCITY * 1000, "m/s"), column("Flux", FLUX / 1000, "Jy")])
    assert_is(read_spectrum("a.fits", content), "table", rtol=1e-12)


def test_table_without_units_has_those_given():
    content = table([column("VELO", VELOCITY * 1000), column("FLUX", FLUX / 1000)])
    spectrum = read_spectrum("a.fits", content, velocity_unit="m/s", flux_unit="Jy")
    assert_is(spectrum, "table", rtol=1e-12)


def test_whole_spectrum_in_one_row():
    columns = [fits.Column(n, "40D", array=[a]) for n, a in [("VEL", VELOCITY), ("FLUX", FLUX)]]
    assert_is(read_spectrum("a.fits", table(columns)), "table")


# --- text ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("separator", [" ", "\t", ",", ";", "   "])
@pytest.mark.parametrize("head", ["", "velocity{}flux\n", "# v{}s\n", "# made by hand\n\n"])
def test_two_column_text_round_trip(separator, head):
    content = text(separator=separator, head=head.format(separator))
    assert_is(read_spectrum("a.txt", content), "text")


def test_csv_with_an_index_column():
    assert_is(
        read_spectrum("a.csv", text(separator=",", head=",velocity,flux\n", index=True)), "text"
    )


def test_columns_are_found_by_name():
    content = text(FLUX, VELOCITY, separator=";", head="Flux;VHELIO\n")
    assert_is(read_spectrum("a.csv", content), "text")


@pytest.mark.parametrize(
    ("head", "separator"),
    [
        ("velocity (m/s),flux (Jy)\n", ","),
        ('"velocity [m/s]";"flux [Jy]"\n', ";"),
        ("# velocity (m/s)  flux (Jy)\n", " "),
        ("# velocity [m s-1]  flux [Jy]\n", " "),
        ("# velocity(m/s) flux(Jy)\n", " "),
        ("velocity flux\nm/s Jy\n", " "),
        ("velocity,flux\n(m/s),(Jy)\n", ","),
    ],
)
def test_units_of_the_heading_are_converted(head, separator):
    content = text(VELOCITY * 1000, FLUX / 1000, head=head, separator=separator)
    assert_is(read_spectrum("a.txt", content), "text", rtol=1e-12)


def test_units_of_the_heading_beat_those_given():
    content = text(head="velocity (km/s),flux (mJy)\n", separator=",")
    assert_is(read_spectrum("a.csv", content, velocity_unit="m/s", flux_unit="Jy"), "text")


def test_text_without_units_has_those_given():
    content = text(VELOCITY * 1000, FLUX / 1000)
    spectrum = read_spectrum("a.txt", content, velocity_unit="m/s", flux_unit="Jy")
    assert_is(spectrum, "text", rtol=1e-12)


def test_words_of_a_comment_are_no_column_names():
    content = text(head="# The velocity is heliocentric and the flux is in mJy\n")
    assert_is(read_spectrum("a.txt", content), "text")


def test_comments_blank_lines_and_windows_line_ends():
    content = text(head="# one\n# two 2\n").replace(b"\n", b"\r\n") + b"\r\n# the end\r\n"
    assert_is(read_spectrum("a.txt", b"\xef\xbb\xbf" + content), "text")


def test_missing_values_of_text_are_masked():
    content = b"velocity,flux\n1,2\n2,\n3,nan\n4,5\n"
    spectrum = read_spectrum("a.csv", content)
    np.testing.assert_array_equal(spectrum.flux, [2, np.nan, np.nan, 5])


@pytest.mark.parametrize("content", [velocity_image(), survey_table(), text()], ids=["i", "t", "x"])
def test_gzip_is_unpacked(content):
    plain, packed = read_spectrum("a", content), read_spectrum("a.gz", gzip.compress(content))
    np.testing.assert_array_equal(plain.flux, packed.flux)
    np.testing.assert_array_equal(plain.velocity, packed.velocity)


# --- what files state, in every way in which they do ---------------------------------------------
def assert_values(spectrum, velocity=VELOCITY, flux=FLUX, convention=""):
    assert spectrum.convention == convention
    np.testing.assert_allclose(spectrum.velocity, velocity, rtol=1e-9)
    np.testing.assert_allclose(spectrum.flux, flux, rtol=1e-9)


RADIO = VELOCITY / (1 + VELOCITY / SPEED_OF_LIGHT)  # of the same frequencies


@pytest.mark.parametrize(
    ("head", "separator", "convention"),
    [
        ("#xLabel: Optical Velocity [km/s]\n#yLabel: [Jy] Flux Density\n", " ", "optical"),
        ("# CARTA\n# xLabel: Velocity (km/s)\n# yLabel: Flux density (Jy)\n# x\ty\n", "\t", ""),
        ("VHEL,FLUX_JY\n", ",", ""),
        ("vel_kms flux_Jy\n", " ", ""),
        ("velocity;flux\nKM/S;JY/BEAM\n", ";", ""),
        ("# Chan: one a line\n# the flux is in Jy, rms 3 mJy\n", " ", ""),
        ("# flux density unit = Jy\nvelocity flux\n", " ", ""),
    ],
)
def test_a_unit_counts_wherever_text_states_it(head, separator, convention):
    content = text(flux=FLUX / 1000, head=head, separator=separator)
    assert_values(read_spectrum("a.txt", content), convention=convention)


def test_ecsv_and_votable_state_their_units():
    from astropy.table import Table

    columns = Table({"velocity": VELOCITY * 1000, "flux": FLUX / 1000}, units=["m/s", "Jy"])
    for layout in ("ascii.ecsv", "votable"):
        buffer = BytesIO() if layout == "votable" else StringIO()
        columns.write(buffer, format=layout)
        content = buffer.getvalue()
        content = content if isinstance(content, bytes) else content.encode()
        assert_values(read_spectrum("a", content))


@pytest.mark.parametrize(
    "head",
    [
        "Scan: 12 NGC9999\n   OPTI-HEL      Ta\n  km/s-BARY     YY\n",
        "velocity (km/s) T (K)\n",
        "# yLabel: [K] Brightness temperature\n",
        "velocity Ta\n",
    ],
)
def test_antenna_temperatures_of_text_are_no_fluxes(head):
    assert refusal(text(head=head)) == "wrong units"


def test_units_that_contradict_each_other_are_refused():
    assert refusal(text(head="# flux in Jy\n# or is the flux in mJy\n")) == (
        "units contradict each other"
    )


def test_a_velocity_axis_without_a_unit_is_in_metres_per_second():
    axis = {"CTYPE1": "VELO-LSR", "CRPIX1": 1.0, "CRVAL1": 1e6, "CDELT1": 5000.0}
    assert_values(read_spectrum("a.fits", image(BUNIT="MJY", **axis)))


def test_velocities_beyond_that_of_light_are_refused():
    content = velocity_image(CUNIT1="km/s", CRVAL1=4e6, CDELT1=5e3)
    assert refusal(content) == "wrong velocity axis"


@pytest.mark.parametrize("cards", [{}, {"CDELT1": 1.0}, {"CDELT1": "1.0"}], ids=str)
def test_the_step_is_that_of_the_matrix(cards):
    axis = {"CTYPE1": "VELO", "CUNIT1": "KM/S", "CRPIX1": 1, "CRVAL1": "1000.0", "CD1_1": 5.0}
    assert_values(read_spectrum("a.fits", image(BUNIT="mJy", **axis, **cards)))


@pytest.mark.parametrize("axis", [1, 2, 3, 4])
def test_the_spectral_axis_may_be_any(axis):
    shape = [1, 1, 1, 1]
    shape[4 - axis] = 40
    kinds = iter(["RA---SIN", "DEC--SIN", "STOKES"])
    cards = {}
    for k in range(1, 5):
        velocity = k == axis
        kind, value, step = ("VOPT", 1e6, 5e3) if velocity else (next(kinds), 10.0, 0.1)
        cards |= {f"CTYPE{k}": kind, f"CRVAL{k}": value, f"CDELT{k}": step, f"CRPIX{k}": 1.0}
    spectrum = read_spectrum("a.fits", image(FLUX.reshape(shape), BUNIT="mJy", **cards))
    assert_values(spectrum, convention="optical")


@pytest.mark.parametrize("kind", ["VRAD", "VELO-LSR"])
def test_radio_velocities_become_optical_ones(kind):
    cards = {"CTYPE1": kind, "CUNIT1": "km/s", "VELREF": 257}
    content = velocity_image(CRVAL1=RADIO[0], CDELT1=(RADIO[-1] - RADIO[0]) / 39, **cards)
    spectrum = read_spectrum("a.fits", content)
    assert spectrum.convention == "radio"
    np.testing.assert_allclose(
        spectrum.velocity, VELOCITY, atol=0.1
    )  # the steps are not quite even


def test_radio_velocities_of_text_become_optical_ones():
    content = text(RADIO, head="# xLabel: Radio velocity (km/s)\n# yLabel: Flux (mJy)\n")
    assert_values(read_spectrum("a.tsv", content), convention="radio")


def test_axes_that_are_not_linear():
    """A spectrograph even in frequency whose axis is told in optical velocities."""
    frequency = np.linspace(1.42e9, 1.40e9, 40)
    velocity = SPEED_OF_LIGHT * (REST_FREQUENCY * 1e6 / frequency - 1)
    slope = -SPEED_OF_LIGHT * REST_FREQUENCY * 1e6 / frequency[0] ** 2 * np.diff(frequency)[0]
    content = velocity_image(
        CTYPE1="VOPT-F2W", CRVAL1=velocity[0], CDELT1=slope, RESTFRQ=REST_FREQUENCY * 1e6
    )
    assert_values(read_spectrum("a.fits", content), velocity, convention="optical")


def test_offsets_of_frequency_as_class_writes_them():
    rest, step = REST_FREQUENCY * 1e6, -5e3 / SPEED_OF_LIGHT * REST_FREQUENCY
    cards = {"CTYPE1": "FREQ", "CRVAL1": 0.0, "CDELT1": step * 1e3, "CRPIX1": 1.0}
    content = image(BUNIT="mJy", **cards, RESTFREQ=rest, **{"VELO-LSR": 1e6})
    radio = 1000 + 5.0 * np.arange(40)
    assert_values(
        read_spectrum("a.fits", content), radio / (1 - radio / SPEED_OF_LIGHT), convention="radio"
    )


@pytest.mark.parametrize(
    "names", [("vHI", "fHI"), ("FREQUENCY", "DATA"), ("VELOCITY", "DATA"), ("freq", "f_sum")]
)
def test_columns_as_surveys_call_them(names):
    frequency = names[0].lower().startswith("freq")
    axis = REST_FREQUENCY / (1 + VELOCITY / SPEED_OF_LIGHT) if frequency else VELOCITY
    units = "MHz" if frequency else "km/s"
    content = table([column(names[0], axis, units), column(names[1], FLUX / 1000, "Jy"),
                     column("bHI", np.zeros(40), "Jy")])  # fmt: skip
    assert_values(read_spectrum("a.fits", content), convention="frequency" * frequency)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3, 1e6])
def test_frequencies_without_a_unit_have_the_only_one_that_is_possible(factor):
    frequency = REST_FREQUENCY / (1 + VELOCITY / SPEED_OF_LIGHT) * factor
    content = text(frequency, head="frequency,flux\n", separator=",")
    assert_values(read_spectrum("a.csv", content), convention="frequency")


def single_dish(unit="Jy", n=1, **columns):
    frequency = np.linspace(1.40e9, 1.41e9, 40)
    values = {"CTYPE1": "FREQ-OBS", "CRVAL1": frequency[0], "CRPIX1": 1.0, "CDELT1": 1e7 / 39,
              "VFRAME": 0.0, "RESTFREQ": 1420405751.768, "OBJECT": "UGC 7"} | columns  # fmt: skip
    made = [fits.Column("DATA", "40D", unit, array=[FLUX / 1000] * n)]
    for name, value in values.items():
        kind = "16A" if isinstance(value, str) else "D"
        made.append(fits.Column(name, kind, array=[value] * n))
    return table(made), SPEED_OF_LIGHT * (REST_FREQUENCY * 1e6 / frequency - 1)


def test_a_row_of_sdfits_is_a_spectrum():
    content, velocity = single_dish()
    spectrum = read_spectrum("a.fits", content)
    assert spectrum.object_name == "UGC 7"
    assert_values(spectrum, velocity[::-1], FLUX[::-1], "frequency")


def test_observed_frequencies_are_moved_into_the_frame_of_velocities():
    content, velocity = single_dish(VFRAME=20e3)
    moved = read_spectrum("a.fits", content).velocity[::-1]
    np.testing.assert_allclose(moved - velocity, -20 * (1 + velocity / SPEED_OF_LIGHT), atol=0.01)


def test_several_spectra_or_temperatures_of_sdfits_are_refused():
    assert refusal(single_dish(n=2)[0]) == "not a single spectrum"
    assert refusal(single_dish(unit="K")[0]) == "wrong units"


def numbered(content):
    return "\n".join(f"{k} {line}" for k, line in enumerate(content.splitlines()))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: ("# Größe\n" + content).encode("latin-1"),
        lambda content: content.encode("utf-16"),
        lambda content: content.replace("e", "D").encode(),
        lambda content: content.replace(".", ",").encode(),
        lambda content: re.sub(r"(\S+) (\S+)", r'"\1";"\2"', content).encode(),
        lambda content: re.sub(r"(?m)$", " 0.5", content).encode(),
        lambda content: numbered(content).encode(),
        lambda content: bz2.compress(content.encode()),
        lambda content: lzma.compress(content.encode()),
    ],
    ids=["latin", "utf-16", "D", "comma", "quoted", "errors", "numbered", "bzip2", "xz"],
)  # fmt: skip
def test_text_of_any_hand(change):
    content = "\n".join(f"{v:.4e} {f:.4e}" for v, f in zip(VELOCITY, FLUX, strict=True))
    spectrum = read_spectrum("a.txt", change(content))
    np.testing.assert_allclose(spectrum.velocity, VELOCITY, rtol=1e-3)
    np.testing.assert_allclose(spectrum.flux, FLUX, rtol=1e-3)


def test_zero_weights_of_text_are_masked():
    weight = np.where(np.arange(40) == 7, 0.0, 1.0)
    rows = zip(VELOCITY, FLUX, weight, strict=True)
    content = "velocity,flux,weight\n" + "\n".join(f"{v},{f},{w}" for v, f, w in rows)
    spectrum = read_spectrum("a.csv", content.encode())
    assert np.flatnonzero(np.isnan(spectrum.flux)).tolist() == [7]


def test_a_block_of_numbers_that_stand_for_none_is_masked():
    flux = FLUX.copy()
    flux[:10] = -999.0
    flux[20] = -999.0  # a single one may be an observation
    assert np.isnan(read_spectrum("a.fits", velocity_image(flux)).flux).tolist() == [
        k < 10 for k in range(40)
    ]


@pytest.mark.parametrize("content", [velocity_image(), survey_table()], ids=["image", "table"])
def test_the_zeros_of_the_last_block_may_be_missing(content):
    with fits.open(BytesIO(content)) as hdus:
        end = hdus[-1].fileinfo()["datLoc"] + hdus[-1].size
    assert end % 2880
    whole = read_spectrum("a.fits", content)
    np.testing.assert_array_equal(read_spectrum("a.fits", content[:end]).flux, whole.flux)
    assert refusal(content[: end - 1]) == "truncated"


def test_a_refusal_says_what_was_found():
    with pytest.raises(UnusableError, match="a table of 40 rows with columns RA, TEMP"):
        read_spectrum("a", table([column("RA", VELOCITY), column("TEMP", FLUX)]))
    with pytest.raises(UnusableError, match="a PNG picture"):
        read_spectrum("a", b"\x89PNG\r\n\x1a\n" + bytes(99))


# --- what is refused -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"\x00\x01\x02" * 500, "not FITS and not a text table"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not FITS and not a text table"),
        (b"Dear colleague,\nplease find attached nothing.\n", "not FITS and not a text table"),
        (b"1\n2\n3\n", "not FITS and not a text table"),
        (gzip.compress(b""), "empty file"),
        (gzip.compress(text())[:-20], "unreadable"),
        (to_bytes(fits.PrimaryHDU()), "FITS without a spectrum"),
        (velocity_image()[:3100], "truncated"),
        (survey_table()[:-2000], "truncated"),
        (b"SIMPLE  = nonsense".ljust(2880), "damaged FITS"),
        (velocity_image(FLUX.reshape(4, 10)), "not a single spectrum"),
        (velocity_image(BUNIT="K"), "wrong units"),
        (velocity_image(BUNIT="parrots"), "wrong units"),
        (velocity_image(CUNIT1="Angstrom"), "wrong units"),
        (velocity_image(CTYPE1="RA---SIN", CUNIT1="deg"), "wrong units"),
        (velocity_image(CRVAL1="about 1000"), "no values along the axis"),
        (image(CTYPE1="VELO", CRVAL1=1000.0), "no values along the axis"),
        (image(CTYPE1="FREQ", CRVAL1=0.0, CDELT1=1e6), "wrong velocity axis"),
        (survey_table(flux_unit="K"), "wrong units"),
        (survey_table(np.where(VELOCITY > 1100, np.nan, VELOCITY)), "wrong velocity axis"),
        (table([column("VHELIO", VELOCITY), column("TEMP", FLUX)]), "no flux column"),
        (
            table(
                [fits.Column("VEL", "40D", array=[VELOCITY]), fits.Column("FLUX", "D", array=[1.0])]
            ),
            "columns differ in length",
        ),
        (text(head="velocity (km/s),flux (K)\n", separator=","), "wrong units"),
        (b"1 2\n3 4\n5\n", "damaged text"),
        (b"1 2\n3 4\n5 six\n", "damaged text"),
        (b"1 2\n3 4\n\xff\xfe 6\n", "damaged text"),
        (b"1,2,3,4\n4,5,6,7\n", "no velocity and flux column"),
        (b"a,b,c\n1,2,3\n4,5,6\n", "no velocity and flux column"),
        (b"nan 1\n2 3\n", "wrong velocity axis"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_spectrum_is_refused_with_the_reason(content, reason):
    assert refusal(content) == reason


@pytest.mark.parametrize("units", [{"velocity_unit": "parsec"}, {"flux_unit": "K"}], ids=str)
def test_units_given_must_be_of_velocity_and_flux(units):
    assert refusal(text(), **units) == "wrong units"


@pytest.mark.parametrize("size", [1, 9, 80, 2879, 2880, 3000])
@pytest.mark.parametrize("content", [velocity_image(), survey_table()], ids=["image", "table"])
def test_fits_cut_short_anywhere_is_refused(content, size):
    assert refusal(content[:size])


# --- any bytes at all ----------------------------------------------------------------------------
ORIGINALS = (
    velocity_image(),
    velocity_image(FLUX.astype(np.float32)[None]),
    image(FLUX, CTYPE1="FREQ", CRPIX1=1.0, CRVAL1=1.41e9, CDELT1=25e3),
    image(FLUX),
    survey_table(OBJECT="AGC 12895", V21SYS=6746),
    text(),
    text(separator=",", head=",velocity (km/s),flux (Jy)\n", index=True),
    text(separator=";", head="# v;s\n"),
    gzip.compress(text(), mtime=0),
)


@st.composite
def damaged(draw):
    """One of the originals with bytes changed, inserted, removed or cut off."""
    content = bytearray(draw(st.sampled_from(ORIGINALS)))
    printable = st.text("0123456789.=-+eE'TF/ naif,;\n#(", min_size=1, max_size=8)
    piece = st.binary(min_size=1, max_size=8) | printable.map(str.encode)
    for _ in range(draw(st.integers(1, 4))):
        # Most of the meaning is in the first cards of a header.
        end = draw(st.sampled_from([min(len(content), 900), len(content)]))
        at = draw(st.integers(0, end))
        deed = draw(st.sampled_from(["change", "change", "insert", "remove", "cut"]))
        if deed == "cut":
            del content[at:]
        elif deed == "remove":
            del content[at : at + draw(st.integers(1, 100))]
        else:
            new = draw(piece)
            content[at : at + len(new) * (deed == "change")] = new
    return bytes(content)


def assert_spectrum_or_refusal(content):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = read_spectrum("any", content)
        except UnusableError as error:
            result = error
    assert [str(warning.message) for warning in caught] == []
    if isinstance(result, Spectrum):
        assert result.velocity.shape == result.flux.shape
        assert result.velocity.ndim == 1
        assert np.isfinite(result.velocity).all()
        assert not np.isinf(result.flux).any()
    else:
        assert result.reason
        assert result.value


@given(damaged())
@settings(max_examples=400)
def test_damaged_files_give_a_spectrum_or_a_refusal(content):
    assert_spectrum_or_refusal(content)


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
@settings(max_examples=150)
def test_any_bytes_give_a_spectrum_or_a_refusal(content):
    assert_spectrum_or_refusal(content)
    assert_spectrum_or_refusal(b"SIMPLE  =" + content)
    assert_spectrum_or_refusal(b"\x1f\x8b" + content)


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("CRVAL1", 0.0), ("CDELT1", 1e308), ("CRPIX1", -1e300), ("CDELT1", 0.0),
        ("BSCALE", 1e300), ("OBJECT", 3), ("BUNIT", 7), ("CTYPE1", 3.5), ("CUNIT1", True),
    ],
)  # fmt: skip
def test_odd_values_of_cards_neither_warn_nor_crash(card, value):
    for kind in ("VELO", "FREQ"):
        assert_spectrum_or_refusal(velocity_image(**{"CTYPE1": kind, card: value}))


# --- real files ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("file", "layout", "object_name", "size", "systemic"),
    [
        ("gbt/AGC1993.fits", "table", "1993", 8192, np.nan),
        ("gbt/AGC501715.fits", "table", "3C218", 32768, np.nan),
        ("alfalfa/A012895.fits", "table", "AGC 12895", 1024, 6746),
        ("fast/8081-3704_FASTfinal.csv", "text", "", None, np.nan),
    ],
)
def test_real_files_of_each_layout(real_observations, file, layout, object_name, size, systemic):
    spectrum = read_spectrum(file, (real_observations / file).read_bytes())
    assert (spectrum.layout, spectrum.axis) == (layout, "velocity")
    assert spectrum.object_name == object_name
    assert len(spectrum.velocity) == (size or len(spectrum.velocity))
    np.testing.assert_equal(spectrum.systemic_velocity, systemic)
    assert (np.diff(spectrum.velocity) > 0).all()
    assert np.isfinite(spectrum.flux).mean() > 0.5


def test_real_values_are_those_of_the_file(real_observations):
    content = (real_observations / "fast/8081-3704_FASTfinal.csv").read_bytes()
    first = content.decode().splitlines()[1].split(",")
    fast = read_spectrum("a.csv", content)
    assert (fast.velocity[0], fast.flux[0]) == (float(first[1]), float(first[2]))
    path = real_observations / "alfalfa/A012895.fits"
    with fits.open(path) as hdus:
        row = hdus[1].data[np.argmin(np.abs(hdus[1].data["VHELIO"] - 6746))]
        velocity, flux = row["VHELIO"], row["FLUX"]
    alfalfa = read_spectrum("a.fits", path.read_bytes())
    assert alfalfa.flux[alfalfa.velocity == velocity].tolist() == [flux]
