import numpy as np
import pytest

from skyloom.nets.alhassan import alhassan


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


def test_the_published_network_has_its_layers_and_parameters():
    model = alhassan((150, 150, 1), 4, seed=0)
    assert kinds(model) == [*["Conv2D", "MaxPooling2D"] * 3, "Flatten", "Dense", "Dropout", "Dense"]
    assert [layer.filters for layer in model.layers[:5:2]] == [32, 64, 194]
    # 150 pixels are halved, rounding down, to 18.
    convolutions = (9 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 194
    assert model.count_params() == convolutions + (18 * 18 * 194 + 1) * 194 + (194 + 1) * 4


def test_the_variant_with_dropout_drops_after_each_pooling():
    model = alhassan((16, 16, 1), 4, pool_dropout=0.25, seed=0)
    assert kinds(model)[:9] == ["Conv2D", "MaxPooling2D", "Dropout"] * 3
    assert [layer.rate for layer in model.layers if "dropout" in layer.name] == [0.25] * 3 + [0.5]


@pytest.mark.parametrize("size", [8, 33, 64])
def test_any_size_gives_probabilities(size):
    images = np.random.default_rng(0).random((3, size, size, 1), np.float32)
    found = alhassan((size, size, 1), 4, widths=(4, 4, 4), dense=8, seed=0)(images).numpy()
    assert found.shape == (3, 4)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_a_regressor_has_a_linear_output():
    model = alhassan((16, 16, 1), 1, activation=None, seed=0)
    assert model.layers[-1].activation.__name__ == "linear"


def test_the_seed_decides_the_weights():
    first, again, other = (
        alhassan((8, 8, 1), 2, widths=(4,), dense=4, seed=seed).get_weights() for seed in (1, 1, 2)
    )
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first[0] != other[0]).any()


def test_too_small_an_image_is_an_error_that_names_its_size():
    with pytest.raises(ValueError, match="7 pixels are too few for 3 blocks"):
        alhassan((7, 9, 1), 4, seed=0)
