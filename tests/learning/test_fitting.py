"""Fitting one network: settings, learning, repeatability and early stopping."""

import numpy as np
import pytest

from skyloom.learning.fitting import fit_classifier
from skyloom.nets.ring_cnn import ring_cnn

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't:DeprecationWarning"
)

SETTINGS = {
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "weight_decay": 1e-5,
    "patience": None,
    "min_epochs": 1,
    "seed": 0,
}


def toy(n, seed, strength=2.0):
    """Images whose left or right half is brighter."""
    rng = np.random.default_rng(seed)
    classes = np.arange(n, dtype=np.int32) % 2
    images = rng.normal(0, 0.3, (n, 6, 6, 1)).astype(np.float32)
    images[classes == 0, :, :3] += strength
    images[classes == 1, :, 3:] += strength
    return images, classes


def network(seed=0):
    return lambda: ring_cnn((6, 6, 1), 2, widths=(4,), padding="same", seed=seed)


def scripted(losses):
    """A network with one weight, which the test sets, and the validation losses to go with it.

    The network says class 1 with probability sigmoid(w); before each epoch w is set so that the
    validation loss is the scripted one.
    """
    import keras

    class Scripted(keras.Model):
        def __init__(self):
            super().__init__()
            self.w = self.add_weight(shape=(), initializer="zeros", trainable=True)
            self.epoch = 0

        def call(self, x):
            p = keras.ops.sigmoid(self.w) * keras.ops.ones_like(x[:, 0, 0, :1])
            return keras.ops.concatenate([1 - p, p], axis=1)

        def fit(self, *args, callbacks, **kwargs):
            def set_weight(epoch, logs=None):
                p = np.exp(-losses[epoch])
                self.w.assign(np.log(p / (1 - p)))

            # Weights change only here: the learning rate is negligible.
            setter = keras.callbacks.LambdaCallback(on_epoch_begin=set_weight)
            return super().fit(*args, callbacks=[setter, *callbacks], **kwargs)

    return Scripted


def fit_scripted(losses, **settings):
    ones = np.zeros((4, 2, 2, 1), np.float32), np.ones(4, np.int32)
    chosen = SETTINGS | {"epochs": len(losses), "learning_rate": 1e-12, "weight_decay": 0.0}
    fit = fit_classifier(scripted(losses), ones, ones, **(chosen | settings))
    kept = float(-np.log(np.asarray(fit.model(ones[0]))[0, 1]))
    return fit, kept


def test_a_separable_set_is_learnt_and_recognised_on_unseen_images():
    test = toy(40, 2)
    settings = SETTINGS | {"epochs": 12}
    fit = fit_classifier(network(), toy(64, 0), toy(16, 1), **settings)
    predicted = fit.model.predict(test[0], verbose=0).argmax(axis=1)
    assert (predicted == test[1]).mean() > 0.9
    assert fit.history["loss"].iloc[-1] < 0.5 * fit.history["loss"].iloc[0]


def test_history_counts_epochs_from_one_and_has_all_four_curves():
    fit = fit_classifier(network(), toy(16, 0), toy(8, 1), **SETTINGS)
    assert fit.history["epoch"].tolist() == [1, 2, 3]
    assert set(fit.history) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}


def test_the_optimiser_is_adamw_with_the_given_settings():
    import keras

    settings = SETTINGS | {"epochs": 1, "learning_rate": 3e-4, "weight_decay": 2e-3}
    optimiser = fit_classifier(network(), toy(8, 0), toy(4, 1), **settings).model.optimizer
    assert type(optimiser) is keras.optimizers.AdamW
    assert float(optimiser.learning_rate) == pytest.approx(3e-4)
    assert optimiser.weight_decay == pytest.approx(2e-3)


def test_batches_have_the_given_size():
    settings = SETTINGS | {"epochs": 2, "batch_size": 5}
    fit = fit_classifier(network(), toy(16, 0), toy(4, 1), **settings)
    assert int(fit.model.optimizer.iterations) == 2 * 4


def test_same_seed_gives_identical_weights_and_predictions_and_another_seed_does_not():
    train, validation, test = toy(48, 0, 0.3), toy(16, 1, 0.3), toy(20, 2, 0.3)

    def run(seed):
        fit = fit_classifier(network(seed), train, validation, **(SETTINGS | {"seed": seed}))
        return fit.model.get_weights(), fit.model.predict(test[0], verbose=0), fit.history

    first, again, other = run(1), run(1), run(2)
    for a, b in zip(first[0], again[0], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(first[1], again[1])
    assert first[2].equals(again[2])
    assert (first[1] != other[1]).any()


def test_the_seed_also_orders_the_batches():
    train, validation = toy(48, 0, 0.3), toy(16, 1, 0.3)
    losses = [
        fit_classifier(network(0), train, validation, **(SETTINGS | {"seed": s})).history["loss"]
        for s in (1, 2)
    ]
    assert not losses[0].equals(losses[1])


def test_training_images_are_shuffled_even_if_sorted_by_class():
    # Batches of a single class, one after another, would teach nothing that lasts.
    images, classes = toy(64, 0)
    order = np.argsort(classes, kind="stable")
    settings = SETTINGS | {"epochs": 12}
    fit = fit_classifier(network(), (images[order], classes[order]), toy(16, 1), **settings)
    assert fit.history["loss"].iloc[-1] < 0.3


def test_early_stopping_keeps_the_weights_of_the_best_validation_epoch():
    fit, kept = fit_scripted([0.9, 0.4, 0.6, 0.7, 0.8, 0.3], patience=3)
    assert len(fit.history) == 5  # stopped before the still better epoch
    assert fit.best_epoch == 2
    assert kept == pytest.approx(0.4, abs=1e-4)


def test_epochs_before_min_epochs_are_neither_kept_nor_counted_for_stopping():
    fit, kept = fit_scripted([0.1, 0.2, 0.9, 0.6, 0.7, 0.8, 0.5], patience=2, min_epochs=3)
    assert fit.best_epoch == 4
    assert len(fit.history) == 6
    assert kept == pytest.approx(0.6, abs=1e-4)


def test_the_epoch_min_epochs_itself_can_be_the_best():
    fit, kept = fit_scripted([0.1, 0.2, 0.5, 0.6, 0.7, 0.4], patience=2, min_epochs=3)
    assert (len(fit.history), fit.best_epoch) == (5, 3)
    assert kept == pytest.approx(0.5, abs=1e-4)


def test_the_best_epoch_is_kept_also_if_training_runs_to_its_end():
    fit, kept = fit_scripted([0.9, 0.4, 0.5], patience=5)
    assert (len(fit.history), fit.best_epoch) == (3, 2)
    assert kept == pytest.approx(0.4, abs=1e-4)


def test_without_patience_all_epochs_are_trained_and_the_last_weights_kept():
    fit, kept = fit_scripted([0.9, 0.2, 0.5, 0.7], patience=None)
    assert (len(fit.history), fit.best_epoch) == (4, 4)
    assert kept == pytest.approx(0.7, abs=1e-4)


def test_with_fewer_epochs_than_min_epochs_the_last_one_is_kept():
    fit, kept = fit_scripted([0.5, 0.2, 0.3], patience=2, min_epochs=10)
    assert (len(fit.history), fit.best_epoch) == (3, 3)
    assert kept == pytest.approx(0.3, abs=1e-4)


@pytest.mark.parametrize("patience", [None, 1])
def test_a_network_that_diverges_is_a_result_and_not_a_crash(patience):
    settings = SETTINGS | {"learning_rate": 1e12, "patience": patience}
    fit = fit_classifier(network(), toy(32, 0), toy(8, 1), **settings)
    assert fit.history["val_loss"].isna().all()
    assert fit.best_epoch == (3 if patience is None else 1)
