"""Turned and mirrored images."""

import numpy as np
import pytest
import tensorflow as tf

from skyloom.images.orientations import orientations, random_rotations, rotate_and_flip

IMAGES = np.random.default_rng(0).random((5, 9, 9, 1), np.float32)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_quarter_turns_move_pixels_and_change_none(turns, flip):
    turned = np.asarray(rotate_and_flip(IMAGES, [90 * turns] * 5, [flip] * 5))
    expected = IMAGES[:, :, ::-1] if flip else IMAGES
    # From columns towards rows: against the order of numpy's axes (1, 2).
    np.testing.assert_allclose(turned, np.rot90(expected, -turns, (1, 2)), atol=1e-5)


def test_the_eight_orientations_are_all_different_and_hold_the_same_pixels():
    found = orientations(IMAGES)
    assert len(found) == 8
    np.testing.assert_array_equal(found[0], IMAGES)
    assert len({each[0].tobytes() for each in found}) == 8
    for each in found:
        np.testing.assert_array_equal(np.sort(each.ravel()), np.sort(IMAGES.ravel()))


def test_light_is_kept_by_any_angle_as_long_as_it_stays_in_the_image():
    image = np.zeros((1, 41, 41, 1), np.float32)
    y, x = np.mgrid[:41, :41] - 20
    image[0, :, :, 0] = np.exp(-((x - 8) ** 2 + (y + 3) ** 2) / 18)
    for angle in (17, 45, 200):
        turned = np.asarray(rotate_and_flip(image, [angle], [False]))[0, :, :, 0]
        assert turned.sum() == pytest.approx(image.sum(), rel=0.01)
        place = np.array([(turned * x).sum(), (turned * y).sum()]) / turned.sum()
        radians = np.radians(angle)
        expected = [
            8 * np.cos(radians) + 3 * np.sin(radians),
            8 * np.sin(radians) - 3 * np.cos(radians),
        ]
        np.testing.assert_allclose(place, expected, atol=0.05)


def test_the_same_seed_and_batch_give_the_same_images_and_others_do_not():
    one, two, other_batch = (
        np.asarray(random_rotations(3)(tf.constant(number), IMAGES)) for number in (0, 0, 1)
    )
    other_seed = np.asarray(random_rotations(4)(tf.constant(0), IMAGES))
    np.testing.assert_array_equal(one, two)
    assert not np.allclose(one, other_batch)
    assert not np.allclose(one, other_seed)
    assert len({round(float(image.sum()), 5) for image in one}) == 5  # each by its own angle
