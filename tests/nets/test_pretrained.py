"""A classifier on a pre-trained network: what is trained further, and what stays."""

import numpy as np
import pytest

from skyloom.nets.folded_cnn import folded_cnn
from skyloom.nets.pretrained import classifier_on

RADII, TARGETS, CLASSES = 8, 5, 3
RNG = np.random.default_rng(0)
PROFILES = RNG.normal(size=(64, RADII, 1)).astype("float32")
LABELS = np.arange(64) % CLASSES


def backbone():
    """A network that predicts numbers, whose averages are no longer those of a new one."""
    model = folded_cnn((RADII, 1), TARGETS, widths=(4,), activation=None, seed=3)
    model.set_weights([w + 0.5 * np.abs(RNG.normal(size=w.shape)) for w in model.get_weights()])
    return model


def trained(model, epochs=3):
    import keras

    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.AdamW(1e-2), "sparse_categorical_crossentropy")
    model.fit(PROFILES, LABELS, batch_size=16, epochs=epochs, verbose=0)
    return model


def moving_averages(network):
    return [
        np.asarray(weight)
        for layer in network.layers
        if type(layer).__name__ == "BatchNormalization"
        for weight in (layer.moving_mean, layer.moving_variance)
    ]


def changed(network, before):
    pairs = zip(network.get_weights(), before, strict=True)
    return [not np.array_equal(now, then) for now, then in pairs]


def test_frozen_training_leaves_the_pretrained_network_as_it_was():
    network = backbone()
    before = network.get_weights()
    model = classifier_on(network, CLASSES, frozen=True, seed=0)
    last = model.layers[-1].get_weights()
    trained(model)
    assert not any(changed(network, before))
    assert (model.layers[-1].get_weights()[0] != last[0]).any()


def test_fine_tuning_changes_convolutions_and_dense_layers():
    network = backbone()
    names = [weight.path for weight in network.weights]
    before = network.get_weights()
    trained(classifier_on(network, CLASSES, frozen=False, seed=0))
    different = dict(zip(names, changed(network, before), strict=True))
    assert all(value for name, value in different.items() if name.endswith("kernel"))


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_normalisation_keeps_the_averages_of_the_pretraining(frozen):
    network = backbone()
    before = moving_averages(network)
    assert len(before) == 4
    trained(classifier_on(network, CLASSES, frozen=frozen, seed=0))
    for now, then in zip(moving_averages(network), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("frozen", [True, False])
def test_training_and_use_are_the_same_for_dropout_and_averages_are_off(frozen):
    model = classifier_on(backbone(), CLASSES, frozen=frozen, seed=0)
    in_training = np.asarray(model(PROFILES, training=True))
    np.testing.assert_allclose(in_training, np.asarray(model(PROFILES)), rtol=1e-5)


def test_dropout_of_a_network_from_scratch_is_on():
    model = folded_cnn((RADII, 1), CLASSES, widths=(4,), seed=0)
    in_training = np.asarray(model(PROFILES, training=True))
    assert not np.allclose(in_training, np.asarray(model(PROFILES)))


@pytest.mark.parametrize("frozen", [True, False])
def test_outputs_are_probabilities_of_the_classes(frozen):
    model = classifier_on(backbone(), CLASSES, frozen=frozen, seed=0)
    probability = np.asarray(model(PROFILES))
    assert probability.shape == (64, CLASSES)
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)


def test_the_new_layer_reads_what_the_pretrained_network_says():
    network = backbone()
    model = classifier_on(network, CLASSES, frozen=True, seed=0)
    kernel, bias = model.layers[-1].get_weights()
    assert kernel.shape == (TARGETS, CLASSES)
    logits = np.asarray(network(PROFILES)) @ kernel + bias
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = exponential / exponential.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(model(PROFILES)), expected, rtol=1e-4, atol=1e-6)


def test_the_seed_decides_the_new_layer():
    def kernel(seed):
        model = classifier_on(backbone(), CLASSES, frozen=True, seed=seed)
        return model.layers[-1].get_weights()[0]

    np.testing.assert_array_equal(kernel(4), kernel(4))
    assert (kernel(4) != kernel(5)).any()


def test_the_number_of_trainable_weights():
    frozen, tuned = (classifier_on(backbone(), CLASSES, frozen=f, seed=0) for f in (True, False))
    assert len(frozen.trainable_variables) == 2
    assert len(tuned.trainable_variables) == 2 + 6  # three kernels and their biases


def test_it_survives_being_saved(tmp_path):
    import keras

    model = trained(classifier_on(backbone(), CLASSES, frozen=False, seed=0), epochs=1)
    keras.saving.save_model(model, tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(np.asarray(again(PROFILES)), np.asarray(model(PROFILES)), rtol=1e-5)
