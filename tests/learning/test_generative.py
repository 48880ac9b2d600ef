"""Networks that make images: they learn, and a training that was stopped goes on as it was."""

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


# --- the checkpoint that is used ------------------------------------------------------------------


def piece(error, verdict="", n_epochs=2, last=2, weight=0.0):
    """Of a training, as `train_in_pieces` yields it."""
    epochs = np.arange(last - n_epochs + 1, last + 1)
    return {
        "history": np.column_stack([epochs, 0.5 + 0 * epochs, 0.7 + 0 * epochs]),
        "error": np.array(error),
        "diversity": np.array(0.3),
        "verdict": np.array(verdict),
        "frame": np.full((2, 2), weight),
        "state_0": np.array([weight]),
        "state_1": np.array([weight + 1]),
    }


def chosen_of(**trainings):
    """Pieces of trainings side by side: name to a list of (error, verdict)."""
    pieces = [
        (name, 2 * number, piece(*given, last=2 * number, weight=number))
        for number in range(1, 4)
        for name, all_given in trainings.items()
        for given in [all_given[number - 1]]
    ]
    return choose_checkpoints(
        iter(pieces), measured=("error", "diversity"), verdict=lambda each: str(each["verdict"])
    )


def test_of_each_training_the_checkpoint_with_the_smallest_error_is_used():
    chosen, history, frames = chosen_of(
        one=[(0.5, ""), (0.2, ""), (0.3, "")], two=[(0.1, ""), (0.2, ""), (0.1, "")]
    )
    # Of equals the first.
    assert {name: each.epoch for name, each in chosen.items()} == {"one": 4, "two": 2}
    assert [array.tolist() for array in chosen["one"].state] == [[2], [3]]
    assert (chosen["one"].frame == 2).all()
    assert [last for last, _ in frames["two"]] == [2, 4, 6]
    own = history[history["name"] == "one"].set_index("epoch")
    assert own.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert own.index[own["chosen"]].tolist() == [4]
    assert own["error"].dropna().to_dict() == {2: 0.5, 4: 0.2, 6: 0.3}
    assert own["diversity"].notna().sum() == 3


@pytest.mark.parametrize(
    ("given", "epoch", "verdict"),
    [
        ([(0.1, "all alike"), (0.2, ""), (0.3, "")], 4, ""),
        ([(0.1, "diverged"), (0.2, "diverged"), (0.3, "all alike")], 6, "all alike"),
        ([(0.1, "diverged"), (0.2, "all alike"), (0.3, "all alike")], 4, "all alike"),
        ([(0.3, "diverged"), (0.2, "diverged"), (0.1, "diverged")], 6, "diverged"),
    ],
)
def test_one_with_a_verdict_is_taken_only_where_there_is_no_better_one(
    given, epoch, verdict, caplog
):
    chosen, history, _ = chosen_of(one=given)
    assert (chosen["one"].epoch, chosen["one"].verdict) == (epoch, verdict)
    told = history.set_index("epoch")["verdict"]
    assert told[[2, 4, 6]].tolist() == [words for _, words in given]
    assert set(told[[1, 3, 5]]) == {""}
    assert bool(caplog.messages) == bool(verdict)
    if verdict:
        assert caplog.messages == [f"one: {verdict} in every checkpoint"]
