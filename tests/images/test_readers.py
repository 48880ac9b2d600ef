import contextlib
import gzip
import io
import zipfile

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from skyloom.images.readers import members_of, read_cut_out
from skyloom.raw_files import UnusableError
from skyloom.simulate.radio_galaxies import draw_truth, observe, to_hdu

RNG = np.random.default_rng(0)
TRUTH = draw_truth(1, RNG)
IMAGE = observe(TRUTH, RNG, size=30)[0]


def as_bytes(hdu):
    stream = io.BytesIO()
    fits.HDUList([hdu] if isinstance(hdu, fits.PrimaryHDU) else [fits.PrimaryHDU(), hdu]).writeto(
        stream, output_verify="silentfix"
    )
    return stream.getvalue()


def cut_out(**header):
    """A simulated cut-out as bytes; None takes a keyword away."""
    hdu = to_hdu(TRUTH.iloc[0], IMAGE)
    for key, value in header.items():
        if value is None:
            del hdu.header[key]
        else:
            hdu.header[key] = value
    return as_bytes(hdu)


def picture(image, kind="PNG", mode=None):
    stream = io.BytesIO()
    made = Image.fromarray(image)
    (made.convert(mode) if mode else made).save(stream, kind)
    return stream.getvalue()


# --- FITS -----------------------------------------------------------------------------------------


def test_a_cut_out_has_its_brightness_scale_and_position():
    read = read_cut_out("a.fits", cut_out())
    np.testing.assert_allclose(read.image, IMAGE, rtol=1e-5, atol=1e-6)
    assert (read.unit, read.layout, read.image.dtype) == ("mJy/beam", "FITS", np.float32)
    assert read.pixel_scale == pytest.approx(1.8)
    assert (read.ra, read.dec) == pytest.approx((180, 30), abs=1e-3)


@pytest.mark.parametrize(
    ("unit", "factor"), [("JY/BEAM", 1), ("Jy/beam", 1), ("mJy/beam", 1e-3), (None, 1), ("", 1)]
)
def test_units_become_millijansky_a_beam(unit, factor):
    read = read_cut_out("a.fits", cut_out(BUNIT=unit))
    np.testing.assert_allclose(read.image, IMAGE * factor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 30, 30), (1, 30, 30), (30, 30)])
def test_axes_of_one_pixel_are_dropped(shape):
    hdu = to_hdu(TRUTH.iloc[0], IMAGE)
    hdu.data = hdu.data.reshape(shape)
    if len(shape) == 4:
        hdu.header.update({"CTYPE3": "FREQ", "CRVAL3": 1.4e9, "CTYPE4": "STOKES", "CRVAL4": 1.0})
    read = read_cut_out("a.fits", as_bytes(hdu))
    assert read.image.shape == (30, 30)
    assert read.ra == pytest.approx(180, abs=1e-3)


def test_an_image_may_be_in_an_extension_and_gzipped():
    plain = to_hdu(TRUTH.iloc[0], IMAGE)
    content = as_bytes(fits.ImageHDU(plain.data, plain.header))
    for read in (read_cut_out("a.fits", content), read_cut_out("a.gz", gzip.compress(content))):
        assert read.pixel_scale == pytest.approx(1.8)


def test_what_was_not_observed_stays_so():
    hdu = to_hdu(TRUTH.iloc[0], IMAGE)
    hdu.data[:, :5] = np.nan
    assert np.isnan(read_cut_out("a.fits", as_bytes(hdu)).image[:, :5]).all()


@pytest.mark.parametrize("fill", [1e34, -np.inf, -999.0, 9999.0])
def test_numbers_that_stand_for_none_are_none(fill):
    hdu = to_hdu(TRUTH.iloc[0], IMAGE)
    hdu.data[:, :5] = fill
    read = read_cut_out("a.fits", as_bytes(hdu)).image
    assert np.isnan(read[:, :5]).all()
    assert np.isfinite(read[:, 5:]).all()


def test_blank_whole_numbers_are_none():
    counts = np.arange(900, dtype=np.int16).reshape(30, 30)
    counts[:3] = -32768
    hdu = fits.PrimaryHDU(counts)
    hdu.header["BLANK"] = -32768
    read = read_cut_out("a.fits", as_bytes(hdu)).image
    assert np.isnan(read[:3]).all()
    assert read[3, 1] == 91_000  # mJy/beam


@pytest.mark.parametrize("missing", ["CRVAL1", "CRVAL2", "CDELT1", "CDELT2"])
def test_a_wcs_without_a_value_or_a_step_tells_neither_scale_nor_position(missing):
    read = read_cut_out("a.fits", cut_out(**{missing: None}))
    assert np.isnan([read.pixel_scale, read.ra, read.dec]).all()


def test_a_matrix_stands_in_place_of_the_steps():
    header = {"CDELT1": None, "CDELT2": None}
    header |= {"CD1_1": 0.0, "CD1_2": 5e-4, "CD2_1": 5e-4, "CD2_2": 0.0}  # turned by 90 degrees
    read = read_cut_out("a.fits", cut_out(**header))
    assert read.pixel_scale == pytest.approx(1.8)
    assert (read.ra, read.dec) == pytest.approx((180, 30), abs=1e-3)


@pytest.mark.parametrize(
    "header",
    [
        {"CRVAL1": "180.0", "CRVAL2": " 30.0 ", "CDELT1": "-5.0D-04", "CDELT2": "5.0E-04"},
        {"CRVAL1": "12:00:00.0", "CRVAL2": "+30:00:00"},
    ],
)
def test_numbers_written_as_text_are_numbers(header):
    read = read_cut_out("a.fits", cut_out(**header))
    assert read.pixel_scale == pytest.approx(1.8)
    assert (read.ra, read.dec) == pytest.approx((180, 30), abs=1e-3)


def test_an_extension_inherits_the_axes_of_the_primary_as_a_whole():
    whole = to_hdu(TRUTH.iloc[0], IMAGE)
    primary, bare = fits.PrimaryHDU(header=whole.header), fits.ImageHDU(IMAGE * 1000)
    primary.header["BUNIT"] = "mJy/beam"
    stream = io.BytesIO()
    fits.HDUList([primary, bare]).writeto(stream)
    read = read_cut_out("a.fits", stream.getvalue())
    assert (read.ra, read.dec, read.pixel_scale) == pytest.approx((180, 30, 1.8), abs=1e-3)
    np.testing.assert_allclose(read.image, IMAGE * 1000, rtol=1e-5, atol=1e-3)

    bare.header.update({"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CRVAL1": 10.0})
    stream = io.BytesIO()
    fits.HDUList([primary, bare]).writeto(stream)
    assert np.isnan(read_cut_out("a.fits", stream.getvalue()).ra)


def test_a_file_without_wcs_has_no_position():
    read = read_cut_out("a.fits", as_bytes(fits.PrimaryHDU(IMAGE)))
    assert np.isnan([read.pixel_scale, read.ra, read.dec]).all()


# --- pictures -------------------------------------------------------------------------------------

COUNTS = RNG.integers(0, 256, (20, 24), np.uint8)


@pytest.mark.parametrize("mode", [None, "RGB", "RGBA"])
def test_pictures_are_counts(mode):
    read = read_cut_out("a.png", picture(COUNTS, mode=mode))
    np.testing.assert_array_equal(read.image, COUNTS)
    assert (read.unit, read.layout) == ("counts", "picture")


def test_a_picture_may_have_16_bits_or_be_a_jpeg():
    deep = COUNTS.astype(np.uint16) * 257
    np.testing.assert_array_equal(read_cut_out("a.png", picture(deep)).image, deep)
    smooth = np.tile(np.arange(24, dtype=np.uint8) * 10, (20, 1))
    assert np.abs(read_cut_out("a.jpg", picture(smooth, "JPEG")).image - smooth).max() < 8


# --- broken files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason", "value"),
    [
        (b"", "empty file", "0 bytes"),
        (b"<html>Service unavailable</html>", "not FITS and not a picture", "<html>Service un"),
        (cut_out(BUNIT="K"), "wrong units", "'K' is a temperature, expected mJy / beam"),
        (cut_out(CTYPE2="RA---TAN"), "wrong WCS", ""),
        (cut_out(CRVAL2=127.0), "impossible position", "CRVAL2 127"),
        (cut_out()[:4000], "truncated", ""),
        (picture(COUNTS)[:200], "unreadable", "OSError"),
        (as_bytes(fits.PrimaryHDU(np.zeros((3, 9, 9)))), "not a single image", "(3, 9, 9)"),
        (as_bytes(fits.PrimaryHDU(np.zeros((1, 9)))), "not a single image", "(1, 9)"),
        (as_bytes(fits.PrimaryHDU(np.zeros((9, 9)))), "empty image", "all pixels 0"),
        (as_bytes(fits.PrimaryHDU(np.full((9, 9), np.nan))), "empty image", "no finite pixel"),
        (as_bytes(fits.PrimaryHDU()), "FITS without an image", "no data"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(content, reason, value):
    with pytest.raises(UnusableError) as caught:
        read_cut_out("a", content)
    assert caught.value.reason == reason
    assert value in caught.value.value


@given(st.sampled_from([cut_out(), picture(COUNTS)]), st.data())
def test_damaged_bytes_give_an_image_or_the_reason(content, data):
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    with contextlib.suppress(UnusableError):
        assert read_cut_out("a", damaged).image.ndim == 2


# --- real files -----------------------------------------------------------------------------------


@pytest.fixture
def real_images(root):
    folder = root.parent / "shared" / "data" / "radio_galaxies"
    if not folder.is_dir():
        pytest.skip(f"real observations are not in {folder}")
    return folder


def test_real_fits_cut_outs_are_where_their_names_say(real_images):
    paths = sorted((real_images / "first_fits").glob("*.fits"))
    assert len(paths) == 54
    for path in paths:
        read = read_cut_out(path.name, path.read_bytes())
        assert read.image.shape == (300, 300)
        assert read.pixel_scale == pytest.approx(1.8, abs=1e-3)
        position = path.name.split("_")[1]
        assert read.ra == pytest.approx(float(position[:7]), abs=2e-3)
        assert read.dec == pytest.approx(float(position[7:]), abs=2e-3)
        assert 0.05 < np.nanmedian(np.abs(read.image)) < 0.3  # FIRST's noise, mJy/beam


def test_real_pictures_are_read_from_their_archive(real_images):
    with zipfile.ZipFile(real_images / "first_png" / "galaxy_data.zip") as archive:
        names = [name for name in archive.namelist() if "/test/" in name and name.endswith("png")]
        assert len(names) == 200
        for name in names[::20]:
            read = read_cut_out(name, archive.read(name))
            assert (read.image.shape, read.unit) == ((300, 300), "counts")


# --- archives and stacks --------------------------------------------------------------------------


def archive(**files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for name, content in files.items():
            # Of a fixed date: its bytes name a test, in every process.
            target.writestr(zipfile.ZipInfo(name.replace("__", "/")), content)
    return stream.getvalue()


def stack(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_an_archive_is_opened_to_its_files():
    content = archive(data__one=b"1", two=cut_out())
    members = members_of("a.zip", lambda: content)
    assert list(members) == ["a.zip/data/one", "a.zip/two"]
    assert members["a.zip/data/one"]() == b"1"
    assert read_cut_out("two", members["a.zip/two"]()).layout == "FITS"


@pytest.mark.parametrize("shape", [(3, 20, 24), (3, 20, 24, 1), (3, 1, 20, 24)])
def test_a_stack_is_opened_to_its_images(shape):
    images = np.random.default_rng(0).random(shape).astype(np.float32)
    members = members_of("folder/stack.npy", lambda: stack(images))
    assert list(members) == [f"folder/stack.npy/stack_{k}" for k in range(3)]
    found = read_cut_out("stack_1", members["folder/stack.npy/stack_1"]())
    assert (found.layout, found.unit) == ("npy", "counts")
    np.testing.assert_array_equal(found.image, images.reshape(3, 20, 24)[1])


def test_an_array_may_be_one_image():
    image = np.random.default_rng(0).random((20, 24))
    image[:4] = -999
    assert members_of("a.npy", lambda: stack(image)) is None
    read = read_cut_out("a.npy", stack(image)).image
    assert np.isnan(read[:4]).all()
    np.testing.assert_allclose(read[4:], image[4:], rtol=1e-6)


def test_other_files_are_not_even_read():
    assert members_of("a.fits", pytest.fail) is None


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.zip", b"PK no archive", "damaged archive"),
        ("a.zip", archive(one=b"1" * 99)[:60], "damaged archive"),
        ("a.npy", b"no array", "unreadable"),
        ("a.npy", stack(np.ones((2, 3, 4)))[:90], "unreadable"),
        ("a.npy", stack(np.ones(5)), "not a stack of images"),
        ("a.npy", stack(np.ones((2, 9, 9, 3))), "not a stack of images"),
        ("a.npy", stack(np.array([{}])), "unreadable"),
    ],
)
def test_damaged_archives_and_stacks_are_rejected_with_a_reason(name, content, reason):
    with pytest.raises(UnusableError) as caught:
        members_of(name, lambda: content)
    assert caught.value.reason == reason


@pytest.mark.parametrize("array", [np.ones((2, 2), complex), np.array([["a", "b"]] * 2)])
def test_an_array_that_is_no_image_is_rejected(array):
    with pytest.raises(UnusableError, match="not a single image"):
        read_cut_out("a", stack(array))
