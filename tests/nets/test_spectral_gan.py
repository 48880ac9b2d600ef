"""Networks that make spectra: their shapes, and what the published pair cannot do."""

import numpy as np
import pytest

from skyloom.learning.generative import SPECTRAL_KINDS, build_pair, make_images, train_pair
from skyloom.nets import spectral_gan

PIXELS = 120


def lines(n=48, seed=0):
    """Spectra with a line of varying depth at pixel 40 and one at pixel 90."""
    rng = np.random.default_rng(seed)
    pixel = np.arange(PIXELS)
    depth = rng.uniform(0.2, 0.6, (n, 1))
    spectra = 1 - depth * np.exp(-0.5 * ((pixel - 40) / 2) ** 2)
    spectra -= 0.3 * np.exp(-0.5 * ((pixel - 90) / 3) ** 2)
    return (spectra + 0.01 * rng.standard_normal((n, PIXELS)))[..., None].astype(np.float32)


def pair_of(kind, **changes):
    settings = {
        "kind": kind, "size": PIXELS, "n_classes": 1, "latent": 8, "width": 32,
        "learning_rate": 1e-3, "kl_weight": 1.0, "seed": 0,
    }  # fmt: skip
    pair = build_pair(**settings | changes)
    set_state(pair, pair.untrained)
    return pair


def set_state(pair, state):
    for variable, value in zip(pair.variables, state, strict=True):
        variable.assign(value)


def train(pair, epochs, batch_size=16):
    classes = np.zeros(48, int)
    return train_pair(
        pair, lines(), classes, epochs=epochs, batch_size=batch_size, rotate=False, seed=1
    )


@pytest.mark.parametrize("pixels", [100, 1390, 3500])
def test_any_number_of_pixels_is_made_and_judged(pixels):
    maker = spectral_gan.generator(pixels, 2, latent=4, width=16, seed=0)
    made = make_images(maker, np.array([0, 1]), np.random.default_rng(0))
    assert made.shape == (2, pixels, 1)
    np.testing.assert_allclose(made, 1, atol=0.5)  # untrained: the continuum with noise
    assert made.std(axis=1) == pytest.approx(0.05, rel=0.3)
    judge = spectral_gan.discriminator(pixels, 2, widths=(4, 4), seed=0)
    assert judge.predict_on_batch([made, np.eye(2)]).shape == (2, 1)


def test_the_published_networks_have_their_layers():
    maker = spectral_gan.published_generator(seed=0)
    assert [layer.units for layer in maker.layers if hasattr(layer, "units")] == [
        256, 512, 1024, 3500
    ]  # fmt: skip
    assert maker.inputs[0].shape == (None, 900)
    judge = spectral_gan.published_discriminator(seed=0)
    assert [layer.units for layer in judge.layers if hasattr(layer, "units")] == [1024, 512, 256, 1]


@pytest.mark.parametrize("kind", SPECTRAL_KINDS)
def test_a_training_taken_up_again_goes_on_as_if_it_had_not_stopped(kind):
    at_once = train(pair_of(kind), range(3))
    pair = pair_of(kind)
    train(pair, range(1))
    state = [np.array(variable) for variable in pair.variables]
    build_pair.cache_clear()  # another process
    again = pair_of(kind)
    set_state(again, state)
    rest = train(again, range(1, 3))
    np.testing.assert_allclose(rest.to_numpy(), at_once[1:].to_numpy(), rtol=1e-3)


def test_made_spectra_come_to_have_the_lines():
    pair = pair_of("spectral_gan")
    train(pair, range(150))
    made = make_images(pair.maker, np.zeros(64, int), np.random.default_rng(0))[..., 0]
    mean, truth = made.mean(axis=0), lines().mean(axis=0)[:, 0]
    assert np.corrcoef(mean, truth)[0, 1] > 0.8
    assert made[:, 38:43].mean() < 0.85 < 0.93 < made[:, 55:80].mean()


def test_the_published_losses_stay_between_the_bounds_of_its_mistake():
    """A probability taken for a logit: however good a network is, its loss says little."""
    history = train(pair_of("published_gan"), range(4), batch_size=1)
    assert (history["loss_2"] >= 1.006).all()
    assert history["loss_1"].between(0.313, 0.694).all()


def test_the_noise_is_drawn_and_its_level_learnt():
    """Two samples with the same line and noise of 0.02 and 0.2."""
    rng, pixel = np.random.default_rng(3), np.arange(PIXELS)
    found = []
    for noise in (0.02, 0.2):
        flux = 1 - 0.4 * np.exp(-0.5 * ((pixel - 40) / 3) ** 2)
        spectra = flux + noise * rng.standard_normal((48, PIXELS))
        pair = pair_of("spectral_gan")
        train_pair(
            pair, spectra[..., None].astype(np.float32), np.zeros(48, int), epochs=range(120),
            batch_size=16, rotate=False, seed=1,
        )  # fmt: skip
        made = make_images(pair.maker, np.zeros(64, int), np.random.default_rng(0))[..., 0]
        found.append(np.diff(made[:, 60:], axis=1).std() / np.sqrt(2))
    assert found[0] < 0.06
    assert 0.12 < found[1] < 0.3
