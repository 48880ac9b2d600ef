"""What users of star finders complain of, and what must not happen here; nothing is trained."""

import io
import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from skyloom.evaluation.detection import Ranking, fit_ranking
from skyloom.images.sky import SkyImage, read_sky_image
from skyloom.images.sky_catalogues import lay_catalogue
from skyloom.images.stars import (
    NormalisedImage,
    find_by_sep,
    find_peaks,
    match_detections,
    matched_filter,
    normalise_sky,
    pixels_of,
)
from skyloom.pipelines.star_fields.features import prepare_images
from skyloom.pipelines.star_fields.ingestion import ingest_fields, lay_best, sort_out
from skyloom.pipelines.star_fields.parameters import (
    AugmentationParameters,
    Configuration,
    DetectionParameters,
    FeatureParameters,
    IngestionParameters,
    NetworkParameters,
    TrainingParameters,
)
from skyloom.pipelines.star_fields.prediction import (
    DETECTION_COLUMNS,
    FLAGS,
    SUMMARY_COLUMNS,
    detect_stars,
    ds9_regions,
    find_stars,
    stars_table,
)
from skyloom.raw_files import NothingUsableError
from skyloom.simulate.star_fields import add_stars, flux_of_unit_snr, sky_noise

FWHM = 3.0
SIGMA = FWHM / np.sqrt(8 * np.log(2))
INGESTION = IngestionParameters(tile=64)
ONE_TILE = DetectionParameters()
RANGE = (2.0, 5.0)
PLAIN = Ranking("probability", (1.0,), 0.0, 0.5)
LAYING = {"reach": 10.0, "radius": 2.0, "limit": 5.0, "doubtful": 2.0}


class Peaked:
    """In place of a network: sure of each peak of the filter, the more so the higher it is."""

    def predict_on_batch(self, images):
        """As of a Keras model."""
        light = np.pad(np.sinh(np.float64(images[0, ..., 0])), 16)
        snr = matched_filter(light, FWHM)[16:-16, 16:-16]
        said = np.zeros(snr.shape)
        peaks = find_peaks(snr, 3.0, 2.5)
        y, x = np.mgrid[-4:5, -4:5]
        wide = np.pad(said, 8)
        for peak in peaks.itertuples():
            row, column = round(peak.y), round(peak.x)
            sure = 1 / (1 + np.exp(-np.clip(peak.value - 5, -9, 9)))
            part = np.s_[row + 4 : row + 13, column + 4 : column + 13]
            apart = (x - peak.x + column) ** 2 + (y - peak.y + row) ** 2
            wide[part] = np.maximum(wide[part], sure * np.exp(-0.5 * apart))
        return wide[8:-8, 8:-8].astype(np.float32)[None, ..., None]


CLASSIFIER = (
    Peaked(),
    {
        "trained": True,
        "configuration": Configuration(
            name="a", features=FeatureParameters(), augmentation=AugmentationParameters(),
            network=NetworkParameters(), training=TrainingParameters(),
        ).model_dump(mode="json"),
        "ranking": PLAIN._asdict(), "light_range": (-5.0, 1000.0),
        "fwhm_range": RANGE,
    },
)  # fmt: skip


def peak_of(snr):
    """Peak of a star of some S/N in noise of 1."""
    return snr / (np.sqrt(np.pi) * SIGMA)


def sky(stars, *, size=128, seed=0, fwhm=FWHM):
    """Stars (x, y, S/N) on noise of 1 and a sky of 100."""
    y, x = np.mgrid[:size, :size]
    image = np.random.default_rng(seed).normal(100, 1, (size, size))
    for column, row, snr in stars:
        apart = (x - column) ** 2 + (y - row) ** 2
        image += peak_of(snr) * np.exp(-0.5 * apart / (fwhm / 2.35482) ** 2)
    return image.astype(np.float32)


def grid(size=128, step=24, *, seed=0, snr=(20, 60)):
    """Isolated stars (x, y, S/N)."""
    rng = np.random.default_rng(seed)
    place = np.arange(step / 2, size - step / 3, step)
    x, y = (each.ravel() for each in np.meshgrid(place, place))
    x, y = (each + rng.uniform(-2, 2, x.size) for each in (x, y))
    return np.stack([x, y, np.exp(rng.uniform(*np.log(snr), x.size))], axis=1)


def wcs(size=128, *, ra=150.0, dec=20.0):
    made = WCS(naxis=2)
    made.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    made.wcs.crval, made.wcs.crpix = [ra, dec], [(size + 1) / 2] * 2
    made.wcs.cdelt = [-1 / 3600, 1 / 3600]
    return made


def as_bytes(image, *more, cards=(), sky_wcs=None):
    stream = io.BytesIO()
    header = sky_wcs.to_header() if sky_wcs else fits.Header()
    header.update(dict(cards))
    fits.HDUList([fits.PrimaryHDU(image, header), *more]).writeto(stream)
    return stream.getvalue()


def catalogue(stars, sky_wcs, magnitude):
    """Text of a catalogue of stars."""
    places = sky_wcs.pixel_to_world(stars[:, 0], stars[:, 1])
    table = pd.DataFrame({"ra": places.ra.deg, "dec": places.dec.deg, "magnitude": magnitude})
    return table.to_csv(index=False).encode()


PREPARE = partial(prepare_images, features=FeatureParameters())


def detect(image, *, detection=ONE_TILE, **options):
    seen = SkyImage(np.asarray(image, np.float32), "FITS", **options)
    stars, facts = detect_stars(Peaked(), seen, PREPARE, PLAIN, detection, RANGE)
    return stars, facts


def find(files, detection=ONE_TILE):
    content = {name: (lambda c=c: c) for name, c in files.items()}
    return find_stars(content, detection, INGESTION, CLASSIFIER)


def nearest(found, stars):
    """Row of what was found of each star, and how far it is."""
    apart = np.hypot(
        found["x"].to_numpy()[None, :] - stars[:, 0, None],
        found["y"].to_numpy()[None, :] - stars[:, 1, None],
    )
    return apart.argmin(axis=1), apart.min(axis=1)


def same_stars(one, other, *, snr=8.0, within=0.05):
    """Whether the sure stars of both are at the same places, one to one."""
    for these, those in ((one, other), (other, one)):
        sure = these[these["snr"] > snr]
        star, _ = match_detections(
            those.assign(score=those["snr"]), sure[["x", "y"]].reset_index(drop=True), within
        )
        assert set(star[star >= 0]) == set(range(len(sure)))


# --- bright stars, places, crowds -----------------------------------------------------------------
def test_bright_and_saturated_stars_are_kept_and_flagged():
    """The brightest stars are dropped, since saturated cores are not round or sharp enough."""
    stars = grid()
    stars[[3, 12, 20], 2] = 500, 2000, 8000
    image = np.minimum(sky(stars), 250)
    found, _ = detect(image, saturation=250.0)
    row, apart = nearest(found, stars)
    assert apart.max() < 1.5
    assert len(found) < 1.3 * len(stars)
    flagged = found["saturated"].to_numpy()[row]
    assert np.flatnonzero(flagged).tolist() == [3, 12, 20]
    # Without a card, the plateau tells it.
    read = read_sky_image("a.fits", as_bytes(image))
    assert read.saturation == 250


def test_pixels_count_from_0_and_in_fits_from_1():
    """Positions are off by a half or a whole pixel between the array, FITS, DS9 and the sky."""
    stars = np.array([[20.0, 30.0, 90.0], [64.0, 64.0, 90.0], [100.0, 41.0, 90.0]])
    content = as_bytes(sky(stars), sky_wcs=wcs())
    found, *_ = find({"a.fits": content})
    row, apart = nearest(found, stars)
    assert apart.max() < 0.15
    found = found.iloc[row]
    np.testing.assert_allclose(found["x_fits"], found["x"] + 1)
    np.testing.assert_allclose(found["y_fits"], found["y"] + 1)
    ra, dec = wcs().all_pix2world(found["x_fits"], found["y_fits"], 1)
    np.testing.assert_allclose(found["ra"], ra, atol=1e-9)
    np.testing.assert_allclose(found["dec"], dec, atol=1e-9)
    regions = ds9_regions(found).splitlines()[3:]
    drawn = [[float(each) for each in line[7:].split(",")[:2]] for line in regions]
    np.testing.assert_allclose(drawn, stars[:, :2] + 1, atol=0.15)


def test_errors_of_positions_are_those_that_are_reported():
    """Reported errors of positions have nothing to do with the true ones."""
    pulls = []
    for seed in range(3):
        stars = grid(400, 30, seed=seed, snr=(10, 100))
        found, _ = detect(sky(stars, size=400, seed=seed))
        row, apart = nearest(found, stars)
        seen = found.iloc[row]
        assert (apart < 2).mean() > 0.97
        for column, name in enumerate("xy"):
            off = (seen[name] - stars[:, column]) / seen["position_error"]
            pulls.append(off[apart < 2])
    pulls = np.concatenate(pulls)
    assert len(pulls) > 900
    assert 0.55 < (np.abs(pulls) < 1).mean() < 0.9
    assert abs(np.median(pulls)) < 0.15


def test_crowds_do_not_overflow():
    """A crowd of more than 1024 stars that hang together gives no star at all, or an error."""
    rng = np.random.default_rng(0)
    place = np.arange(4, 236, 6)
    x, y = (each.ravel() for each in np.meshgrid(place, place))
    light = np.zeros((240, 240))
    light[y, x] = rng.uniform(50, 300, x.size)
    # All of it lies above the threshold, so that it is one source with many peaks.
    image = (5 + ndimage.gaussian_filter(light, 1.0)).astype(np.float32)
    flat = np.zeros_like(image)
    found = find_by_sep(
        NormalisedImage(image, flat, flat + 1, flat == 0), fwhm=2.0, deblend_contrast=1e-5
    )
    assert len(found) > 1024


def test_an_image_all_of_which_is_bright_does_not_fill_the_buffer():
    """Where most pixels lie above the threshold, a buffer is full and nothing is found."""
    image = np.full((600, 600), 5, np.float32)
    image[100:500:100, 100:500:100] = 500
    image = ndimage.gaussian_filter(image, 1.3)
    flat = np.zeros_like(image)
    seen = NormalisedImage(image, flat, flat + 1, flat == 0)
    found = find_by_sep(seen, deblend_contrast=1e-5)
    assert len(found) >= 16


def test_close_pairs_are_two_stars():
    """Pairs of stars are found as one."""
    alone = grid()
    pairs = [[x + 1.8 * FWHM, y, snr] for x, y, snr in alone[:6]]
    stars = np.concatenate([alone, pairs])
    found, _ = detect(sky(stars))
    row, apart = nearest(found, stars)
    assert apart.max() < 1
    assert len(set(row)) == len(stars)
    blended = found["blended"].to_numpy()[row]
    assert blended[:6].all()
    assert blended[-6:].all()
    assert not blended[6:-6].any()


def bright_star(field, stars):
    """Stars as the simulation draws them, the first of which is bright; and the saturation."""
    unit = flux_of_unit_snr(field["fwhm"], field["beta"], sky_noise(field))
    drawn = pd.DataFrame(stars, columns=["x", "y", "snr"])
    light = np.full((192, 192), field["sky"])
    add_stars(light, drawn.assign(flux=drawn["snr"] * unit), field)
    if field["bleeding"]:
        y, x = np.mgrid[:192, :192] - 96.0
        light += 600 * np.exp(-np.abs(y) / 20) * np.exp(-0.5 * x**2)
    electrons = np.random.default_rng(0).poisson(light).astype(float)
    full = field["full_well"]
    return np.minimum(electrons, full), full


@pytest.mark.parametrize(
    ("spikes", "angle", "bleeding"),
    [(0.01, 0.0, False), (0.01, 0.5, False), (0.0, 0.0, True), (0.0, 0.0, False)],
    ids=["spikes", "turned spikes", "bleeding", "halo alone"],
)
def test_spikes_are_flagged_and_faint_neighbours_are_not(spikes, angle, bleeding):
    """Spikes and bleeding of bright stars are taken for stars, or stars beside them for spikes."""
    field = {
        "fwhm": FWHM, "fwhm_gradient": 0.0, "beta": 3.0, "ellipticity": 0.0, "angle": 0.0,
        "halo": 1e-3, "halo_radius": 5.0, "spikes": spikes, "spike_angle": angle, "sky": 300.0,
        "read_noise": 3.0, "detector": "electronic", "full_well": 6e4, "bleeding": bleeding,
    }  # fmt: skip
    stars = grid(192, snr=(15, 60), seed=1)
    apart = stars[:, :2] - 96
    turned = np.stack(
        [np.cos(angle) * apart[:, 0] + np.sin(angle) * apart[:, 1],
         np.cos(angle) * apart[:, 1] - np.sin(angle) * apart[:, 0]]
    )  # fmt: skip
    stars = np.concatenate([[[96.3, 95.8, 2e4]], stars[(np.abs(turned) > 6).all(axis=0)]])
    image, full = bright_star(field, stars)
    found, _ = detect(image, saturation=full)
    row, apart = nearest(found, stars)
    assert apart.max() < 1.5
    # One in the glare may be flagged, where noise makes it long.
    assert found["spike"].to_numpy()[row].sum() <= 1
    others = found[~np.isin(np.arange(len(found)), row)]
    assert (len(others) >= 3) == (spikes > 0 or bleeding)
    if len(others):
        assert others["spike"].mean() > 0.7


# --- defects --------------------------------------------------------------------------------------
@pytest.mark.parametrize("defect", ["NaN column", "hot row", "dead block", "infinite pixel"])
def test_one_defect_does_not_lose_the_image(defect):
    """One bad row or column, and no star of the whole image is found."""
    stars = grid(192)
    image = sky(stars, size=192)
    whole, _ = detect(image)
    if defect == "NaN column":
        image[:, 97] = np.nan
    elif defect == "hot row":
        image[97] = 1e30
    elif defect == "dead block":
        image[90:104, 90:104] = 0
    else:
        image[97, 97] = np.inf
    found, facts = detect(image)
    assert np.isfinite(facts["noise"])

    def elsewhere(table):
        far = (np.abs(table["x"] - 97) > 20) & (np.abs(table["y"] - 97) > 20)
        return table[far].reset_index(drop=True)

    assert len(elsewhere(whole)) > 20
    same_stars(elsewhere(whole), elsewhere(found), within=0.1)


def test_masked_pixels_do_not_suppress_their_neighbours():
    """A star beside a masked pixel is not found."""
    stars = grid()
    image = sky(stars)
    for x, y, _ in stars:
        image[round(y), round(x) + 3] = np.nan
    found, _ = detect(image)
    _, apart = nearest(found, stars)
    assert apart.max() < 0.5


@pytest.mark.parametrize(
    "change",
    [
        lambda image: 1000 * image,
        lambda image: 1e-6 * image,
        lambda image: image + 5e4,
        lambda image: image - 100,
        lambda image: image + 0.4 * np.arange(128)[None, :] + 0.2 * np.arange(128)[:, None],
    ],
    ids=["times 1000", "times 1e-6", "plus a constant", "less the sky", "plus a slope"],
)
def test_units_and_background_of_the_image_do_not_matter(change):
    """Thresholds are counts, so that an image in other units has other stars."""
    image = sky(grid()).astype(float)
    one, _ = detect(image)
    other, _ = detect(change(image))
    assert len(one) >= 25
    same_stars(one, other)


# --- nothing --------------------------------------------------------------------------------------
EMPTY = {
    "empty": np.random.default_rng(0).normal(100, 1, (64, 64)).astype(np.float32),
    "nan": np.full((64, 64), np.nan, np.float32),
    "same": np.full((64, 64), 7, np.float32),
    "tiny": np.random.default_rng(0).normal(100, 1, (8, 8)).astype(np.float32),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_nothing_found_is_a_table_without_rows(kind):
    """Where there is no star there is None or an exception instead of an empty table."""
    stars, fields, sheets, rejected = find({"a.fits": as_bytes(EMPTY[kind])})
    assert tuple(stars.columns) == DETECTION_COLUMNS
    assert tuple(fields.columns) == SUMMARY_COLUMNS
    assert stars.empty
    assert rejected.empty
    assert len(fields) == 1
    row = fields.iloc[0]
    assert row["n_stars"] == 0
    assert "no positions" in row["warning"]
    said = {"nan": "nothing was observed", "same": "all pixels are the same"}.get(kind, "")
    assert said in row["warning"]
    assert all(stars[name].dtype == bool for name in FLAGS)
    assert all(stars[name].dtype == float for name in ("x", "y", "ra", "probability"))
    assert len(list(sheets)) == 1
    table, ecsv = stars_table(stars)
    stream = io.BytesIO()
    table.write(stream, format="fits")
    assert len(Table.read(io.BytesIO(stream.getvalue()), format="fits")) == 0
    again = Table.read(ecsv, format="ascii.ecsv")
    assert again.colnames == list(DETECTION_COLUMNS)
    assert len(ds9_regions(stars).splitlines()) == 3


def test_an_image_without_stars_beside_one_with_stars_changes_no_types():
    """One empty image makes columns of numbers or of truth into those of objects."""
    files = {"a.fits": as_bytes(EMPTY["nan"]), "b.fits": as_bytes(sky(grid()))}
    files["c.fits"] = as_bytes(EMPTY["tiny"])
    stars, fields, *_ = find(files)
    assert fields["n_stars"].tolist()[::2] == [0, 0]
    assert set(stars["field"]) == {"b"}
    assert all(stars[name].dtype == bool for name in FLAGS)
    assert all(stars[name].dtype == float for name in ("x", "y", "ra", "flux"))


def test_images_are_not_kept():
    """Every image of a folder is kept in memory until the last one is done."""
    files = {f"{name}.fits": as_bytes(sky(grid(), seed=k)) for k, name in enumerate("abc")}
    _, fields, sheets, _ = find(files, DetectionParameters(n_sheets=1))
    assert len(list(sheets)) == 1
    assert fields["field"].tolist() == ["a", "b", "c"]
    assert (fields["n_stars"] >= 25).all()


# --- tiles ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [192, 200, 129])
def test_tiles_do_not_show(size):
    """At the edges of tiles stars are lost, or are there twice."""
    stars = grid(size, 16)
    # Some of them just on the edges.
    on_edge = stars[:, 0] % 64 > 56
    stars[on_edge, 0] = np.round(stars[on_edge, 0] / 64) * 64 - 0.5
    image = sky(stars, size=size)
    whole, _ = detect(image)
    tiled, _ = detect(image, detection=DetectionParameters(tile=64, overlap=32))
    same_stars(whole, tiled)
    _, apart = nearest(tiled, stars)
    assert apart.max() < 1
    places = tiled[["x", "y"]].to_numpy()
    between = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    assert between[np.triu_indices(len(places), 1)].min() > 1


@pytest.mark.parametrize("size", [129, 130, 150, 161])
def test_what_is_left_over_at_the_edge_is_no_box_of_its_own(size):
    """One star on the last columns is taken for the background, and those about it are lost."""
    stars = grid(size, 16, snr=(40, 60))
    at_edge = stars[:, 0] > size - 16
    stars[at_edge, 0] = size - 1.5
    seen = normalise_sky(sky(stars, size=size))
    assert np.abs(seen.background - 100).max() < 2
    assert seen.noise.max() < 1.4
    found, _ = detect(sky(stars, size=size))
    _, apart = nearest(found, stars)
    assert apart.max() < 1.5


# --- ranking --------------------------------------------------------------------------------------
def table_of(*, score_tells, snr_tells, n=600, seed=0):
    """Stars and other detections, some of which the network or the filter knows."""
    rng = np.random.default_rng(seed)
    star = rng.random(n) < 0.5
    score = rng.uniform(0.1, 0.9, n)
    filtered = np.exp(rng.uniform(np.log(4), np.log(40), n))
    if score_tells:
        score = 1 / (1 + np.exp(-np.where(star, 2.0, -1.5) - rng.normal(0, 1, n)))
    if snr_tells:
        filtered = np.exp(np.where(star, 3.0, 1.5) + rng.normal(0, 0.6, n))
    return pd.DataFrame({"star": star, "score": score, "filtered": filtered})


@pytest.mark.parametrize(
    ("score_tells", "snr_tells", "kinds"),
    [
        (True, False, {"probability", "both"}),
        (False, True, {"S/N", "both"}),
        (True, True, {"both"}),
    ],
)
def test_detections_are_ranked_by_what_tells_stars(score_tells, snr_tells, kinds):
    """A score that does not tell stars ranks them all the same."""
    options = {"score_tells": score_tells, "snr_tells": snr_tells}
    ranking = fit_ranking(table_of(**options))
    assert ranking.kind in kinds
    other = table_of(**options, n=4000, seed=1)
    probability = ranking.probability(other["score"], other["filtered"])
    assert other["star"].mean() == pytest.approx(probability.mean(), abs=0.05)
    for low in (0.0, 0.25, 0.5, 0.75):
        chosen = (probability >= low) & (probability < low + 0.25)
        if chosen.sum() > 100:
            share = other.loc[chosen, "star"].mean()
            assert share == pytest.approx(probability[chosen].mean(), abs=0.15)
    assert np.mean((probability >= ranking.threshold) == other["star"]) > 0.8
    if not (score_tells and snr_tells):
        # What tells nothing changes nothing.
        known = "score" if score_tells else "filtered"
        rank = other[known].rank().corr(pd.Series(probability).rank())
        assert rank > 0.9
    again = Ranking(**json.loads(json.dumps(ranking._asdict())))
    np.testing.assert_allclose(again.probability(other["score"], other["filtered"]), probability)


# --- catalogues -----------------------------------------------------------------------------------
ZERO_POINT = 21.0


def magnitude_of(stars):
    """Of the flux within the image."""
    return ZERO_POINT - 2.5 * np.log10(stars[:, 2])


def test_magnitudes_are_those_of_the_catalogue():
    """Magnitudes are in no system, without an error."""
    stars = grid(192, 20, snr=(10, 100))
    known = np.arange(len(stars)) % 3 > 0
    files = {
        "a.fits": as_bytes(sky(stars, size=192), sky_wcs=wcs(192)),
        "a.csv": catalogue(stars[known], wcs(192), magnitude_of(stars[known])),
    }
    found, fields, *_ = find(files)
    row, apart = nearest(found, stars)
    assert apart.max() < 1
    seen = found.iloc[row]
    pulls = (seen["magnitude"] - magnitude_of(stars)) / seen["magnitude_error"]
    assert 0.5 < (np.abs(pulls) < 1).mean() < 0.95
    assert (np.abs(pulls) < 4).all()
    assert seen["in_catalogue"].tolist() == known.tolist()
    assert not found.drop(found.index[row])["in_catalogue"].any()
    field = fields.iloc[0]
    assert np.isfinite(field["zero_point"])
    assert 0 < field["zero_point_error"] < 0.1
    assert (field["n_known"], field["n_found"]) == (known.sum(), known.sum())
    assert np.hypot(field["dx"], field["dy"]) < 0.2


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("step", "n_known"), [(20, 60), (12, 100)])
def test_a_catalogue_of_elsewhere_gives_no_magnitudes(step, n_known, seed):
    """A catalogue of another place is laid on an image all the same, by one chance match."""
    stars = grid(192, step, seed=seed)
    rng = np.random.default_rng(seed)
    snr = 10 ** rng.uniform(0.8, 3, n_known)
    wrong = np.stack([*rng.uniform(0, 191, (2, n_known)), snr], axis=1)
    image = as_bytes(sky(stars, size=192), sky_wcs=wcs(192))
    table = catalogue(wrong, wcs(192), magnitude_of(wrong))
    found, fields, *_ = find({"a.fits": image, "a.csv": table})
    alone, *_ = find({"a.fits": image})
    assert "does not fit the image" in fields["warning"].iloc[0]
    assert np.isnan(fields["zero_point"].iloc[0])
    assert not found["in_catalogue"].any()
    np.testing.assert_allclose(found["magnitude"], alone["magnitude"])
    np.testing.assert_allclose(found["ra"], alone["ra"])


@pytest.mark.parametrize("n_known", [3, 10])
def test_a_catalogue_of_few_stars_gives_their_names(n_known):
    """A catalogue of few stars is refused, though all of them are there."""
    stars = grid(192, 20)
    known = stars[:: len(stars) // n_known][:n_known]
    image = as_bytes(sky(stars, size=192), sky_wcs=wcs(192))
    table = catalogue(known, wcs(192), magnitude_of(known))
    found, fields, *_ = find({"a.fits": image, "a.csv": table})
    assert "does not fit" not in fields["warning"].iloc[0]
    assert found["in_catalogue"].sum() == n_known


def test_stars_without_magnitude_are_laid_too():
    """Bright stars have NaN for their magnitudes in catalogues, and are passed over."""
    stars = grid(192, 20, snr=(10, 100))
    magnitude = magnitude_of(stars)
    bright = stars[:, 2] > 60
    magnitude[bright] = np.nan
    assert 5 < bright.sum() < len(stars) / 2
    files = {
        "a.fits": as_bytes(sky(stars, size=192), sky_wcs=wcs(192)),
        "a.csv": catalogue(stars, wcs(192), magnitude),
    }
    content = {name: (lambda c=c: c) for name, c in files.items()}
    fields, laid, *_ = ingest_fields(content, pd.DataFrame(), INGESTION)
    assert fields["usable"].all(), fields["reason"].tolist()
    _, apart = nearest(laid, stars[bright])
    row, _ = nearest(laid, stars[bright])
    assert apart.max() < 0.5
    ratio = laid["snr"].to_numpy()[row] / stars[bright, 2]
    assert ratio == pytest.approx(1, abs=0.35)
    found, fields, *_ = find(files)
    row, _ = nearest(found, stars)
    assert found["in_catalogue"].to_numpy()[row].all()
    assert np.isfinite(fields["zero_point"].iloc[0])


def laid_on(stars, known, *, size=192, **more):
    """What `lay_catalogue` needs."""
    normalised = normalise_sky(sky(stars, size=size))
    snr = matched_filter(normalised.image, FWHM)
    detections = find_by_sep(normalised, threshold=1.5)
    detections["snr"] = snr[pixels_of(detections, snr.shape)]
    table = pd.DataFrame(known[:, :2], columns=["x", "y"]).assign(
        ra=0.0, dec=0.0, magnitude=magnitude_of(known), **more
    )
    return normalised, snr, detections, table


@pytest.mark.parametrize("first", ["wrong", "right"])
def test_of_two_magnitudes_the_one_that_follows_the_light_is_taken(first):
    """The first column of magnitudes is taken, though it is of another colour."""
    stars = grid(192, 20, snr=(10, 200))
    other = np.random.default_rng(0).permutation(magnitude_of(stars)) + 2
    bands = {"wrong": other, "right": magnitude_of(stars)}
    order = sorted(bands, key=lambda name: name != first)
    normalised, snr, detections, table = laid_on(
        stars, stars, **{name: bands[name] for name in order}
    )
    table["magnitude"] = table[first]
    name, laid = lay_best(normalised, snr, detections, table, **LAYING)
    assert name == "right"
    assert laid.scatter < 0.2
    assert laid.excess > 0.7


@pytest.mark.parametrize(("n_known", "usable"), [(1, False), (3, True)])
def test_a_catalogue_of_few_stars_is_judged_by_chance(n_known, usable):
    """Catalogues of few stars are refused, or one chance match is enough."""
    stars = grid(192, 30, snr=(40, 100))
    known = stars[:: len(stars) // n_known][:n_known]
    laid = lay_catalogue(*laid_on(stars, known), **LAYING)
    assert (laid.by_chance <= INGESTION.max_chance) == usable
    assert laid.excess >= INGESTION.min_excess
    files = {
        "a.fits": as_bytes(sky(stars, size=192), sky_wcs=wcs(192)),
        "a.csv": catalogue(known, wcs(192), magnitude_of(known)),
    }
    content = {name: (lambda c=c: c) for name, c in files.items()}
    fields, *_ = ingest_fields(content, pd.DataFrame(), INGESTION)
    assert fields["usable"].tolist() == [usable]
    assert ("by chance with a probability of" in fields["reason"].iloc[0]) != usable


# --- damaged files --------------------------------------------------------------------------------
SMALL_STARS = grid(64, 16)
GOOD = as_bytes(
    sky(SMALL_STARS, size=64),
    fits.BinTableHDU(
        Table.read(catalogue(SMALL_STARS, wcs(64), magnitude_of(SMALL_STARS)).decode(),
                   format="ascii.csv"),
        name="STAR_CATALOG",
    ),
    sky_wcs=wcs(64),
)  # fmt: skip


def damaged(rng):
    """The bytes of an image with its catalogue, some of them changed, gone or added."""
    content = bytearray(GOOD)
    # A file whose bytes have moved is mostly none any more.
    kinds = ["flip", "text"] if rng.random() < 0.6 else ["flip", "text", "delete", "insert"]
    for _ in range(rng.integers(1, 7)):
        # Headers are more than their share of what can go wrong.
        place = int(rng.integers(0, rng.choice([2880, len(content)])))
        kind = rng.choice(kinds)
        if kind == "flip":
            content[place] ^= int(rng.integers(1, 256))
        elif kind == "text":
            content[place] = rng.choice(list(b" 0123456789-+.E'/=TFA"))
        elif kind == "delete":
            del content[place : place + int(rng.choice([1, 80, 2880]))]
        else:
            content[place:place] = rng.bytes(rng.integers(1, 80))
    return bytes(content)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_damaged_files_do_not_stop_the_others(seed):
    """One damaged file of a folder ends the run, or is passed over without a word."""
    content = damaged(np.random.default_rng(seed))
    files = {"bad.fits": lambda: content, "good.fits": lambda: GOOD}
    # What has lost its image may still be a catalogue.
    _, catalogues, _ = sort_out(files, INGESTION)
    listed = sorted(
        {"bad.fits", "good.fits"} - {f"{name}.fits" for name in catalogues.get(".", {})}
    )
    fields, *_, rejected = ingest_fields(files, pd.DataFrame(), INGESTION)
    assert sorted([*fields["file"], *rejected["file"]]) == listed
    assert fields.set_index("file").loc["good.fits", "usable"]
    stars, fields, _, rejected = find_stars(
        files, DetectionParameters(n_sheets=0), INGESTION, CLASSIFIER
    )
    assert sorted([*fields["file"], *rejected["file"]]) == listed
    assert (stars["field"] == "good").sum() >= len(SMALL_STARS)


def test_a_folder_without_images_says_so():
    """Nothing to read ends in an exception that says nothing."""
    with pytest.raises(NothingUsableError):
        find({"a.fits": b"no image"})
