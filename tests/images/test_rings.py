import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyloom.images.rings import (
    paint_rings,
    painted_radius,
    published_halves,
    published_image,
    published_quadrant,
    render_rings,
)


def paint_pixel_by_pixel(radial):
    """The published loop, as slow as it is."""
    length = len(radial)
    image = np.zeros((2 * length, 2 * length))
    for radius in range(length):
        for angle in np.linspace(0, 2 * np.pi, 2 * length):
            row = int(np.rint(length + radius * np.sin(angle)))
            column = int(np.rint(length + radius * np.cos(angle)))
            image[row, column] = radial[radius]
    return image


def render(flux, centre, extent, **options):
    flux = np.atleast_2d(np.asarray(flux, float))
    one = np.ones(len(flux))
    return render_rings(flux, 0 * one, one, centre * one, extent * one, **options)


@pytest.mark.parametrize("length", [5, 12, 33])
def test_painter_leaves_the_published_pixels(length):
    radial = np.random.default_rng(length).uniform(0.5, 1, length)
    index = painted_radius(length)
    ours = np.where(index < 0, 0.0, radial[index])
    np.testing.assert_array_equal(ours, paint_pixel_by_pixel(radial))


def test_painter_leaves_the_published_holes():
    length = 200
    distance = np.hypot(*(np.mgrid[: 2 * length, : 2 * length] - length)) / length
    hole = painted_radius(length) < 0
    for low, high, share in ((0, 0.3, 0.02), (0.3, 0.5, 0.25), (0.5, 0.7, 0.49), (0.7, 1.0, 0.64)):
        inside = (distance >= low) & (distance < high)
        assert hole[inside].mean() == pytest.approx(share, abs=0.01)


def test_published_fold_is_right_minus_mirrored_left():
    flux = np.array([0.0, 1.0, 2.0, 4.0, 3.0, 1.0])
    right, left, combined = published_halves(flux)
    np.testing.assert_allclose(right, np.array([4, 3, 1]) / 4)
    np.testing.assert_allclose(left, -np.array([2, 1, 0]) / 4)
    np.testing.assert_allclose(combined, np.array([2, 2, 1]) / 4)
    assert [len(part) for part in published_halves(np.arange(7.0))] == [3, 3, 3]


def test_published_models_have_their_sizes_and_ranges():
    flux = np.random.default_rng(0).normal(size=40)
    one, two, three = (paint_rings(flux, model) for model in (1, 2, 3))
    assert (one.shape, two.shape, three.shape) == ((80, 80), (20, 20), (20, 20))
    assert one.max() == 1.0
    assert two[painted_radius(10) < 0] == pytest.approx(0.5)
    assert (three.min(), three.max()) == (0.0, pytest.approx(1.0))


def test_published_picture_is_the_colour_map_of_the_painted_image():
    from matplotlib import colormaps

    flux = np.random.default_rng(0).normal(size=40)
    picture = published_image(flux, 2)
    np.testing.assert_array_equal(
        picture, colormaps["RdBu"](paint_rings(flux, 2), bytes=True)[..., :3]
    )
    assert published_image(flux, 2, 32).shape == (32, 32, 3)


@pytest.mark.parametrize("model", [1, 2, 3])
def test_the_published_quadrant_is_the_lower_right_of_the_painted_image(model):
    flux = np.random.default_rng(model).uniform(size=64)
    whole = paint_rings(flux, model)
    half = len(whole) // 2
    # Without resizing it is that quadrant, pixel by pixel.
    same = published_quadrant(flux, model, half)
    np.testing.assert_allclose(same, whole[half:, half:], atol=1e-7)
    assert same.dtype == np.float32


@pytest.mark.parametrize("model", [1, 2, 3])
def test_painted_images_are_single_precision(model):
    assert paint_rings(np.random.default_rng(0).uniform(size=64), model).dtype == np.float32


@pytest.mark.parametrize("size", [8, 20, 90])
def test_the_published_quadrant_is_resized_like_the_published_picture(size):
    from PIL import Image

    flux = np.random.default_rng(0).uniform(size=100)
    whole = paint_rings(flux, 2)
    half = len(whole) // 2
    corner = Image.fromarray(whole).resize(
        (size, size), Image.Resampling.BILINEAR, box=(half, half, 2 * half, 2 * half)
    )
    quadrant = published_quadrant(flux, 2, size)
    assert quadrant.shape == (size, size)
    # The one sees beyond the quadrant's edge, the other does not.
    np.testing.assert_allclose(quadrant[2:, 2:], np.asarray(corner)[2:, 2:], atol=1e-5)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), length=st.integers(8, 80), model=st.sampled_from([1, 2, 3]))
def test_values_of_the_published_quadrant_are_those_of_a_colour_map(seed, length, model):
    flux = np.random.default_rng(seed).normal(size=length)
    quadrant = published_quadrant(flux, model, 16)
    assert quadrant.min() >= 0
    assert quadrant.max() <= 1


def test_the_published_quadrant_of_a_symmetric_profile_is_empty():
    flux = np.concatenate([np.arange(32.0), np.arange(32.0)[::-1]])
    np.testing.assert_allclose(published_quadrant(flux, 2, 16), 0.5, atol=1e-6)


def test_constant_profile_is_painted_without_a_warning():
    assert np.isfinite(paint_rings(np.ones(16), 1)).all()
    assert np.isfinite(paint_rings(np.ones(16), 3)).all()


def test_a_symmetric_profile_gives_an_empty_fold():
    x = np.arange(128.0)
    flux = np.exp(-(((x - 60.25) / 12) ** 2))
    image = render(flux, 60.25, 40, size=32)
    assert np.abs(image[0, 1]).max() < 8e-3  # linear interpolation between channels
    assert image[0, 0].max() > 0.9


def test_pixels_hold_the_fold_at_their_radius():
    x = np.arange(256.0)
    flux = 0.5 + 0.002 * (x - 128) + 0.3 * np.sin(x / 25)
    size, centre, extent = 64, 128.0, 90.0
    image = render(flux, centre, extent, size=size)[0, 1]
    axis = (np.arange(size) + 0.5 - size / 2) / (size / 2)
    radius = np.hypot(axis[:, None], axis[None])
    r = radius * extent
    expected = np.interp(centre + r, x, flux) - np.interp(centre - r, x, flux)
    inside = radius < 0.97
    np.testing.assert_allclose(image[inside], expected[inside], atol=0.012)
    assert (image[radius > 1.03] == 0).all()


def test_the_image_has_no_holes():
    image = render(np.concatenate([np.zeros(64), np.ones(64)]), 63.5, 60, size=64)[0, 1]
    axis = np.arange(64) + 0.5 - 32
    inside = np.hypot(axis[:, None], axis[None]) < 30
    assert (image[inside & (np.hypot(axis[:, None], axis[None]) > 3)] > 0.9).all()


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), size=st.sampled_from([8, 16, 33]))
def test_a_quadrant_holds_the_whole_image(seed, size):
    flux = np.random.default_rng(seed).normal(size=(2, 96))
    whole = render(flux, 47.0, 30.0, size=2 * size)
    quadrant = render(flux, 47.0, 30.0, size=size, quadrant=True)
    np.testing.assert_allclose(whole[:, :, size:, size:], quadrant, atol=1e-6)
    np.testing.assert_allclose(whole, whole[:, :, ::-1], atol=1e-6)
    np.testing.assert_allclose(whole, whole[:, :, :, ::-1], atol=1e-6)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_exchanging_the_sides_turns_the_fold_s_sign(seed):
    flux = np.random.default_rng(seed).normal(size=(1, 96))
    fold = render(flux, 40.0, 30.0, size=16)[0, 1]
    exchanged = render(flux[:, ::-1], 95 - 40.0, 30.0, size=16)[0, 1]
    np.testing.assert_allclose(fold, -exchanged, atol=1e-5)


def test_model_three_fills_its_range():
    flux = np.random.default_rng(1).normal(size=(3, 96))
    stretched = render(flux, 47.0, 30.0, size=32)[:, 2]
    assert stretched.min() == pytest.approx(-1)
    assert stretched.max() == pytest.approx(1)


def test_the_velocity_scale_does_not_matter():
    flux = np.random.default_rng(2).uniform(size=(1, 96))
    one = np.ones(1)
    channels = render(flux, 47.0, 30.0, size=24)
    km_s = render_rings(flux, 5000 * one, 8 * one, 5376 * one, 240 * one, size=24)
    np.testing.assert_allclose(channels, km_s, atol=1e-5)
