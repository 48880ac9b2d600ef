"""The published layers in one dimension."""

import numpy as np
import pytest

from skyloom.nets.folded_cnn import folded_cnn
from skyloom.nets.ring_cnn import ring_cnn


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


def test_layers_are_those_of_the_image_network_in_one_dimension():
    folded, ring = folded_cnn((32, 2), 3, seed=0), ring_cnn((32, 32, 2), 3, padding="same", seed=0)
    assert kinds(folded) == [kind.replace("2D", "1D") for kind in kinds(ring)]
    for one, two in zip(folded.layers, ring.layers, strict=True):
        for setting in ("filters", "padding", "rate", "units"):
            assert getattr(one, setting, None) == getattr(two, setting, None)
    assert folded.name == "folded_cnn"


def test_number_of_parameters_follows_from_the_layers():
    widths, radii, channels, expected = (4, 6), 16, 2, 0
    model = folded_cnn((radii, channels), 3, widths=widths, seed=0)
    for filters in widths:
        expected += (3 * channels + 1) * filters + 4 * filters
        channels, radii = filters, radii // 2
    expected += (radii * channels + 1) * 512 + 4 * 512 + 513 * 3
    assert model.count_params() == expected


def test_outputs_are_probabilities():
    model = folded_cnn((16, 2), 4, widths=(3,), seed=0)
    profiles = np.random.default_rng(0).normal(size=(5, 16, 2)).astype("float32")
    probability = np.asarray(model(profiles))
    assert (probability >= 0).all()
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)
    assert model.layers[-1].name == "probability"


def test_a_network_that_predicts_numbers_has_no_softmax():
    model = folded_cnn((16, 1), 5, widths=(3,), activation=None, seed=0)
    profiles = np.random.default_rng(0).normal(size=(8, 16, 1)).astype("float32")
    assert (np.asarray(model(profiles)) < 0).any()
    assert model.layers[-1].name == "output"


@pytest.mark.parametrize(("padding", "radii", "needed"), [("same", 7, 8), ("valid", 21, 22)])
def test_too_few_radii_are_an_error_that_names_them(padding, radii, needed):
    message = f"{radii} pixels are too few for 3 blocks with padding '{padding}'"
    with pytest.raises(ValueError, match=message):
        folded_cnn((radii, 1), 2, padding=padding, seed=0)
    widths = (2, 2, 2)
    enough = folded_cnn((needed, 1), 2, widths=widths, padding=padding, seed=0)
    assert enough.output_shape == (None, 2)


def weights(seed):
    model = folded_cnn((8, 1), 2, widths=(3, 4), seed=seed)
    return [weight for weight in model.get_weights() if weight.ndim > 1]


@pytest.mark.parametrize("seed", [0, 5, 2**20])
def test_initial_weights_follow_from_the_seed_alone(seed):
    for first, again in zip(weights(seed), weights(seed), strict=True):
        np.testing.assert_array_equal(first, again)
    for first, other in zip(weights(seed), weights(1), strict=True):
        assert (first != other).any()
