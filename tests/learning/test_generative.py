"""Networks that make images: they learn, go on after a stop, and the best of them is used."""

import numpy as np
import pytest

from skyloom.learning.generative import (
    KINDS,
    SPECTRAL_KINDS,
    build_pair,
    choose_checkpoints,
    make_images,
    train_pair,
)

SIZE = 16
CLASSES = np.arange(48) % 2


def blobs():
    """Round sources: small ones in the middle, and wide ones."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    width = np.where(CLASSES == 0, 1.0, 3.0)[:, None, None]
    return np.exp(-(x**2 + y**2) / (2 * width**2))[..., None].astype(np.float32)


def pair_of(kind, **changes):
    settings = {
        "kind": kind, "size": SIZE, "n_classes": 2, "latent": 4, "width": 16,
        "learning_rate": 2e-3, "kl_weight": 1.0, "seed": 0,
    }  # fmt: skip
    return build_pair(**settings | changes)


def set_state(pair, state):
    for variable, value in zip(pair.variables, state, strict=True):
        variable.assign(value)


def train(pair, epochs):
    return train_pair(pair, blobs(), CLASSES, epochs=epochs, batch_size=16, rotate=True, seed=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_taken_up_again_goes_on_as_if_it_had_not_stopped(kind):
    pair = pair_of(kind)
    set_state(pair, pair.untrained)
    at_once = train(pair, range(3))
    whole = [np.array(variable) for variable in pair.variables]

    set_state(pair, pair.untrained)
    first = train(pair, range(1))
    state = [np.array(variable) for variable in pair.variables]
    build_pair.cache_clear()  # another process
    again = pair_of(kind)
    set_state(again, state)
    rest = train(again, range(1, 3))
    np.testing.assert_allclose(
        np.concatenate([first, rest]), at_once.to_numpy(), rtol=1e-4, atol=1e-6
    )
    for one, other in zip(again.variables, whole, strict=True):
        np.testing.assert_allclose(np.array(one), other, rtol=1e-3, atol=1e-5)
    assert list(rest["epoch"]) == [2, 3]


@pytest.mark.parametrize("kind", KINDS + SPECTRAL_KINDS)
def test_networks_begin_alike_in_every_process(kind):
    first = pair_of(kind).untrained
    build_pair.cache_clear()
    for one, other in zip(first, pair_of(kind).untrained, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_autoencoder_learns_what_the_classes_look_like():
    pair = pair_of("vae")
    set_state(pair, pair.untrained)
    history = train(pair, range(40))
    assert history["loss_1"].iloc[-1] < 0.5 * history["loss_1"].iloc[0]
    made = make_images(pair.maker, np.repeat([0, 1], 20), np.random.default_rng(0))
    assert made.shape == (40, SIZE, SIZE, 1)
    assert made.min() >= 0
    assert made.max() <= 1
    light = made.sum(axis=(1, 2, 3))
    assert light[20:].mean() > 2 * light[:20].mean()  # wide sources have more of it


def test_the_adversaries_pull_in_opposite_directions():
    pair = pair_of("dcgan")
    set_state(pair, pair.untrained)
    before = [np.array(v) for v in pair.maker.trainable_variables]
    history = train(pair, range(6))
    assert np.isfinite(history.to_numpy()).all()
    assert history["loss_2"].iloc[-1] < history["loss_2"].iloc[0]  # it tells them apart
    after = [np.array(v) for v in pair.maker.trainable_variables]
    moved = [np.abs(a - b).max() for a, b in zip(after, before, strict=True)]
    assert min(moved) > 0


def test_the_same_latent_numbers_give_the_same_images_in_any_chunks():
    pair = pair_of("vae")
    one = make_images(pair.maker, CLASSES, np.random.default_rng(5))
    other = make_images(pair.maker, CLASSES, np.random.default_rng(5), chunk=7)
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert make_images(pair.maker, CLASSES[:0], np.random.default_rng(0)).shape == (0, 16, 16, 1)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind 'gan' is none of dcgan, vae"):
        pair_of("gan")


# --- which checkpoint is used ---------------------------------------------------------------------


def piece(error, diversity=1.0, loss=1.0):
    """Function that makes the result of a piece of two epochs from its last one."""

    def ending_at(epoch):
        return {
            "history": np.array([[epoch - 1, 0.5, 0.5], [epoch, loss, 0.5]]),
            "error": np.array(error),
            "diversity": np.array(diversity),
            "frame": np.full((1, 2), epoch),
            "state_0": np.array([float(epoch)]),
        }

    return ending_at


def choose(**trainings):
    pieces = [
        (name, 2 * number, make(2 * number))
        for name, makers in trainings.items()
        for number, make in enumerate(makers, 1)
    ]

    def verdict(result):
        if not np.isfinite(result["history"]).all():
            return "diverged"
        return "collapsed" if result["diversity"] < 0.2 else ""

    return choose_checkpoints(pieces, measured=("error", "diversity"), verdict=verdict)


COLLAPSED = {"diversity": 0.1}
DIVERGED = {"loss": np.nan}


@pytest.mark.parametrize(
    ("makers", "epoch", "verdict"),
    [
        ([piece(0.5), piece(0.3), piece(0.4)], 4, ""),
        ([piece(0.3), piece(0.3)], 2, ""),  # of equals the first
        ([piece(0.5), piece(0.1, **COLLAPSED)], 2, ""),
        ([piece(0.5, **COLLAPSED), piece(0.1, **COLLAPSED)], 4, "collapsed"),
        ([piece(0.1, **DIVERGED), piece(0.5, **COLLAPSED)], 4, "collapsed"),
        ([piece(np.nan, **DIVERGED)], 2, "diverged"),
    ],
)
def test_the_checkpoint_that_is_most_like_the_training_is_used(makers, epoch, verdict, caplog):
    chosen, history, frames = choose(gan=makers)
    assert (chosen["gan"].epoch, chosen["gan"].verdict) == (epoch, verdict)
    assert chosen["gan"].state == [np.array([float(epoch)])]
    assert history.loc[history["chosen"], "epoch"].tolist() == [epoch]
    assert len(frames["gan"]) == len(makers)
    # A user is told where nothing better was found.
    assert ("in every checkpoint" in caplog.text) == (verdict != "")


def test_every_training_has_its_own_history():
    chosen, history, frames = choose(one=[piece(0.5), piece(0.2)], other=[piece(0.1), piece(0.9)])
    assert {name: each.epoch for name, each in chosen.items()} == {"one": 4, "other": 2}
    assert history["name"].tolist() == ["one"] * 4 + ["other"] * 4
    # What is measured of a checkpoint stands in the row of its last epoch.
    assert history["error"].dropna().tolist() == [0.5, 0.2, 0.1, 0.9]
    assert history.loc[history["error"].notna(), "epoch"].tolist() == [2, 4, 2, 4]
    assert [last for last, _ in frames["other"]] == [2, 4]
