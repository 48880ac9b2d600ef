"""Networks that make images have the sizes they are asked for."""

import numpy as np
import pytest

from skyloom.nets.dcgan import discriminator, first_size, generator
from skyloom.nets.vae import encoder


@pytest.mark.parametrize(
    ("size", "expected"), [(56, (7, 3)), (64, (8, 3)), (28, (7, 2)), (150, (5, 5)), (8, (8, 0))]
)
def test_maps_are_doubled_until_they_hold_the_image(size, expected):
    first, n_doublings = first_size(size)
    assert (first, n_doublings) == expected
    assert first * 2**n_doublings >= size


@pytest.mark.parametrize("size", [56, 33])
def test_images_are_of_the_size_asked_for_and_from_0_to_1(size):
    network = generator(size, 3, latent=5, width=16, seed=0)
    rng = np.random.default_rng(0)
    images = network.predict_on_batch([rng.standard_normal((4, 5)), np.eye(3)[[0, 1, 2, 0]]])
    assert images.shape == (4, size, size, 1)
    assert 0 <= images.min() < images.max() <= 1


def test_the_class_changes_the_image_and_the_judgement():
    noise, image = np.ones((2, 5)), np.full((2, 16, 16, 1), 0.5)
    kinds = np.eye(2)
    made = generator(16, 2, latent=5, width=16, seed=0).predict_on_batch([noise, kinds])
    assert not np.allclose(made[0], made[1])
    judged = discriminator(16, 2, widths=(4, 8), seed=0).predict_on_batch([image, kinds])
    assert judged.shape == (2, 1)
    assert judged[0] != judged[1]


def test_an_encoder_gives_means_and_variances():
    found = encoder(20, 2, latent=3, widths=(4, 8), seed=0).predict_on_batch(
        [np.ones((5, 20, 20, 1)), np.eye(2)[[0, 1, 0, 1, 0]]]
    )
    assert found.shape == (5, 6)


def test_a_seed_decides_the_weights():
    one, same, other = (generator(16, 1, width=16, seed=s).get_weights() for s in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))
