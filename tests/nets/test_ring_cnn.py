"""The published architecture, layer by layer."""

import numpy as np
import pytest

from skyloom.nets.ring_cnn import ring_cnn


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


@pytest.mark.parametrize("widths", [(32, 64, 128), (32, 64, 256), (32, 64, 512)])
def test_published_network_has_the_published_layers_and_number_of_parameters(widths):
    model = ring_cnn((128, 128, 3), 3, widths=widths, seed=0)
    block = ["Conv2D", "BatchNormalization", "MaxPooling2D", "Dropout"]
    head = ["Flatten", "Dense", "BatchNormalization", "Dropout", "Dense"]
    assert kinds(model) == 3 * block + head
    convolutions = model.layers[0:12:4]
    assert tuple(layer.filters for layer in convolutions) == widths
    for layer in convolutions:
        assert layer.kernel_size == (3, 3)
        assert layer.padding == "valid"
        assert layer.activation.__name__ == "relu"
    assert all(layer.pool_size == (2, 2) for layer in model.layers[2:12:4])
    assert [layer.rate for layer in model.layers[3:12:4]] == [0.25, 0.25, 0.25]
    dense, last = model.layers[13], model.layers[16]
    assert (dense.units, dense.activation.__name__) == (512, "relu")
    assert model.layers[15].rate == 0.5
    assert (last.units, last.activation.__name__) == (3, "softmax")

    expected, channels, side = 0, 3, 128
    for filters in widths:
        expected += (9 * channels + 1) * filters + 4 * filters
        channels, side = filters, (side - 2) // 2
    assert side == 14
    expected += (side * side * channels + 1) * 512 + 4 * 512 + 513 * 3
    assert model.count_params() == expected


def test_default_widths_are_the_narrow_published_ones():
    assert ring_cnn((128, 128, 3), 3, seed=0).count_params() == 12_943_299


def test_same_padding_lets_a_small_quadrant_through():
    model = ring_cnn((16, 16, 1), 2, padding="same", seed=0)
    assert model.layers[12].output.shape == (None, 2 * 2 * 128)
    assert model.output_shape == (None, 2)
    with pytest.raises(ValueError, match="16 pixels are too few for 3 blocks with padding 'valid'"):
        ring_cnn((16, 16, 1), 2, padding="valid", seed=0)


@pytest.mark.parametrize(("padding", "smallest"), [("same", 8), ("valid", 22)])
def test_the_smallest_image_goes_through_and_one_pixel_less_is_named(padding, smallest):
    widths = (2, 2, 2)
    model = ring_cnn((smallest, smallest, 1), 2, widths=widths, padding=padding, seed=0)
    assert model.output_shape == (None, 2)
    less = smallest - 1
    with pytest.raises(ValueError, match=f"{less} pixels are too few"):
        ring_cnn((less, less, 1), 2, widths=widths, padding=padding, seed=0)


def test_outputs_are_probabilities():
    model = ring_cnn((8, 8, 2), 4, widths=(3,), padding="same", seed=0)
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 2)).astype("float32")
    probability = np.asarray(model(images))
    assert (probability >= 0).all()
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)


def test_a_network_that_predicts_numbers_has_no_softmax():
    model = ring_cnn((8, 8, 1), 5, widths=(3,), padding="same", activation=None, seed=0)
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype("float32")
    assert (np.asarray(model(images)) < 0).any()
    assert model.layers[-1].name == "output"


def weights(seed):
    model = ring_cnn((8, 8, 1), 2, widths=(3, 4), padding="same", seed=seed)
    return [weight for weight in model.get_weights() if weight.ndim > 1]


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1])
def test_initial_weights_follow_from_the_seed_alone(seed):
    for first, again in zip(weights(seed), weights(seed), strict=True):
        np.testing.assert_array_equal(first, again)
    for first, other in zip(weights(seed), weights(1), strict=True):
        assert (first != other).any()


def test_no_two_layers_begin_alike():
    first, second = weights(0)[:2]
    assert not np.array_equal(first.ravel()[:9], second.ravel()[:9])


def test_random_numbers_of_numpy_are_left_alone():
    np.random.seed(3)  # noqa: NPY002 - the global state is what is tested
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    ring_cnn((8, 8, 1), 2, widths=(3,), padding="same", seed=1)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
