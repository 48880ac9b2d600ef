import numpy as np
import pytest
from astropy.stats import sigma_clip
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skyloom.images.cutouts import (
    CENTRES,
    STRETCHES,
    as_picture,
    clip_background,
    cut,
    remove_specks,
    resize,
    source_centres,
    stretch,
)
from skyloom.simulate.radio_galaxies import draw_truth, observe

IMAGES = arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(2, 9), st.integers(2, 9)),
    elements=st.floats(-1e3, 1e3, width=32),
)


def field(n=6, side=100, noise=0.15, seed=0):
    return np.random.default_rng(seed).normal(0, noise, (n, side, side)).astype(np.float32)


# --- clipping -------------------------------------------------------------------------------------


def test_noise_is_measured_beside_bright_sources():
    images = field()
    images[:, 40:50, 40:50] += 20
    _, noise = clip_background(images)
    np.testing.assert_allclose(noise, 0.15, rtol=0.05)  # 3 sigma clip a little of the tails


def test_what_is_above_three_sigma_stays_as_it_was():
    images = field()
    images[:, 40:50, 40:50] += 20
    clipped, noise = clip_background(images)
    np.testing.assert_array_equal(clipped[:, 40:50, 40:50], images[:, 40:50, 40:50])
    assert (clipped[clipped > 0] > 3 * noise.min()).all()
    rest = np.ones(images.shape, bool)
    rest[:, 40:50, 40:50] = False
    assert 0 < (clipped[rest] > 0).mean() < 0.004


def test_pixels_that_were_not_observed_are_dark_and_do_not_count():
    images = field()
    images[:, 45:50, 45:50] += 20
    partly = images.copy()
    partly[:, :, :10], partly[:, :5] = np.nan, np.inf
    clipped, noise = clip_background(partly)
    assert (clipped[:, :, :10] == 0).all()
    assert (clipped[:, :5] == 0).all()
    np.testing.assert_allclose(noise, clip_background(images[:, 5:, 10:])[1])


def test_the_noise_is_the_standard_deviation_of_what_is_not_clipped():
    images = field()
    images[:, 45:50, 45:50] += 20
    images[0, 3:5] = np.nan
    kept = sigma_clip(np.ma.masked_invalid(images), sigma=3, maxiters=10, axis=(1, 2))
    np.testing.assert_array_equal(clip_background(images)[1], kept.std(axis=(1, 2)))


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_empty_image_stays_empty(value):
    clipped, noise = clip_background(np.full((2, 8, 8), value))
    assert (clipped == 0).all()
    assert (noise == 0).all()


def test_an_image_that_was_clipped_before_is_left_alone():
    images = np.zeros((1, 50, 50), np.float32)
    images[0, 20:24, 20:24] = 7
    clipped, noise = clip_background(images)
    np.testing.assert_array_equal(clipped, images)
    assert noise == 0


def test_images_do_not_change_each_other_or_the_input():
    images = field(3)
    images[1] *= 40
    before = images.copy()
    together, _ = clip_background(images)
    alone = np.concatenate([clip_background(image[None])[0] for image in images])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(images, before)


def test_specks_go_and_sources_stay():
    images = np.zeros((3, 20, 20), np.float32)
    images[0, 2:5, 2:5], images[0, 10, 10:14] = 2, 5  # 9 and 4 pixels
    images[1, 2:5, 2:4], images[2, 2:5, 4:6] = 1, 1  # 6 each, of two images
    images[2, range(10, 18), range(10, 18)] = 3  # 8 that touch at their corners
    kept = remove_specks(images, min_pixels=8)
    expected = np.zeros_like(images)
    expected[0, 2:5, 2:5] = 2
    expected[2, range(10, 18), range(10, 18)] = 3
    np.testing.assert_array_equal(kept, expected)


def test_the_peaks_of_noise_are_specks():
    truth = draw_truth(60, np.random.default_rng(0), neighbour_rate=0)
    images = observe(truth.assign(stripe_amplitude=0.0), np.random.default_rng(1))
    dark = remove_specks(clip_background(images)[0])
    edge = dark.copy()
    edge[:, 40:110, 40:110] = 0
    assert ((edge > 0).any(axis=(1, 2))).mean() < 0.3  # 22,500 pixels each
    assert (dark[:, 70:80, 70:80].max(axis=(1, 2)) > 0).mean() > 0.95


@given(IMAGES, st.floats(0, 10))
def test_a_picture_has_256_steps_and_the_order_of_the_brightnesses(images, threshold):
    light = np.where(images > threshold, images, 0)
    picture = as_picture(light, np.full(len(light), threshold))
    assert picture.dtype == np.float32
    assert set(np.unique(picture)) <= set(range(256))
    bright = light.max(axis=(1, 2)) > 0
    assert (picture.max(axis=(1, 2)) == np.where(bright, 255, 0)).all()
    for one, other in zip(light, picture, strict=True):
        assert (np.diff(other.ravel()[one.argsort(axis=None)]) >= 0).all()


def test_a_picture_of_a_picture_is_the_same():
    light = np.clip(field() - 0.45, 0, None)
    picture = as_picture(light, np.zeros(len(light)))
    np.testing.assert_array_equal(as_picture(picture, np.zeros(len(light))), picture)


# --- centring and cutting -------------------------------------------------------------------------


def two_spots():
    """A brighter and a fainter spot near the middle, and the brightest of all at the edge."""
    image = np.zeros((1, 61, 61), np.float32)
    image[0, 28, 30], image[0, 36, 32], image[0, 0, 0] = 3, 1, 50
    return image


@pytest.mark.parametrize(
    ("by", "centre"), [("image", (30, 30)), ("peak", (28, 30)), ("centroid", (30, 30))]
)
def test_centres(by, centre):
    (found,) = source_centres(two_spots(), by)
    assert tuple(found) == centre


def test_a_larger_radius_sees_more():
    assert tuple(source_centres(two_spots(), "peak", radius=30)[0]) == (0, 0)


@pytest.mark.parametrize("by", CENTRES)
def test_a_dark_image_has_its_middle_as_its_centre(by):
    images = np.concatenate([np.zeros((1, 61, 61), np.float32), two_spots()])
    assert tuple(source_centres(images, by)[0]) == (30, 30)


def test_an_unknown_centre_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="centre 'core' is none of image, peak, centroid"):
        source_centres(two_spots(), "core")


@given(IMAGES, st.integers(1, 12), st.data())
def test_a_cut_is_the_image_about_its_centre_and_dark_beyond(images, size, data):
    n, height, width = images.shape
    places = st.tuples(st.integers(0, height - 1), st.integers(0, width - 1))
    centres = np.array([data.draw(places) for _ in range(n)])
    wide = np.pad(images, ((0, 0), (size, size), (size, size)))
    parts = cut(images, centres, size)
    for k, (row, column) in enumerate(centres + size - size // 2):
        np.testing.assert_array_equal(parts[k], wide[k, row : row + size, column : column + size])


# --- size and brightness --------------------------------------------------------------------------


@given(st.integers(5, 60), st.floats(-100, 100))
def test_a_flat_image_stays_flat(size, value):
    resized = resize(np.full((2, 30, 30), value), size)
    assert resized.shape == (2, size, size)
    np.testing.assert_allclose(resized, value, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("size", [50, 25, 20])
def test_a_smaller_image_has_the_same_mean_and_the_same_centre(size):
    y, x = np.mgrid[:100, :100]
    image = np.exp(-((x - 60.5) ** 2 + (y - 40.5) ** 2) / (2 * 6**2))[None]
    (small,) = resize(image, size)
    assert small.mean() == pytest.approx(image.mean(), rel=0.01)
    place = np.arange(size) + 0.5
    assert (small.sum(0) @ place) / small.sum() * 100 / size == pytest.approx(61, abs=0.1)
    assert (small.sum(1) @ place) / small.sum() * 100 / size == pytest.approx(41, abs=0.1)


def test_fine_structure_does_not_come_back_as_coarse():
    stripes = np.tile([0.0, 1.0], 50)[None, None] * np.ones((1, 100, 1))
    assert np.ptp(resize(stripes, 34)[:, :, 2:-2]) < 0.15


@pytest.mark.parametrize("how", STRETCHES)
@given(images=IMAGES)
def test_stretched_brightness_goes_from_0_to_1_in_the_same_order(how, images):
    result = stretch(images, how)
    assert result.dtype == np.float32
    for before, after in zip(images, result, strict=True):
        if np.ptp(before) > 0:
            assert (after.min(), after.max()) == pytest.approx((0, 1))
        else:
            assert (after == 0).all()
        order = np.argsort(before, axis=None)
        assert (np.diff(after.ravel()[order]) >= 0).all()


def test_faint_parts_gain_by_a_smaller_softening():
    image = np.linspace(0, 1, 9, dtype=np.float32).reshape(1, 3, 3)
    faint = [stretch(image, "asinh", softening=s)[0, 0, 1] for s in (1.0, 0.1, 0.01)]
    assert stretch(image)[0, 0, 1] < faint[0] < faint[1] < faint[2]


def test_an_unknown_stretch_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="stretch 'log' is none of min_max, asinh"):
        stretch(np.zeros((1, 2, 2)), "log")
