"""Bytes of files: unpacked, whole or truncated, and described where nobody can read them."""

import bz2
import gzip
import io
import lzma

import numpy as np
import pytest
from astropy.io import fits

from skyloom.raw_files import RawFile, Reader, UnusableError, read_file
from skyloom.raw_files.files import contents_of, unpacked

TEXT = Reader("text", lambda file: file.content.startswith(b"text"), lambda file: file.content)
NEVER = Reader("nothing", lambda file: False, None)


def as_bytes(*hdus):
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(stream)
    return stream.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files_are_unpacked(pack):
    assert read_file("a", pack(b"text"), [TEXT], expected=("", "")) == b"text"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_damaged_compression_is_a_reason(pack):
    with pytest.raises(UnusableError, match="unreadable"):
        read_file("a", pack(b"text" * 99)[:-12], [TEXT], expected=("", ""))


def test_a_compression_of_old_is_named():
    with pytest.raises(UnusableError, match=r"compressed by compress \(\.Z\)"):
        unpacked(b"\x1f\x9d\x90")


def test_zeros_that_fill_the_last_block_may_be_left_out():
    whole = as_bytes(fits.ImageHDU(np.arange(10.0)))
    cut = whole[: whole.rindex(b"\x40\x22") + 8]  # 9.0 is the last number
    assert len(cut) < len(whole)
    np.testing.assert_array_equal(RawFile("a", cut).image_hdu.data, np.arange(10.0))
    with pytest.raises(UnusableError, match=r"truncated: \d+ bytes of at least \d+, in HDU 1"):
        _ = RawFile("a", cut[:-1]).hdus


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (as_bytes(fits.ImageHDU(np.zeros((3, 4)))), "no data; an image of shape (3, 4)"),
        (
            as_bytes(fits.BinTableHDU.from_columns([fits.Column("FREQ", "E", array=[1.0, 2.0])])),
            "no data; a table of 2 rows with columns FREQ",
        ),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"PK\x03\x04", "a ZIP archive or an Excel file"),
        (b"Dear colleague,\nplease find", "text that begins 'Dear colleague,'"),
        (b"\x00\x01\x02", r"bytes that begin b'\x00\x01\x02'"),
    ],
)
def test_what_nobody_can_read_is_described(content, words):
    with pytest.raises(UnusableError) as caught:
        read_file("a", content, [NEVER], expected=("a spectrum", "a table"))
    assert caught.value.value == words == contents_of(RawFile("a", content))
    kind = "FITS without a spectrum" if content.startswith(b"SIMPLE") else "not FITS and not a"
    assert caught.value.reason.startswith(kind)


def test_an_extension_has_the_cards_of_the_primary_that_it_does_not_have_itself():
    primary = fits.PrimaryHDU()
    primary.header.update({"CTYPE1": "VELO", "CRVAL1": 5.0, "BUNIT": "mJy", "OBJECT": "NGC 7"})
    bare, own = fits.ImageHDU(np.zeros(4)), fits.ImageHDU(np.zeros(4))
    own.header.update({"CTYPE1": "FREQ", "BUNIT": "Jy"})
    headers = []
    for image in (bare, own):
        stream = io.BytesIO()
        fits.HDUList([primary, image]).writeto(stream)
        headers.append(RawFile("a", stream.getvalue()).image_header)
    assert [header["CTYPE1"] for header in headers] == ["VELO", "FREQ"]
    assert [header["BUNIT"] for header in headers] == ["mJy", "Jy"]
    assert [header["OBJECT"] for header in headers] == ["NGC 7"] * 2
    assert ["CRVAL1" in header for header in headers] == [True, False]
