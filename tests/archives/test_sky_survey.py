"""Fields from SkyView and VizieR, who also misbehave."""

import _thread
import io

import numpy as np
import pandas as pd
import pytest
from astropy.config import set_temp_cache
from astropy.coordinates import SkyCoord
from astropy.io import fits
from pydantic import ValidationError

from skyloom.archives import downloads
from skyloom.archives.downloads import MANIFEST_COLUMNS
from skyloom.archives.sky_survey import FIELD_COLUMNS, NO_STAR, download_fields, draw_positions
from skyloom.images.sky import read_sky_image
from skyloom.images.stars import star_discs
from skyloom.pipelines.star_fields.parameters import ArchiveParameters

PLACES = pd.DataFrame({"id": ["a", "b", "c"], "ra": [150.1, 10.0, 0.01], "dec": [20.5, -33.0, 0.0]})


@pytest.fixture
def get(sky_archives, tmp_path):
    """Download the first n fields into a folder."""

    def get(n=1, **options):
        options = {
            "interval": 0,
            "backoff": 0,
            "retries": 2,
            "timeout": 20.0,
            "side": 0.1,
        } | options
        table = download_fields(
            PLACES[:n], tmp_path / "fields", **options, **sky_archives.addresses
        )
        assert list(table.columns) == [*MANIFEST_COLUMNS, *FIELD_COLUMNS]
        return table

    return get


@pytest.fixture
def slept(monkeypatch):
    """Seconds of every wait, without waiting."""
    found = []
    monkeypatch.setattr(downloads.time, "sleep", found.append)
    return found


def files(tmp_path):
    return {path.name: path.read_bytes() for path in (tmp_path / "fields").iterdir()}


def image_of(tmp_path, name="a.fits"):
    return read_sky_image(name, files(tmp_path)[name])


def test_a_field_is_an_image_its_stars_and_their_discs(get, tmp_path):
    row = get().iloc[0]
    assert (row["status"], row["reason"], row["n_requests"]) == ("fetched", "", 4)
    with fits.open(tmp_path / "fields/a.fits") as hdus:
        assert [hdu.name for hdu in hdus] == [
            "PRIMARY",
            "STAR_CATALOG",
            "STAR_OVERLAY",
            "PIXEL_MASK",
        ]
        mask = hdus[3].data
    read = image_of(tmp_path)
    assert read.centre == pytest.approx((150.1, 20.5), abs=1e-5)
    assert read.pixel_scale == pytest.approx(360 / 96) == row["pixel_scale"]
    assert len(read.catalogue) == row["n_stars"] > 5
    assert read.catalogue["Note"][1] == "?"  # a letter that FITS does not have
    x, y = read.pixel_positions(read.catalogue["RAJ2000"], read.catalogue["DEJ2000"])
    stars = np.column_stack([x, y, read.catalogue["Jmag"]])
    np.testing.assert_array_equal(mask, star_discs(stars, mask.shape))
    assert mask.any()


def test_the_archives_are_asked_for_what_is_meant(get, sky_archives):
    get(2, size=512, side=0.25, catalogue="II/246", catalogue_radius=0.35)
    # The form once.
    assert [name for name, _ in sky_archives.asked] == [
        "form", *["query", "image", "stars"] * 2
    ]  # fmt: skip
    query, stars = sky_archives.asked[1][1], sky_archives.asked[3][1]
    assert {name: query[name] for name in ("survey", "pixels", "size", "coordinates")} == {
        "survey": "DSS", "pixels": "512", "size": "0.25,0.25", "coordinates": "J2000",
    }  # fmt: skip
    assert [float(each) for each in query["Position"].split()] == pytest.approx([150.1, 20.5])
    assert {name: stars[name] for name in ("-source", "-out.max", "-c.rd")} == {
        "-source": "II/246", "-out.max": "unlimited", "-c.rd": "0.35",
    }  # fmt: skip


FAULTS = ["HTTP 500", "page", "cut", "half"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("service", ["form", "query", "image", "stars"])
def test_an_archive_that_fails_once_is_asked_again(get, sky_archives, tmp_path, service, fault):
    sky_archives.fault = lambda name, n: fault if (name, n) == (service, 1) else None
    row = get().iloc[0]
    assert (row["status"], row["n_requests"]) == ("fetched", 5), row["reason"]
    assert list(files(tmp_path)) == ["a.fits"]


@pytest.mark.parametrize(
    ("service", "fault", "n_requests", "reason"),
    [
        ("form", "HTTP 404", 1, "SkyView: HTTP 404"),
        ("form", "page", 3, "SkyView: not the form: Error: no such thing"),
        ("query", "HTTP 500", 4, "SkyView: HTTP 500"),
        ("query", "page", 4, "SkyView: no link to an image: Error: no such thing"),
        ("image", "HTTP 404", 3, "SkyView: HTTP 404"),
        ("image", "page", 5, "SkyView: not FITS and not a picture of the sky"),
        ("image", "cut", 5, "SkyView: ProtocolError"),
        ("image", "half", 5, "SkyView: truncated"),
        ("image", "blank", 5, "SkyView: nothing in the image: all pixels are [0.]"),
        ("image", "no WCS", 5, "SkyView: no WCS"),
        ("image", "hang", 5, "SkyView: ReadTimeout"),
        ("stars", "HTTP 500", 6, "VizieR: HTTP 500"),
        ("stars", "page", 6, "VizieR: not a VOTable: '<html>"),
        ("stars", "half", 6, "VizieR: not a whole VOTable"),
        ("stars", "hang", 6, "VizieR: ReadTimeout"),
        ("stars", "error", 6, "VizieR: an error in place of a table: no such catalogue"),
        ("stars", "no Jmag", 4, "VizieR: no column 'Jmag' in II/246: only RAJ2000, DEJ2000, 2MASS"),
    ],
)
def test_what_never_comes_is_listed_with_the_reason(
    get, sky_archives, tmp_path, service, fault, n_requests, reason
):
    sky_archives.fault = lambda name, n: fault if name == service else None
    row = get(timeout=0.3 if fault == "hang" else 20.0).iloc[0]
    assert (row["status"], row["n_requests"]) == ("failed", n_requests)
    assert row["reason"].startswith(reason)
    assert files(tmp_path) == {}


def test_one_bad_field_does_not_stop_the_others(get, sky_archives, tmp_path):
    sky_archives.fault = lambda name, n: "HTTP 404" if (name, n) == ("image", 2) else None
    table = get(3)
    assert table["status"].tolist() == ["fetched", "failed", "fetched"]
    assert table["n_stars"].isna().tolist() == [False, True, False]
    np.testing.assert_array_equal(table[["ra", "dec"]], PLACES[["ra", "dec"]])
    assert sorted(files(tmp_path)) == ["a.fits", "c.fits"]


def test_a_field_without_a_star_of_the_catalogue_is_kept_and_said(get, sky_archives, tmp_path):
    sky_archives.fault = lambda name, n: "empty" if name == "stars" else None
    for status in ("fetched", "present"):
        row = get().iloc[0]
        assert (row["status"], row["reason"], row["n_stars"]) == (status, NO_STAR, 0)
    read = image_of(tmp_path)
    assert list(read.catalogue.columns) == ["RAJ2000", "DEJ2000", "Jmag"]
    assert np.ptp(read.image) > 0


def test_a_good_file_is_not_asked_for_again_and_a_damaged_one_is_replaced(
    get, sky_archives, tmp_path
):
    get(2)
    path = tmp_path / "fields/b.fits"
    whole = files(tmp_path)
    path.write_bytes(whole["b.fits"][:3000])
    del sky_archives.asked[:]
    sky_archives.fault = lambda name, n: "HTTP 500"
    assert get(2)["status"].tolist() == ["present", "failed"]
    assert path.stat().st_size == 3000  # until a better one has come
    sky_archives.fault = lambda name, n: None
    table = get(2)
    assert table["status"].tolist() == ["present", "fetched"]
    assert table["n_requests"].tolist() == [0, 4]
    assert files(tmp_path) == whole


def test_an_image_alone_is_no_field(get, tmp_path):
    get()
    with fits.open(tmp_path / "fields/a.fits") as hdus:
        stream = io.BytesIO()
        fits.HDUList(hdus[:1]).writeto(stream)
    (tmp_path / "fields/a.fits").write_bytes(stream.getvalue())
    assert get()["status"].tolist() == ["fetched"]


def test_requests_keep_their_distance_and_retries_wait(get, sky_archives, slept):
    faults = {("query", 1): "HTTP 503, wait", ("stars", 1): "HTTP 500", ("stars", 2): "HTTP 500"}
    sky_archives.fault = lambda name, n: faults.get((name, n))
    assert get(interval=50.0, backoff=2.0)["status"].tolist() == ["fetched"]
    paused, waited = [s for s in slept if s > 10], [s for s in slept if 0 < s <= 10]
    assert len(paused) == len(sky_archives.asked) - 1 == 6
    assert waited == [7, 2, 4]  # as the server says; then doubled


def test_whoever_stops_it_loses_nothing_that_was_finished(get, sky_archives, tmp_path):
    def stop(name, n):
        if (name, n) == ("image", 2):
            _thread.interrupt_main()

    sky_archives.fault = stop
    with pytest.raises(KeyboardInterrupt):
        get(3)
    assert list(files(tmp_path)) == ["a.fits"]
    sky_archives.fault = lambda name, n: None
    assert get(3)["status"].tolist() == ["present", "fetched", "fetched"]


def test_no_answer_is_kept_in_the_home_folder(get, tmp_path):
    (tmp_path / "home").mkdir()
    with set_temp_cache(tmp_path / "home"):
        get()
    assert not list((tmp_path / "home").rglob("*.*"))


def test_a_survey_that_skyview_does_not_have_ends_the_run(get, tmp_path):
    with pytest.raises(ValueError, match=r"no survey 'DSS1'; did you mean one of DSS, DSS1 Red\?"):
        get(survey="DSS1")
    assert files(tmp_path) == {}


def test_random_positions_are_uniform_within_their_bounds():
    drawn = draw_positions(4000, np.random.default_rng(0))
    places = SkyCoord(drawn["ra"], drawn["dec"], unit="deg")
    assert drawn["dec"].abs().max() < 60
    assert np.abs(places.galactic.b.deg).min() > 10
    assert drawn["id"].is_unique
    assert drawn["id"][0].startswith("J")
    # Where the plane does not reach, equal areas have equal numbers (4 standard deviations).
    away = drawn[drawn["ra"].between(150, 210) & (drawn["dec"] > -45)]
    sine = np.sin(np.radians([-45, 60]))
    counts, _ = np.histogram(np.sin(np.radians(away["dec"])), bins=4, range=sine)
    assert np.abs(counts - counts.mean()).max() < 4 * np.sqrt(counts.mean())


def test_more_random_positions_begin_with_the_same():
    few, many = (draw_positions(n, np.random.default_rng(1)) for n in (30, 90))
    pd.testing.assert_frame_equal(many[:30], few)
    assert set(draw_positions(30, np.random.default_rng(2))["id"]).isdisjoint(few["id"])


@pytest.mark.parametrize(("declination", "latitude"), [(0, 10), (91, 10), (60, -1), (60, 61)])
def test_bounds_that_may_leave_nothing_are_refused(declination, latitude):
    with pytest.raises(ValueError, match=f"got {declination} and {latitude}"):
        draw_positions(
            1,
            np.random.default_rng(0),
            max_declination=declination,
            min_galactic_latitude=latitude,
        )


def test_there_are_always_positions():
    drawn = draw_positions(
        20, np.random.default_rng(0), max_declination=0.01, min_galactic_latitude=60
    )
    assert drawn["dec"].abs().max() < 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        {"skyview_address": "skyview.gsfc.nasa.gov"},
        {"size": 0},
        {"side": 0},
        {"catalogue_radius": -1},
        {"survey": ""},
        {"min_galactic_latitude": 90},
        {"interval": -1},
        {"radius": 0.25},
    ],
)
def test_wrong_parameters_are_told_by_name(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ArchiveParameters(**wrong)
