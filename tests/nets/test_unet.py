"""U-shaped networks keep the size of the image, and two of one seed are the same."""

import numpy as np
import pytest

from skyloom.nets.unet import published_unet, small_unet

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_the_small_network_takes_images_of_any_size():
    network = small_unet((4, 6, 8), n_channels=2, dropout=0.1, seed=1)
    for shape in ((1, 16, 32, 2), (2, 48, 16, 2)):
        probability = network.predict_on_batch(np.zeros(shape, np.float32))
        assert probability.shape == (*shape[:3], 1)
        # A network that knows nothing yet says that stars are rare.
        assert probability.max() < 0.2


def test_two_networks_of_one_seed_are_the_same():
    first, second, other = (small_unet((4, 6), seed=seed) for seed in (1, 1, 2))
    for one, two in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    pairs = zip(first.get_weights(), other.get_weights(), strict=True)
    assert any(not np.array_equal(one, two) for one, two in pairs)


def test_the_published_network_is_that_of_64_to_1024_filters():
    network = published_unet(seed=0)
    assert network.output_shape == (None, None, None, 1)
    filters = {layer.filters for layer in network.layers if hasattr(layer, "filters")}
    assert filters == {1, 64, 128, 256, 512, 1024}
    assert 30e6 < network.count_params() < 40e6
