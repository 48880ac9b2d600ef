"""FITSDataset."""

import gzip
import os

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from kedro.io import DatasetError
from kedro_datasets.partitions import PartitionedDataset

from skyloom.datasets import FITSDataset, FITSImage

PIXELS = np.arange(12, dtype=">f4").reshape(3, 4)


@pytest.fixture
def dataset(tmp_path):
    return FITSDataset(filepath=tmp_path / "a.fits")


@pytest.fixture
def table():
    table = Table({"flux": [1.0, 2.0, 3.0], "name": ["a", "bc", "d"], "lines": np.ones((3, 5))})
    table["flux"].unit = "mJy"
    table["velocity"] = MaskedColumn([1, 2, 3], mask=[False, True, False])
    table.meta["OBJECT"] = "CIG 1"
    return table


def with_hdu(dataset, hdu):
    return FITSDataset(filepath=dataset._filepath, load_args={"hdu": hdu})


@pytest.mark.parametrize("dtype", ["u1", ">i2", ">u2", ">i4", ">i8", ">f4", "<f8"])
def test_array(dataset, dtype):
    dataset.save(PIXELS.astype(dtype))
    loaded = dataset.load()
    assert np.array_equal(loaded.data, PIXELS)
    assert loaded.data.dtype == np.dtype(dtype).newbyteorder("=")
    assert loaded.data.flags.writeable


def test_image_keeps_its_header(dataset):
    header = fits.Header({"OBJECT": "CIG 1", "CRVAL1": 1.5})
    header.comments["CRVAL1"] = "km/s"
    dataset.save(FITSImage(PIXELS, header))
    data, loaded = dataset.load()
    dataset.save(FITSImage(data * 2, loaded))
    data, loaded = dataset.load()
    assert np.array_equal(data, PIXELS * 2)
    assert (loaded["OBJECT"], loaded["CRVAL1"], loaded.comments["CRVAL1"]) == ("CIG 1", 1.5, "km/s")


@pytest.mark.parametrize("card", [b"APNUM1  = 1 0", b"COMMENT a\ttab"])
def test_header_against_the_standard(dataset, tmp_path, card):
    dataset.save(FITSImage(PIXELS, fits.Header({"FILLER": "x"})))
    content = (tmp_path / "a.fits").read_bytes()
    start = content.index(b"FILLER")
    (tmp_path / "a.fits").write_bytes(
        content[:start] + card.ljust(80) + content[start + 80 :],
    )
    strict = FITSDataset(filepath=tmp_path / "b.fits", save_args={"output_verify": "exception"})
    with pytest.raises(DatasetError, match="Verification reported errors"):
        strict.save(dataset.load())
    dataset.save(dataset.load())
    assert np.array_equal(dataset.load().data, PIXELS)
    assert card.split()[0].decode() in dataset.load().header


def test_scaled_image_is_saved_as_loaded(dataset, tmp_path):
    dataset.save(fits.ImageHDU(PIXELS.astype("i2"), fits.Header({"BLANK": 5, "EXTNAME": "SCI"})))
    with fits.open(tmp_path / "a.fits", mode="update", do_not_scale_image_data=True) as hdus:
        hdus[1].header.update(BSCALE=2.0, BZERO=1.0)
    scaled = dataset.load()
    dataset.save(scaled)
    assert scaled.data[0].tolist() == [1, 3, 5, 7]
    assert np.isnan(scaled.data[1, 1])
    assert np.array_equal(dataset.load().data, scaled.data, equal_nan=True)


def test_table(dataset, table):
    dataset.save(table)
    loaded = dataset.load()
    assert loaded.colnames == table.colnames
    assert all(column.dtype.isnative for column in loaded.itercols())
    assert loaded["flux"].unit == "mJy"
    assert loaded["name"].tolist() == ["a", "bc", "d"]
    assert loaded["lines"].shape == (3, 5)
    assert loaded["velocity"].tolist() == [1, None, 3]
    assert loaded.meta["OBJECT"] == "CIG 1"
    dataset.save(loaded)
    assert dataset.load().meta == loaded.meta


def test_choice_of_hdu(dataset, table):
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(PIXELS, name="FLUX"), fits.table_to_hdu(table)]
    dataset.save(fits.HDUList(hdus))
    assert np.array_equal(dataset.load().data, PIXELS)
    assert with_hdu(dataset, "FLUX").load().header["EXTNAME"] == "FLUX"
    assert len(with_hdu(dataset, 2).load()) == 3
    with pytest.raises(DatasetError, match=r"a\.fits .* HDU PRIMARY holds no data"):
        with_hdu(dataset, 0).load()
    for wanted in (3, "IVAR"):
        with pytest.raises(DatasetError, match=r"there are: 0 PRIMARY, 1 FLUX, 2"):
            with_hdu(dataset, wanted).load()


def test_all_hdus_are_in_memory(dataset):
    ragged = np.empty(2, object)
    ragged[:] = [np.ones(2, "f4"), np.ones(3, "f4")]
    hdus = [fits.PrimaryHDU(PIXELS), fits.table_to_hdu(Table({"ragged": ragged}))]
    dataset.save(fits.HDUList(hdus))
    loaded = with_hdu(dataset, None).load()
    os.remove(dataset._filepath)
    assert np.array_equal(loaded[0].data, PIXELS)
    assert [len(row) for row in loaded[1].data["ragged"]] == [2, 3]
    dataset.save(loaded)
    assert np.array_equal(dataset.load().data, PIXELS)


def test_nothing_to_load(dataset):
    dataset.save(fits.PrimaryHDU())
    with pytest.raises(DatasetError, match=r"a\.fits .* none of its HDUs holds data"):
        dataset.load()


@pytest.mark.filterwarnings("ignore:File may have been truncated")
@pytest.mark.parametrize("size", [2880, 3000, 2880 * 13])
@pytest.mark.parametrize("hdu", [0, None])
def test_truncated(dataset, size, hdu):
    dataset.save(np.ones((100, 100)))
    os.truncate(dataset._filepath, size)
    with pytest.raises(DatasetError, match=r"a\.fits cannot be loaded"):
        with_hdu(dataset, hdu).load()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (np.zeros(3, bool), "cannot hold numbers of type 'bool'"),
        (np.zeros(3, object), "cannot hold numbers of type 'object'"),
        ({"a": 1}, "cannot save a dict"),
    ],
)
def test_what_fits_cannot_hold(dataset, data, reason):
    with pytest.raises(DatasetError, match=reason):
        dataset.save(data)
    assert not dataset.exists()


def test_compressed(tmp_path):
    dataset = FITSDataset(filepath=tmp_path / "a.fits.gz", save_args={"checksum": True})
    dataset.save(PIXELS)
    assert gzip.decompress((tmp_path / "a.fits.gz").read_bytes()).startswith(b"SIMPLE")
    assert np.array_equal(dataset.load().data, PIXELS)
    assert "CHECKSUM" in dataset.load().header


def test_remote(memory):
    dataset = FITSDataset(filepath="memory:///sky/a.fits")
    dataset.save(PIXELS)
    assert dataset.exists()
    assert np.array_equal(dataset.load().data, PIXELS)
    assert memory.ls("/sky", detail=False) == ["/sky/a.fits"]


def test_partitions(tmp_path):
    partitions = PartitionedDataset(
        path=str(tmp_path / "spectra"),
        filename_suffix=".fits",
        dataset={"type": "skyloom.datasets.FITSDataset", "load_args": {"hdu": 0}},
    )
    partitions.save({f"{i:03}": np.full(3, i) for i in range(50)})
    (tmp_path / "spectra" / "013.fits").write_bytes(b"")
    loaded = partitions.load()
    assert len(loaded) == 50
    assert loaded["012"]().data.tolist() == [12, 12, 12]
    with pytest.raises(DatasetError, match=r"013\.fits"):
        loaded["013"]()
    assert "FITSDataset" in repr(partitions)


WAVELENGTH = {"CTYPE1": "WAVE", "CUNIT1": "Angstrom", "CRVAL1": 4000.0, "CDELT1": 2.0}


@pytest.mark.parametrize(
    "data",
    [
        PIXELS,
        np.zeros((5, 5)),
        np.full((5, 5), np.nan),
        np.ones((2, 3, 4, 5), ">i2"),
        FITSImage(np.arange(50.0), fits.Header(WAVELENGTH)),
        FITSImage(np.arange(50.0).reshape(1, 50), fits.Header(WAVELENGTH)),
        FITSImage(np.arange(5.0), fits.Header({"CTYPE1": "RA---TAN", "CRVAL1": 1.0})),
        np.ones(1),
    ],
)
@pytest.mark.parametrize("load_args", [{}, {"hdu": None}])
def test_preview_of_images(dataset, data, load_args, in_viz, pixels_of):
    dataset.save(data)
    preview, kind = in_viz(FITSDataset(filepath=dataset._filepath, load_args=load_args))
    assert kind == "ImagePreview"
    assert np.ptp(pixels_of(preview)) > 0.5


def test_preview_of_a_table(dataset, table, in_viz, pixels_of):
    dataset.save(table)
    preview, kind = in_viz(dataset)
    assert kind == "ImagePreview"
    assert np.ptp(pixels_of(preview)) > 0.5


@pytest.mark.parametrize("shape", [(50,), (1, 50), (50, 1, 1)])
def test_axis_of_a_spectrum(dataset, shape):
    from skyloom.datasets.fits import _axis

    keywords = {key.replace("1", str(len(shape))): value for key, value in WAVELENGTH.items()}
    header = fits.Header(keywords if shape[0] == 50 else WAVELENGTH)
    dataset.save(FITSImage(np.ones(shape), header))
    values, label = _axis(dataset.load())
    np.testing.assert_allclose(values, (4000 + 2 * (np.arange(50) + 1)) * 1e-10)
    assert label == "WAVE (m)"
