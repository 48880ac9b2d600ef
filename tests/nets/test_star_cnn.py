"""The published network, and the one that sees wavelengths beside each other."""

import numpy as np
import pytest

from skyloom.nets.star_cnn import published_star_cnn, star_cnn, used_taps


def test_the_published_network_has_the_published_number_of_parameters():
    assert published_star_cnn(seed=0).count_params() == 781_127


@pytest.mark.parametrize(("kernel_size", "tap"), [(2, 0), (3, 1), (4, 1), (5, 2)])
def test_of_each_published_kernel_one_tap_is_used(kernel_size, tap):
    """One pixel long is the input: the others see the zeros beside it, whatever they are."""
    model = published_star_cnn(3, pixels=40, kernel_size=kernel_size, seed=0)
    spectra = np.random.default_rng(0).random((4, 1, 40), np.float32)
    before = model.predict_on_batch(spectra)
    kernel, bias = model.layers[0].get_weights()
    others = np.arange(kernel_size) != tap
    kernel[others] = 7.0
    model.layers[0].set_weights([kernel, bias])
    np.testing.assert_array_equal(model.predict_on_batch(spectra), before)
    kernel[tap] *= 1.5
    model.layers[0].set_weights([kernel, bias])
    assert np.abs(model.predict_on_batch(spectra) - before).max() > 1e-6


def test_along_the_wavelength_a_line_is_found_wherever_it_is():
    """Before the flattening, a shifted line gives shifted features."""
    import keras

    model = star_cnn((64, 1), 2, widths=(4,), pool=2, dense=4, seed=0)
    features = keras.Model(model.inputs, model.layers[1].output)
    spectra = np.zeros((2, 64, 1), np.float32)
    spectra[0, 20:24], spectra[1, 30:34] = -1, -1
    left, right = features.predict_on_batch(spectra)
    np.testing.assert_allclose(left[8:14], right[13:19], atol=1e-6)
    assert np.abs(left[8:14]).max() > 0


def test_images_of_spectra_are_classified_too():
    model = star_cnn((16, 24, 1), 5, dense=8, seed=0)
    assert model.predict_on_batch(np.zeros((3, 16, 24, 1))).shape == (3, 5)


def test_the_seed_decides_the_weights():
    first, same, other = (
        star_cnn((32, 1), 3, dense=8, seed=seed).get_weights()[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 0


@pytest.mark.parametrize(("kernel_size", "tap"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)])
def test_one_tap_of_the_published_kernel_sees_the_spectrum(kernel_size, tap):
    network = published_star_cnn(3, pixels=60, kernel_size=kernel_size, seed=0)
    assert used_taps(network).tolist() == [tap]


def test_the_published_network_is_the_dense_one_of_its_used_taps():
    """Whatever its kernel size: what a kernel study varies is how large these weights are."""
    wide = published_star_cnn(3, pixels=60, kernel_size=5, seed=1)
    narrow = published_star_cnn(3, pixels=60, kernel_size=1, seed=2)
    for one, other in zip(wide.layers, narrow.layers, strict=True):
        weights = one.get_weights()
        if weights and weights[0].ndim == 3:
            weights[0] = weights[0][2:3]
        other.set_weights(weights)
    spectra = np.random.default_rng(0).random((7, 1, 60), np.float32)
    np.testing.assert_allclose(
        wide.predict_on_batch(spectra), narrow.predict_on_batch(spectra), atol=1e-6
    )
