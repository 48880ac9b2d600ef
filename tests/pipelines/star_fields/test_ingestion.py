"""Images and catalogues as they come: laid on each other, or refused with the reason."""

import gzip
import io

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from skyloom.images.sky import (
    CATALOGUE,
    OVERLAY,
    PIXEL_MASK,
    published_hdus,
    read_sky_image,
)
from skyloom.pipelines.star_fields.ingestion import (
    FIELD_COLUMNS,
    STAR_COLUMNS,
    TILE_COLUMNS,
    cut_tiles,
    ingest_fields,
)
from skyloom.pipelines.star_fields.parameters import IngestionParameters
from skyloom.raw_files import NothingUsableError
from skyloom.simulate.star_fields import draw_fields, observe_field, to_hdus

NO_LABELS = pd.DataFrame()
SIZE = 128
PARAMETERS = IngestionParameters(tile=64)
QUIET = {"photographic_share": 0.0, "artefact_share": 0.0, "nebulosity_share": 0.0}
FIELD = draw_fields(
    1, np.random.default_rng(2), density_range=(4, 4), fwhm_range=(2.5, 2.5), cluster_share=0.0,
    **QUIET,
).iloc[0]  # fmt: skip
SEEN = observe_field(FIELD, np.random.default_rng(1), size=SIZE)


def hdus(*, ra=150.0, dec=20.0, offset=0.0, seed=0, **options):
    rng = np.random.default_rng(seed)
    return to_hdus(SEEN, rng, ra=ra, dec=dec, offset=offset, **options)


def as_bytes(made):
    stream = io.BytesIO()
    made.writeto(stream)
    return stream.getvalue()


def image_alone(made):
    return as_bytes(fits.HDUList([made[0]]))


def csv(made, **names):
    table = Table(made[1].data).to_pandas().rename(columns=names)
    return table.to_csv(index=False).encode()


def ingest(files, labels=NO_LABELS, parameters=PARAMETERS):
    found = ingest_fields({name: (lambda c=c: c) for name, c in files.items()}, labels, parameters)
    fields, stars, sample, pixels, _ = found
    assert tuple(fields.columns) == FIELD_COLUMNS
    assert tuple(stars.columns) == STAR_COLUMNS
    assert tuple(sample.columns) == TILE_COLUMNS
    assert pixels.shape == (len(sample), parameters.tile, parameters.tile)
    return found


def test_a_made_up_field_is_laid_on_its_catalogue():
    made = hdus(offset=2.0, seed=3)
    fields, stars, sample, pixels, rejected = ingest({"a.fits": as_bytes(made)})
    field = fields.iloc[0]
    assert field["usable"], field["reason"]
    assert rejected.empty
    assert field["fwhm"] == pytest.approx(2.5, rel=0.15)
    assert field["pixel_scale"] == pytest.approx(1.0)
    assert (field["ra"], field["dec"]) == pytest.approx((150, 20), abs=1e-3)
    assert field["epoch"] == pytest.approx(1990, abs=0.01)
    assert field["excess"] > 0.7
    # The offset of the catalogue is found within its error, and taken away.
    bright = stars[stars["snr"] > 30]
    truth = SEEN.stars[["x", "y", "snr"]].to_numpy()
    apart = [np.hypot(*(truth[:, :2] - place).T).min() for place in bright[["x", "y"]].to_numpy()]
    assert np.median(apart) < 0.25
    assert field["offset_error"] < 0.1
    assert len(sample) == 4
    assert np.isfinite(pixels).all()


def test_the_snr_of_a_star_is_that_of_the_simulation():
    """In a sparse field: in a crowd, stars that nobody can see are a part of the noise."""
    field = FIELD.copy()
    field["density"] = 0.4
    seen = observe_field(field, np.random.default_rng(1), size=320)
    made = to_hdus(seen, np.random.default_rng(0), ra=150.0, dec=20.0, offset=0.0)
    _, stars, *_ = ingest({"a.fits": as_bytes(made)})
    truth = seen.stars[seen.stars["snr"].between(8, 80)]
    ratio = []
    for star in truth.itertuples():
        near = stars[np.hypot(stars["x"] - star.x, stars["y"] - star.y) < 0.5]
        if len(near) == 1:
            ratio.append(near["snr"].iloc[0] / star.snr)
    assert len(ratio) > 10
    assert np.median(ratio) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    "layout",
    ["in the file", "csv", "other names", "fits table", "gzipped", "beside another"],
)
def test_a_catalogue_may_be_anywhere_and_of_any_layout(layout):
    made = hdus()
    files = {"a.fits": image_alone(made)}
    if layout == "in the file":
        files = {"a.fits": as_bytes(made)}
    elif layout == "csv":
        files["a.csv"] = csv(made)
    elif layout == "other names":
        files["a_cat.tsv"] = csv(made, ra="RAJ2000", dec="DEJ2000", magnitude="Gmag")
    elif layout == "fits table":
        files["stars.fits"] = as_bytes(fits.HDUList([fits.PrimaryHDU(), made[1]]))
    elif layout == "gzipped":
        files = {"a.fits.gz": gzip.compress(as_bytes(made))}
    else:
        files["a.csv"] = csv(made)
        files["b.csv"] = b"ra,dec,magnitude\n10,10,15\n"
    fields, *_ = ingest(files)
    assert fields["usable"].all(), fields["reason"].tolist()
    assert fields["n_stars"].iloc[0] > 30


def test_published_files_are_written_and_read():
    made = hdus()
    stars = Table(made[1].data).to_pandas()
    mask = np.zeros((SIZE, SIZE))
    mask[10:14, 10:14] = 1
    published = published_hdus(SEEN.image, made[0].header, stars, mask)
    assert [hdu.name for hdu in published] == ["PRIMARY", CATALOGUE, OVERLAY, PIXEL_MASK]
    fields, *_ = ingest({"a.fits": as_bytes(published)})
    assert fields["usable"].all()
    # The pixel mask says where stars are, not what is bad.
    read = read_sky_image("a.fits", as_bytes(published))
    assert np.isfinite(read.image).all()
    np.testing.assert_array_equal(published[OVERLAY].data[10:14, 10:14], SEEN.image.max())


def test_positions_move_to_the_epoch_of_the_image():
    made = hdus()
    table = Table(made[1].data).to_pandas()
    table["pmra"], table["pmdec"] = 200.0, -100.0  # mas/yr: 2 and 1 arcsec in ten years
    years = 2000.0 - 1990.0
    table["ra"] += table["pmra"] * years / 3.6e6 / np.cos(np.radians(table["dec"]))
    table["dec"] += table["pmdec"] * years / 3.6e6
    files = {"a.fits": image_alone(made), "a.csv": table.to_csv(index=False).encode()}
    fields, *_ = ingest(files)
    assert np.hypot(fields["dx"], fields["dy"]).iloc[0] < 0.3
    without, *_ = ingest(files | {"a.csv": table.drop(columns="pmra").to_csv(index=False).encode()})
    assert np.hypot(without["dx"], without["dy"]).iloc[0] > 1.5


def test_a_catalogue_of_elsewhere_does_not_belong_to_the_image():
    made = hdus()
    table = Table(made[1].data).to_pandas()
    rng = np.random.default_rng(0)
    table["ra"] = 150 + rng.uniform(-0.5, 0.5, len(table)) * SIZE / 3600
    table["dec"] = 20 + rng.uniform(-0.5, 0.5, len(table)) * SIZE / 3600
    fields, stars, sample, *_ = ingest(
        {"a.fits": image_alone(made), "a.csv": table.to_csv(index=False).encode()}
    )
    assert not fields["usable"].any()
    assert "does not belong to the image" in fields["reason"].iloc[0]
    assert stars.empty
    assert sample.empty


BARE = fits.PrimaryHDU(SEEN.image)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (fits.PrimaryHDU(np.full((64, 64), np.nan, np.float32)), "nothing in the image"),
        (fits.PrimaryHDU(np.zeros((64, 64), np.float32)), "nothing in the image"),
        (BARE, "no WCS of the sky"),
    ],
    ids=["all NaN", "all the same", "no WCS"],
)
def test_an_image_without_known_stars_has_a_reason(image, reason):
    fields, stars, *_ = ingest({"a.fits": as_bytes(fits.HDUList([image]))})
    assert reason in fields["reason"].iloc[0]
    assert stars.empty


def test_what_a_catalogue_does_not_cover_is_not_asked_of():
    made = hdus()
    wide = np.tile(SEEN.image, (1, 3))
    files = {"a.fits": as_bytes(fits.HDUList([fits.PrimaryHDU(wide, made[0].header)]))}
    files["a.csv"] = csv(made)
    fields, stars, sample, pixels, _ = ingest(files)
    assert fields["usable"].all()
    assert sample["x0"].max() <= SIZE
    assert stars["x"].max() < SIZE + 20
    # The outline of the stars is a little less than the square that they fill.
    assert np.isfinite(pixels[(sample["x0"] < 64).to_numpy()]).mean() > 0.93


def test_what_is_neither_image_nor_catalogue_is_rejected():
    fields, *_, rejected = ingest({"a.fits": as_bytes(hdus()), "README": b"Fields of last night."})
    assert len(fields) == 1
    assert rejected["file"].tolist() == ["README"]
    with pytest.raises(NothingUsableError):
        ingest_fields({"README": lambda: b"Fields"}, NO_LABELS, PARAMETERS)


def test_fields_that_overlap_or_are_of_one_plate_are_one_group():
    files = {
        "a.fits": as_bytes(hdus()),
        "b.fits": as_bytes(hdus(dec=20.01, seed=1)),
        "c.fits": as_bytes(hdus(ra=200.0, seed=2)),
        "d.fits": as_bytes(hdus(ra=300.0, seed=3)),
    }
    fields, _, sample, *_ = ingest(files)
    assert fields["group"].tolist() == ["a", "a", "c", "d"]
    assert set(sample.loc[sample["field"] == "b", "group"]) == {"a"}
    labels = pd.DataFrame({"id": ["c", "d"], "plate": ["p1", "p1"]})
    fields, *_ = ingest(files, labels)
    assert fields["group"].tolist() == ["a", "a", "c", "c"]


@pytest.mark.parametrize(("shape", "n"), [((128, 128), 4), ((130, 70), 2), ((40, 50), 1)])
def test_tiles_do_not_overlap_and_small_images_are_one(shape, n):
    tiles = cut_tiles(np.ones(shape, np.float32), 64, 0.5)
    assert len(tiles) == n
    assert len({(x, y) for x, y, _ in tiles}) == n
    assert all(tile.shape == (64, 64) for *_, tile in tiles)


def test_tiles_without_data_are_left_out():
    image = np.ones((64, 128), np.float32)
    image[:, :64] = np.nan
    assert [x for x, *_ in cut_tiles(image, 64, 0.5)] == [64]


# --- images as telescopes write them --------------------------------------------------------------
def header():
    return hdus()[0].header


@pytest.mark.parametrize(
    "make",
    [
        lambda: fits.HDUList([fits.PrimaryHDU(SEEN.image, header())]),
        lambda: fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(SEEN.image, header())]),
        lambda: fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(SEEN.image, header())]),
        lambda: fits.HDUList([fits.PrimaryHDU(SEEN.image[None], header())]),
        lambda: fits.HDUList(
            [fits.PrimaryHDU(header=header()), fits.ImageHDU(SEEN.image, name="SCI")]
        ),
        lambda: fits.HDUList(
            [fits.PrimaryHDU(), fits.ImageHDU(np.zeros((SIZE, SIZE), np.uint8), name="MASK"),
             fits.ImageHDU(SEEN.image, header())]
        ),
    ],
    ids=["primary", "extension", "compressed", "one plane", "inherited WCS", "mask first"],
)  # fmt: skip
def test_an_image_is_found_wherever_it_is(make):
    read = read_sky_image("a.fits", as_bytes(make()))
    assert read.image.shape == (SIZE, SIZE)
    assert read.centre == pytest.approx((150, 20), abs=1e-3)
    assert read.saturation == pytest.approx(SEEN.saturation)


def test_masks_and_variances_take_pixels_out():
    mask, variance = np.zeros((SIZE, SIZE), np.int32), np.ones((SIZE, SIZE), np.float32)
    mask[3, 4], variance[5, 6] = 1, 0
    planes = [fits.ImageHDU(mask, name="DQ"), fits.ImageHDU(variance, name="VARIANCE")]
    read = read_sky_image("a", as_bytes(fits.HDUList([fits.PrimaryHDU(SEEN.image), *planes])))
    assert np.argwhere(np.isnan(read.image)).tolist() == [[3, 4], [5, 6]]


def test_a_mask_that_says_where_stars_were_found_hides_none():
    mask = np.zeros((SIZE, SIZE), np.int32)
    mask[3, 4], mask[7, 8] = 1 << 5, 1 << 0
    plane = fits.ImageHDU(mask, name="MASK")
    plane.header.update({"MP_BAD": 0, "HIERARCH MP_DETECTED": 5})
    read = read_sky_image("a", as_bytes(fits.HDUList([fits.PrimaryHDU(SEEN.image), plane])))
    assert np.argwhere(np.isnan(read.image)).tolist() == [[7, 8]]


@pytest.mark.parametrize(
    ("cards", "epoch"),
    [
        ({"DATE-OBS": "1994-05-13T06:60:00"}, 1994.36),
        ({"DATE-OBS": "26/10/92"}, 1992.82),
        ({"MJD-OBS": 58334.4}, 2018.59),
        ({"DATE-OBS": "unknown"}, np.nan),
    ],
)
def test_the_epoch_is_told_in_any_way(cards, epoch):
    hdu = fits.PrimaryHDU(SEEN.image)
    hdu.header.update(cards)
    read = read_sky_image("a", as_bytes(fits.HDUList([hdu])))
    assert read.epoch == pytest.approx(epoch, abs=0.01, nan_ok=True)


def test_saturation_shows_as_a_plateau_where_no_card_tells_it():
    image = np.random.default_rng(0).normal(100, 3, (60, 60)).astype(np.float32)
    image[10:13, 10:13] = 4095
    assert read_sky_image("a", as_bytes(fits.HDUList([fits.PrimaryHDU(image)]))).saturation == 4095


@given(st.data())
def test_damaged_bytes_give_an_image_or_the_reason(data):
    content = bytearray(as_bytes(hdus()))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, 5000))] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        fields, *_ = ingest_fields({"a.fits": lambda: content}, NO_LABELS, PARAMETERS)
    except NothingUsableError:
        return
    assert len(fields) == 1


def test_nothing_is_asked_beyond_the_circle_of_a_catalogue():
    made = hdus()
    table = Table(made[1].data).to_pandas()
    sky = read_sky_image("a.fits", as_bytes(made))
    x, y = sky.pixel_positions(table["ra"].to_numpy(), table["dec"].to_numpy())
    middle = (SIZE - 1) / 2
    within = table[np.hypot(x - middle, y - middle) < 50]
    files = {"a.fits": image_alone(made), "a.csv": within.to_csv(index=False).encode()}
    fields, _, _, pixels, _ = ingest(
        files, parameters=IngestionParameters(tile=SIZE, min_observed=0.2)
    )
    assert fields["usable"].all()
    rows, columns = np.nonzero(np.isfinite(pixels[0]))
    reach = np.hypot(rows - middle, columns - middle).max()
    assert 45 < reach < 56


NAMED = IngestionParameters(
    tile=64, ra_column="alpha", dec_column="delta", magnitude_column="brightness"
)


def test_columns_of_a_catalogue_may_be_named():
    made = hdus()
    files = {"a.fits": image_alone(made)}
    files["a.csv"] = csv(made, ra="alpha", dec="delta", magnitude="brightness")
    fields, *_, rejected = ingest(files, parameters=NAMED)
    assert fields["usable"].all(), fields["reason"].tolist()
    assert np.isfinite(fields["zero_point"]).all()
    assert rejected.empty
    *_, rejected = ingest(files)  # the usual names are not there
    assert rejected["file"].tolist() == ["a.csv"]


def test_a_text_that_tells_of_a_catalogue_is_none():
    files = {
        "a.fits": image_alone(hdus()),
        "README": b"Stars (id, ra, dec, G) of one field.\nSee x.\n",
    }
    fields, *_, rejected = ingest(files)
    assert fields["reason"].tolist() == ["no catalogue"]
    assert rejected["file"].tolist() == ["README"]


def test_a_catalogue_in_the_file_that_cannot_be_used_stops_nothing():
    made = hdus()
    odd = fits.BinTableHDU(Table({"a": [1.0, 2.0], "b": [3.0, 4.0]}), name=CATALOGUE)
    files = {"a.fits": as_bytes(fits.HDUList([made[0], odd])), "b.fits": as_bytes(made)}
    fields, *_ = ingest(files)
    assert fields["usable"].tolist() == [False, True]
    assert "without positions" in fields["reason"].iloc[0]
    other = IngestionParameters(tile=64, magnitude_column="brightness")
    fields, *_ = ingest({"b.fits": as_bytes(made)}, parameters=other)
    assert "no column 'brightness'" in fields["reason"].iloc[0]
