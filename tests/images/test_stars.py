"""Stars are found where they are, whatever the finder, and matched one to one."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom.images.stars import (
    DETECTION_COLUMNS,
    FINDERS,
    find_by_photutils,
    find_by_sep,
    find_peaks,
    match_detections,
    matched_filter,
    measure_fwhm,
    normalise_sky,
    star_discs,
)
from skyloom.simulate.star_fields import moffat

SIZE = 160
PLACES = pd.DataFrame(
    {"x": [20.2, 60.7, 100.0, 139.5, 30.3], "y": [30.6, 110.1, 45.5, 140.2, 140.0]}
)
ALL = (
    find_by_sep,
    lambda image, **options: find_by_photutils(image, method="DAO", **options),
    lambda image, **options: find_by_photutils(image, method="IRAF", **options),
)


def sky(fwhm=3.0, peak=60.0, places=PLACES, level=400.0, seed=0):
    """Stars on a sloping sky with noise of 1 count."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    image = np.random.default_rng(seed).normal(level, 1, (SIZE, SIZE)) + 0.2 * x
    top = moffat(np.zeros(1), np.zeros(1), fwhm, 3.5)
    for star in places.itertuples():
        image += peak * moffat(x - star.x, y - star.y, fwhm, 3.5) / top
    return image


def test_background_and_noise_are_taken_away():
    seen = normalise_sky(sky(peak=0))
    assert np.abs(np.median(seen.image)) < 0.1
    assert seen.image.std() == pytest.approx(1, abs=0.06)
    assert seen.background[:, -1].mean() - seen.background[:, 0].mean() == pytest.approx(
        32, rel=0.2
    )


@pytest.mark.parametrize("value", [np.nan, 7.0])
def test_an_empty_image_is_no_error(value):
    seen = normalise_sky(np.full((40, 50), value))
    assert not seen.image.any()
    assert np.isnan(measure_fwhm(seen.image))
    for find in ALL:
        table = find(seen)
        assert tuple(table.columns) == DETECTION_COLUMNS
        assert not len(table)


@pytest.mark.parametrize("find", ALL)
def test_stars_are_found_where_they_are_counted_from_zero(find):
    found = find(normalise_sky(sky()), threshold=5.0)
    star, distance = match_detections(found, PLACES, 1.0)
    assert set(range(len(PLACES))) <= set(star)
    assert np.nanmax(distance) < 0.35
    assert (np.diff(found["score"]) <= 0).all()


@pytest.mark.parametrize("find", ALL)
def test_a_masked_part_does_not_hide_its_neighbours(find):
    image = sky()
    image[100:120, 55:66] = np.nan  # on the second star
    found = find(normalise_sky(image), threshold=5.0)
    star, _ = match_detections(found, PLACES, 1.0)
    assert set(star[star >= 0]) == {0, 2, 3, 4}


def test_crowds_do_not_overflow():
    rng = np.random.default_rng(2)
    places = pd.DataFrame(rng.uniform(0, SIZE, (2500, 2)), columns=["x", "y"])
    y, x = np.mgrid[:SIZE, :SIZE]
    image = rng.normal(0, 1, (SIZE, SIZE))
    for star in places.itertuples():
        image += 40 * np.exp(-((x - star.x) ** 2 + (y - star.y) ** 2) / 2)
    assert len(find_by_sep(normalise_sky(image), threshold=1.0)) > 150


@pytest.mark.parametrize("fwhm", [2.0, 3.0, 4.5])
def test_the_width_of_the_stars_is_measured(fwhm):
    rng = np.random.default_rng(4)
    places = pd.DataFrame(rng.uniform(15, SIZE - 15, (12, 2)), columns=["x", "y"])
    measured = measure_fwhm(normalise_sky(sky(fwhm, places=places)).image)
    assert measured == pytest.approx(fwhm, rel=0.15)


def test_the_matched_filter_says_the_snr_also_where_the_noise_is_correlated():
    from scipy import ndimage

    rng = np.random.default_rng(0)
    for width in (0.0, 0.8):
        noise = rng.normal(size=(300, 300))
        noise = ndimage.gaussian_filter(noise, width) if width else noise
        snr = matched_filter((noise / noise.std()).astype(np.float32), 3.0)
        assert snr.std() == pytest.approx(1, rel=0.1)


# --- peaks ----------------------------------------------------------------------------------------


@given(st.floats(8, 12), st.floats(8, 12))
def test_a_peak_is_placed_better_than_a_pixel(x, y):
    row, column = np.mgrid[:21, :21]
    found = find_peaks(np.exp(-((column - x) ** 2 + (row - y) ** 2) / 4), 0.5, 3)
    assert len(found) == 1
    assert found[["x", "y"]].to_numpy()[0] == pytest.approx((x, y), abs=0.12)


def test_close_peaks_are_kept_apart_as_far_as_is_asked():
    row, column = np.mgrid[:21, :31]
    pair = sum(np.exp(-((column - x) ** 2 + (row - 10) ** 2) / 2) for x in (10, 16))
    assert len(find_peaks(pair, 0.5, 3)) == 2
    assert len(find_peaks(pair, 0.5, 14)) < 2 + 1
    assert not len(find_peaks(pair, 5, 3))


def test_a_flat_top_is_one_peak_in_its_middle():
    values = np.zeros((12, 12))
    values[4, 5] = values[4, 6] = 1.0
    found = find_peaks(values, 0.5, 2.5)
    assert found[["x", "y"]].to_numpy().tolist() == [[5.5, 4.0]]


# --- matching -------------------------------------------------------------------------------------


def test_each_star_has_one_detection_and_the_best_comes_first():
    stars = pd.DataFrame({"x": [0.0, 10.0], "y": [0.0, 0.0]})
    found = pd.DataFrame({"x": [0.5, 0.1, 30.0], "y": 0.0, "score": [9.0, 5.0, 7.0]})
    star, distance = match_detections(found, stars, 2)
    assert star.tolist() == [0, -1, -1]
    assert distance[0] == 0.5


def test_a_detection_takes_the_next_star_where_the_nearest_is_taken():
    stars = pd.DataFrame({"x": [0.0, 1.5], "y": [0.0, 0.0]})
    found = pd.DataFrame({"x": [0.0, 0.2], "y": 0.0, "score": [2.0, 1.0]})
    assert match_detections(found, stars, 2)[0].tolist() == [0, 1]


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 10**6))
def test_a_threshold_may_be_moved_after_matching(n_found, n_stars, seed):
    rng = np.random.default_rng(seed)
    stars = pd.DataFrame(rng.uniform(0, 20, (n_stars, 2)), columns=["x", "y"])
    found = pd.DataFrame(rng.uniform(0, 20, (n_found, 2)), columns=["x", "y"])
    found["score"] = rng.permutation(n_found).astype(float)
    star, _ = match_detections(found, stars, 2.0)
    matched = star[star >= 0]
    assert len(set(matched)) == len(matched)
    best = found["score"] >= n_found / 2
    np.testing.assert_array_equal(match_detections(found[best], stars, 2.0)[0], star[best])


def test_every_finder_has_a_search_of_its_settings():
    for find, space in FINDERS.values():
        middle = {
            name: value[0] if isinstance(value, list) else value["low"]
            for name, value in space.items()
        }
        found = find(normalise_sky(sky()), **(middle | {"threshold": 6.0, "fwhm": 3.0}))
        assert len(found) == len(PLACES)


def test_discs_are_larger_the_brighter_and_may_be_cut_by_the_edge():
    stars = np.array(
        [[100, 100, 8.0], [300, 200, 16.0], [-1, 50, 8.0], [600, 600, 8.0], [400, 400, np.nan]]
    )
    discs = star_discs(stars, (512, 1024))
    # 0.00586 times 512: 3 pixels for the brightest, 1 for the faintest.
    radius = {(100, 100): 3, (300, 200): 1, (-1, 50): 3}
    y, x = np.mgrid[:512, :1024]
    expected = [np.hypot(x - a, y - b) <= r for (a, b), r in radius.items()]
    np.testing.assert_array_equal(discs, np.any(expected, axis=0))
    assert not star_discs(stars[4:], (512, 1024)).any()
