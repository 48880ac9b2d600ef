"""Fitting one network: repeatability, reuse, early stopping, and one training for many lengths."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyloom.learning.fitting import (
    balanced_rows,
    fit_classifier,
    limit_threads,
    pack,
    predict,
    restart,
    unpack,
)
from skyloom.nets.ring_cnn import ring_cnn

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't:DeprecationWarning"
)

SETTINGS = {"epochs": [3], "batch_size": 16, "patience": None, "min_epochs": 1, "seed": 0}
RATE = 1e-3


def toy(n, seed, strength=2.0):
    """Images whose left or right half is brighter."""
    rng = np.random.default_rng(seed)
    classes = np.arange(n, dtype=np.int32) % 2
    images = rng.normal(0, 0.3, (n, 6, 6, 1)).astype(np.float32)
    images[classes == 0, :, :3] += strength
    images[classes == 1, :, 3:] += strength
    return images, classes


def untrained(seed=0):
    """With batch normalisation and dropout: both have a state of their own."""
    return ring_cnn((6, 6, 1), 2, widths=(4,), padding="same", seed=seed)


def network(seed=0, rate=RATE):
    import keras

    model = untrained(seed)
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=1e-5),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


@functools.cache
def used_network():
    """Compiled once for all tests, which saves most of their time; every fit goes on with it."""
    return network()


def reused(seed=0, rate=RATE):
    restart(used_network(), untrained(seed), rate)
    return used_network()


def fit(model, train, validation, **changed):
    return fit_classifier(model, train, validation, **SETTINGS | changed)


def assert_same_weights(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_other_weights(first, second):
    assert any((a != b).any() for a, b in zip(first, second, strict=True))


# --- learning -------------------------------------------------------------------------------------


def test_a_separable_set_is_learnt_and_recognised_on_unseen_images():
    test, model = toy(40, 2), reused()
    (snapshot,), history = fit(model, toy(64, 0), toy(16, 1), epochs=[12])
    model.set_weights(snapshot.weights)
    assert (predict(model, test[0]).argmax(axis=1) == test[1]).mean() > 0.9
    assert history["loss"].iloc[-1] < 0.5 * history["loss"].iloc[0]


def test_history_counts_epochs_from_one_and_has_all_four_curves():
    _, history = fit(reused(), toy(16, 0), toy(8, 1))
    assert history["epoch"].tolist() == [1, 2, 3]
    assert set(history) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}


def test_batches_have_the_given_size():
    model = reused()
    fit(model, toy(16, 0), toy(4, 1), batch_size=5, epochs=[2])
    assert int(model.optimizer.iterations) == 2 * 4


def test_training_images_are_shuffled_even_if_sorted_by_class():
    # Batches of a single class, one after another, would teach nothing that lasts.
    images, classes = toy(64, 0)
    order = np.argsort(classes, kind="stable")
    _, history = fit(reused(), (images[order], classes[order]), toy(16, 1), epochs=[12])
    assert history["loss"].iloc[-1] < 0.3


def test_without_validation_objects_all_epochs_are_trained():
    model = reused()
    (snapshot,), history = fit(model, toy(32, 0), None, patience=1, epochs=[6])
    assert snapshot.best_epoch == len(history) == 6
    assert_same_weights(snapshot.weights, model.get_weights())
    assert "val_loss" not in history


def test_validation_objects_have_no_part_in_what_is_learnt():
    train = toy(32, 0, 0.3)
    ((with_one,), _), ((with_other,), _), ((without,), _) = (
        fit(reused(), train, validation) for validation in (toy(8, 1), toy(20, 2), None)
    )
    assert_same_weights(with_one.weights, with_other.weights)
    assert_same_weights(with_one.weights, without.weights)


# --- repeatability and reuse ----------------------------------------------------------------------


def test_same_seed_gives_identical_weights_and_another_seed_does_not():
    train, validation = toy(48, 0, 0.3), toy(16, 1, 0.3)

    def run(seed):
        (snapshot,), history = fit(network(seed), train, validation, seed=seed)
        return snapshot.weights, history

    first, again, other = run(1), run(1), run(2)
    assert_same_weights(first[0], again[0])
    assert first[1].equals(again[1])
    assert_other_weights(first[0], other[0])


def test_the_seed_also_orders_the_batches():
    train, validation = toy(48, 0, 0.3), toy(16, 1, 0.3)
    first, other = (fit(reused(), train, validation, seed=seed)[1]["loss"] for seed in (1, 2))
    assert not first.equals(other)


def test_the_random_state_of_the_process_does_not_matter():
    import keras

    fits = []
    for state in (1, 2):
        keras.utils.set_random_seed(state)
        fits.append(fit(reused(), toy(48, 0, 0.3), toy(16, 1, 0.3)))
    ((first,), history), ((second,), other_history) = fits
    assert history.equals(other_history)
    assert_same_weights(first.weights, second.weights)


@pytest.mark.parametrize("patience", [None, 1])
def test_a_network_used_before_gives_the_very_same_as_a_new_one(patience):
    train, validation = toy(48, 0, 0.3), toy(16, 1, 0.3)
    settings = {"epochs": [2, 5], "patience": patience, "seed": 4}
    expected, expected_history = fit(network(7, 3e-3), train, validation, **settings)
    # Whatever came before: other data, another rate, another seed, a network that diverged.
    for rate, seed in ((1e-2, 1), (1e12, 2)):
        fit(reused(seed, rate), toy(30, 5), toy(10, 6), seed=seed)
        snapshots, history = fit(reused(7, 3e-3), train, validation, **settings)
        assert history.equals(expected_history)
        for snapshot, other in zip(snapshots, expected, strict=True):
            assert snapshot.best_epoch == other.best_epoch
            assert_same_weights(snapshot.weights, other.weights)


def test_a_restarted_network_has_the_state_of_the_fresh_one_and_the_given_rate():
    model = used_network()
    fit(reused(1, 1e-2), toy(30, 5), toy(10, 6))
    fresh = untrained(9)
    restart(model, fresh, 2e-4)
    assert_same_weights(model.get_weights(), fresh.get_weights())
    for variable, other in zip(model.variables, fresh.variables, strict=True):
        np.testing.assert_array_equal(variable, other)
    assert float(model.optimizer.learning_rate) == pytest.approx(2e-4)
    assert int(model.optimizer.iterations) == 0
    momenta = [v for v in model.optimizer.variables if not v.path.endswith("learning_rate")]
    assert len(momenta) > 2
    assert all((np.asarray(v) == 0).all() for v in momenta)


def test_a_restart_leaves_the_fresh_network_alone():
    fresh = untrained(9)
    before = fresh.get_weights()
    restart(used_network(), fresh, RATE)
    fit(used_network(), toy(30, 5), toy(10, 6))
    assert_same_weights(fresh.get_weights(), before)


def test_snapshots_stay_as_they_were_when_the_network_goes_on():
    train, validation = toy(48, 0, 0.3), toy(16, 1, 0.3)
    snapshots, _ = fit(reused(), train, validation, epochs=[1, 3])
    kept = [[weights.copy() for weights in snapshot.weights] for snapshot in snapshots]
    fit(reused(3, 1e-1), train, validation)
    for snapshot, weights in zip(snapshots, kept, strict=True):
        assert_same_weights(snapshot.weights, weights)
    assert_other_weights(kept[0], kept[1])


# --- early stopping, with losses as the test wants them -------------------------------------------


@functools.cache
def scripted():
    """A network with one weight, set before each epoch so that the loss is the scripted one.

    It says class 1, which is always true, with probability sigmoid(w).
    """
    import keras

    class Scripted(keras.Model):
        script = ()

        def __init__(self):
            super().__init__()
            self.w = self.add_weight(shape=(), initializer="zeros", trainable=True)

        def call(self, x):
            p = keras.ops.sigmoid(self.w) * keras.ops.ones_like(x[:, 0, 0, :1])
            return keras.ops.concatenate([1 - p, p], axis=1)

        def fit(self, *args, callbacks, **kwargs):
            def set_weight(epoch, logs=None):
                p = np.exp(-self.script[epoch])
                self.w.assign(np.log(p / (1 - p)))

            # Weights change only here: the learning rate is negligible.
            setter = keras.callbacks.LambdaCallback(on_epoch_begin=set_weight)
            return super().fit(*args, callbacks=[setter, *callbacks], **kwargs)

    model = Scripted()
    model.compile(
        keras.optimizers.SGD(0.0), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def fit_scripted(losses, lengths=None, **changed):
    """Best epoch and loss of the kept weights for every length, and the epochs trained."""
    model = scripted()
    model.script = tuple(losses)
    ones = np.zeros((4, 2, 2, 1), np.float32), np.ones(4, np.int32)
    snapshots, history = fit(model, ones, ones, epochs=lengths or [len(losses)], **changed)
    kept = []
    for snapshot in snapshots:
        (w,) = snapshot.weights
        kept.append((snapshot.best_epoch, round(float(np.log1p(np.exp(-w))), 4)))
    return kept, len(history)


@pytest.mark.parametrize(
    ("losses", "settings", "kept", "trained"),
    [
        # Stopped before the still better epoch.
        ([0.9, 0.4, 0.6, 0.7, 0.8, 0.3], {"patience": 3}, (2, 0.4), 5),
        ([0.9, 0.4, 0.6, 0.7, 0.3, 0.8], {"patience": 3}, (5, 0.3), 6),
        # The best is kept also if training runs to its end.
        ([0.9, 0.4, 0.5], {"patience": 5}, (2, 0.4), 3),
        # Of equals the first.
        ([0.9, 0.4, 0.4, 0.4], {"patience": 2}, (2, 0.4), 4),
        # Epochs before min_epochs are neither kept nor counted.
        ([0.1, 0.2, 0.9, 0.6, 0.7, 0.8, 0.5], {"patience": 2, "min_epochs": 3}, (4, 0.6), 6),
        # The epoch min_epochs itself can be the best.
        ([0.1, 0.2, 0.5, 0.6, 0.7, 0.4], {"patience": 2, "min_epochs": 3}, (3, 0.5), 5),
        # With fewer epochs than that the last one is kept.
        ([0.5, 0.2, 0.3], {"patience": 2, "min_epochs": 10}, (3, 0.3), 3),
        # Without patience all epochs are trained and the last weights kept.
        ([0.9, 0.2, 0.5, 0.7], {"patience": None}, (4, 0.7), 4),
        ([0.9, 0.2, 0.5, 0.7], {"patience": None, "min_epochs": 9}, (4, 0.7), 4),
    ],
)
def test_early_stopping_keeps_the_best_epoch_from_min_epochs_on(losses, settings, kept, trained):
    assert fit_scripted(losses, **settings) == ([kept], trained)


NAN = float("nan")


@pytest.mark.parametrize(
    ("losses", "settings", "best", "trained"),
    [
        ([NAN, NAN, NAN], {"patience": 1}, 1, 2),
        ([NAN, NAN, NAN, NAN], {"patience": 1, "min_epochs": 3}, 3, 4),
        ([NAN, NAN, NAN], {"patience": None}, 3, 3),
        # A loss that comes back is better than none, and none is never better.
        ([NAN, 0.8, NAN, NAN], {"patience": 5}, 2, 4),
        ([0.8, NAN, NAN, NAN], {"patience": 2}, 1, 3),
        ([0.1, NAN, 0.7, 0.9], {"patience": 5, "min_epochs": 2}, 3, 4),
    ],
)
def test_an_epoch_without_a_loss_is_kept_only_as_long_as_there_is_no_other(
    losses, settings, best, trained
):
    ((found, _),), n = fit_scripted(losses, **settings)
    assert (found, n) == (best, trained)


@pytest.mark.parametrize("patience", [None, 1])
def test_a_network_that_diverges_is_a_result_and_not_a_crash(patience):
    (snapshot,), history = fit(reused(0, 1e12), toy(32, 0), toy(8, 1), patience=patience)
    assert history["val_loss"].isna().all()
    assert snapshot.best_epoch == (3 if patience is None else 1)
    assert len(snapshot.weights) == len(used_network().get_weights())


# --- one training for many lengths ----------------------------------------------------------------


@pytest.mark.parametrize("patience", [None, 2])
def test_snapshots_equal_separate_trainings_of_their_lengths(patience):
    train, validation = toy(48, 0, 0.1), toy(16, 1, 0.1)
    settings = {"patience": patience, "min_epochs": 2, "seed": 3}
    lengths = [2, 4, 9]
    together, history = fit(reused(3, 1e-2), train, validation, epochs=lengths, **settings)
    for length, snapshot in zip(lengths, together, strict=True):
        (alone,), own = fit(reused(3, 1e-2), train, validation, epochs=[length], **settings)
        assert snapshot.best_epoch == alone.best_epoch
        assert_same_weights(snapshot.weights, alone.weights)
        assert own.equals(history.head(length))
    if patience is None:
        assert_other_weights(together[0].weights, together[2].weights)


LENGTHS = [2, 5, 8]


@pytest.mark.parametrize(
    ("patience", "min_epochs"), [(None, 1), (1, 1), (2, 1), (3, 2), (1, 2), (2, 4), (1, 6), (2, 20)]
)
def test_lengths_share_a_training_whatever_its_losses_are(patience, min_epochs):
    rng = np.random.default_rng(5)
    for _ in range(2):
        losses = rng.permutation(np.linspace(0.2, 0.9, 8))
        settings = {"patience": patience, "min_epochs": min_epochs}
        together, _ = fit_scripted(losses, LENGTHS, **settings)
        alone = [fit_scripted(losses, [length], **settings)[0][0] for length in LENGTHS]
        assert together == alone, losses


def test_snapshots_come_in_the_order_of_their_lengths():
    losses = [0.9, 0.8, 0.7, 0.6]
    kept, trained = fit_scripted(losses, [4, 1, 3, 1])
    assert kept == [(4, 0.6), (1, 0.9), (3, 0.7), (1, 0.9)]
    assert trained == 4


def test_lengths_after_the_stop_have_what_training_stopped_with():
    losses = [0.5, 0.3, 0.6, 0.7, 0.1, 0.1]
    kept, trained = fit_scripted(losses, [1, 2, 5, 6], patience=2)
    assert kept == [(1, 0.5), (2, 0.3), (2, 0.3), (2, 0.3)]
    assert trained == 4


# --- the rest -------------------------------------------------------------------------------------


def test_predictions_do_not_depend_on_the_size_of_the_chunks():
    model, (images, _) = reused(), toy(23, 0)
    expected = model(images, training=False)
    for chunk in (1024, 10, 23):
        found = predict(model, images, chunk=chunk)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_nothing_has_no_predictions_but_their_width():
    found = predict(used_network(), toy(4, 0)[0][:0])
    assert (found.shape, found.dtype) == ((0, 2), np.float32)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 99))
def test_balanced_rows_have_all_objects_and_every_class_as_often(classes, seed):
    classes = np.array(classes)
    rows = balanced_rows(classes, np.random.default_rng(seed))
    labels, counts = np.unique(classes, return_counts=True)
    assert set(rows) == set(range(len(classes)))
    found, times = np.unique(classes[rows], return_counts=True)
    assert found.tolist() == labels.tolist()
    assert set(times) == {counts.max()}
    # No object comes more than once more often than another of its class.
    repeats = np.bincount(rows)
    assert all(np.ptp(repeats[classes == label]) <= 1 for label in labels)
    again = balanced_rows(classes, np.random.default_rng(seed))
    assert rows.tolist() == again.tolist()


def test_chance_chooses_which_rows_come_once_more():
    classes = np.repeat([0, 1], [15, 10])
    chosen = {
        tuple(np.flatnonzero(np.bincount(balanced_rows(classes, np.random.default_rng(i))) == 2))
        for i in range(5)
    }
    assert len(chosen) > 1


def test_packed_arrays_come_back_in_their_order(tmp_path):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(i, 2)).astype(np.float32) for i in range(12)]
    np.savez(tmp_path / "r.npz", **pack(arrays, "weight"), history=np.zeros(3), weights=np.ones(1))
    with np.load(tmp_path / "r.npz") as content:
        found = unpack(dict(content), "weight")
    assert_same_weights(found, arrays)
    assert unpack({"history": np.zeros(3)}, "weight") == []


def test_weights_of_a_network_survive_packing():
    model = reused(5)
    weights = model.get_weights()
    fit(model, toy(16, 0), toy(4, 1))
    model.set_weights(unpack(pack(weights, "w"), "w"))
    assert_same_weights(model.get_weights(), untrained(5).get_weights())


def test_threads_are_limited_before_the_first_operation():
    script = (
        "from skyloom.learning.fitting import limit_threads; limit_threads(1)\n"
        "import tensorflow as tf; c = tf.config.threading; tf.constant(1) + 1\n"
        "print(c.get_intra_op_parallelism_threads(), c.get_inter_op_parallelism_threads())"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, timeout=120, check=True, env=os.environ,
    )  # fmt: skip
    assert run.stdout.split() == ["1", "1"]


def test_threads_cannot_be_limited_later_which_is_no_error():
    import tensorflow as tf

    _ = tf.constant(1) + 1
    before = tf.config.threading.get_intra_op_parallelism_threads()
    limit_threads(before + 3)
    assert tf.config.threading.get_intra_op_parallelism_threads() == before
