"""Training of networks that make images or spectra, in pieces that can be taken up after any stop.

The state of a training is a list of arrays: all weights, the averages of the optimisers and the
counters of the dropout. Every other random number follows from the seed and the epoch.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom.compute import ClusterParameters
from skyloom.images.orientations import rotate_and_flip
from skyloom.learning.tasks import FailedTask, Finished, ResultStore, Task, run_all

logger = logging.getLogger(__name__)

KINDS = ("dcgan", "vae")
SPECTRAL_KINDS = ("spectral_gan", "published_gan")
_OF_A_PAIR = (
    "kind", "size", "n_classes", "latent", "width", "learning_rate", "kl_weight", "seed",
)  # fmt: skip
_FASTER = 4.0
_PUBLISHED_FAKES = 3  # made spectra in a gradient step beside each real one


class Training(NamedTuple):
    """One training of a pair.

    Attributes
    ----------
    settings : dict
        Plain values that `continue_training` needs, but the epochs; ``images`` names what it is
        trained on.
    arrays : dict of str to numpy.ndarray
        Small arrays of this training, such as the classes of the images.
    epochs : int
        In all; not among the settings, so that a longer training goes on from a shorter one.
    """

    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]
    epochs: int


class Pair(NamedTuple):
    """Two networks that are trained together.

    Attributes
    ----------
    maker : keras.Model
        Makes images: the generator, or the decoder.
    other : keras.Model
        The discriminator, or the encoder.
    variables : list
        Everything that the training changes.
    untrained : list of numpy.ndarray
        What the variables were at first.
    step : callable
        One gradient step: ``(images, classes, seed)`` to two losses.
    """

    maker: Any
    other: Any
    variables: list[Any]
    untrained: list[np.ndarray]
    step: Any


@functools.lru_cache(maxsize=4)
def build_pair(
    kind: str, size: int, n_classes: int, latent: int, width: int, learning_rate: float,
    kl_weight: float, seed: int,
) -> Pair:  # fmt: skip
    """Untrained networks with their optimisers.

    Parameters
    ----------
    kind : {"dcgan", "vae", "spectral_gan", "published_gan"}
        Adversarial networks, or a variational autoencoder; of images or of spectra.
    size, n_classes, latent, width
        As of `skyloom.nets.dcgan.generator`; pixels of a spectrum.
    learning_rate : float
        Of both.
    kl_weight : float
        Of the divergence between the latent numbers of the images and normal ones (VAE).
    seed : int
        Of the initial weights.

    Returns
    -------
    Pair
        Shared by all callers of this process: set its state before it is used.

    Raises
    ------
    ValueError
        If there is no such kind.
    """
    import keras

    from skyloom.nets import dcgan, spectral_gan, vae

    if kind not in KINDS + SPECTRAL_KINDS:
        msg = f"kind {kind!r} is none of {', '.join(KINDS + SPECTRAL_KINDS)}"
        raise ValueError(msg)
    published = kind == "published_gan"
    widths = (width // 4, width // 2, width)
    maker = _build_maker(kind, size, n_classes, latent, width, seed)
    nets = spectral_gan if kind in SPECTRAL_KINDS else dcgan
    if kind != "vae":
        other = (
            spectral_gan.published_discriminator(size, n_classes, seed=seed)
            if published
            else nets.discriminator(size, n_classes, widths=widths, seed=seed)
        )
        momentum = 0.9 if published else 0.5
        # A discriminator that learns faster (Heusel et al. 2017), where it is one of spectra.
        ratio = _FASTER if kind == "spectral_gan" else 1.0
        optimisers = [
            keras.optimizers.Adam(learning_rate * factor, beta_1=momentum)
            for factor in (1.0, ratio)
        ]
        for optimiser, model in zip(optimisers, (maker, other), strict=True):
            optimiser.build(model.trainable_variables)
        # One-sided smoothing (Salimans et al. 2016): 0.9 in place of 1.
        how = (_PUBLISHED_FAKES, 1.0) if published else (1, 0.9)
        step = _adversarial_step(maker, other, *optimisers, *how)
    else:
        other = vae.encoder(size, n_classes, latent=latent, widths=widths, seed=seed)
        optimisers = [keras.optimizers.Adam(learning_rate)]
        optimisers[0].build(maker.trainable_variables + other.trainable_variables)
        step = _variational_step(maker, other, latent, optimisers[0], kl_weight)
    variables = [*maker.variables, *other.variables]
    for optimiser in optimisers:
        variables += optimiser.variables
    untrained = [np.array(variable) for variable in variables]
    return Pair(maker, other, variables, untrained, step)


def _build_maker(kind, size, n_classes, latent, width, seed):
    from skyloom.nets import dcgan, spectral_gan

    if kind == "published_gan":
        return spectral_gan.published_generator(size, n_classes, latent=latent, seed=seed)
    nets = spectral_gan if kind in SPECTRAL_KINDS else dcgan
    return nets.generator(size, n_classes, latent=latent, width=width, seed=seed)


def maker_with(settings: dict[str, Any], state: Sequence[np.ndarray]) -> Any:
    """The network that makes images or spectra, with the weights of a checkpoint.

    Parameters
    ----------
    settings : dict
        ``kind``, ``size``, ``n_classes``, ``latent``, ``width`` and ``seed``, and perhaps others.
    state : sequence of numpy.ndarray
        Of the checkpoint.

    Returns
    -------
    keras.Model
    """
    names = ("kind", "size", "n_classes", "latent", "width", "seed")
    model = _build_maker(*(settings[name] for name in names))
    for variable, value in zip(model.variables, state, strict=False):
        variable.assign(value)
    return model


def continue_training(
    settings: dict[str, Any],
    images: np.ndarray,
    classes: np.ndarray,
    state: Sequence[np.ndarray],
) -> tuple[Pair, pd.DataFrame]:
    """Train a pair for some epochs, from the state that was left before.

    Parameters
    ----------
    settings : dict
        What `build_pair` and `train_pair` need, with the ``first`` and the ``last`` epoch.
    images, classes : numpy.ndarray
        To train on.
    state : sequence of numpy.ndarray
        Of the piece before; empty at the beginning.

    Returns
    -------
    pair : Pair
        Trained; its variables are the state.
    history : pandas.DataFrame
        From `train_pair`.
    """
    pair = build_pair(**{name: settings[name] for name in _OF_A_PAIR})
    for variable, value in zip(pair.variables, state or pair.untrained, strict=True):
        variable.assign(value)
    history = train_pair(
        pair,
        images,
        classes,
        epochs=range(settings["first"], settings["last"]),
        batch_size=settings["batch_size"],
        rotate=settings["rotate"],
        seed=settings["seed"],
    )
    return pair, history


def train_in_pieces(
    trainings: dict[str, Training],
    work: Callable[..., dict[str, np.ndarray]],
    shared: dict[str, np.ndarray],
    store: ResultStore,
    cluster: ClusterParameters,
    *,
    every: int,
    size: int,
) -> Iterator[tuple[str, int, dict[str, np.ndarray]]]:
    """Train pairs side by side, each a chain of pieces that are kept as they are finished.

    Parameters
    ----------
    trainings : dict of str to Training
        By name.
    work : callable
        Trains a piece: ``work(settings, arrays, shared, threads=n)``, with ``state_0`` ... of the
        piece before among the arrays; of its result these are handed to the next piece.
    shared : dict of str to numpy.ndarray
        What they are trained on, by the ``images`` of their settings.
    store : skyloom.learning.tasks.ResultStore
        Where finished pieces are kept; what is there is not trained again.
    cluster : skyloom.compute.ClusterParameters
        Where they run.
    every : int
        Epochs of a piece.
    size : int
        Pixels on a side, for the number of threads.

    Yields
    ------
    name : str
        Of the training.
    last : int
        Last epoch of a piece.
    result : dict of numpy.ndarray
        Of it.

    Raises
    ------
    RuntimeError
        If a piece fails.
    """
    n_pieces = sum(-(-training.epochs // every) for training in trainings.values())
    bar = tqdm(total=n_pieces, desc="generators", unit="checkpoint")

    def procedure(name):
        training = trainings[name]
        state: dict[str, np.ndarray] = {}
        for first in range(0, training.epochs, every):
            last = min(first + every, training.epochs)
            piece = training.settings | {"first": first, "last": last}
            task = Task(piece, training.arrays | state, (training.settings["images"],))
            (result,) = yield [task]
            yield Finished((name, last, result))
            if isinstance(result, FailedTask):
                return
            state = {key: result[key] for key in result if key.startswith("state_")}

    for name, last, result in run_all(
        map(procedure, trainings), work, shared, store, cluster, size=size
    ):
        if isinstance(result, FailedTask):
            msg = f"the training of {name} failed: {result.error}"
            raise RuntimeError(msg)
        bar.update()
        yield name, last, result
    bar.close()


class Checkpoint(NamedTuple):
    """What a training was stopped at, and is used from.

    Attributes
    ----------
    epoch : int
        Its last.
    state : list of numpy.ndarray
        As `maker_with` takes it.
    frame : numpy.ndarray
        What it makes of the latent numbers that all checkpoints are shown with.
    verdict : str
        What is wrong with it, or nothing.
    """

    epoch: int
    state: list[np.ndarray]
    frame: np.ndarray
    verdict: str


def choose_checkpoints(
    pieces: Iterable[tuple[str, int, dict[str, np.ndarray]]],
    *,
    measured: Sequence[str],
    verdict: Callable[[dict[str, np.ndarray]], str],
) -> tuple[dict[str, Checkpoint], pd.DataFrame, dict[str, list[tuple[int, np.ndarray]]]]:
    """Of each training the checkpoint that makes what is most like the training objects.

    Parameters
    ----------
    pieces : iterable
        From `train_in_pieces`.
    measured : sequence of str
        Arrays of a result that are kept in the history. By the first checkpoints are chosen,
        the lower the better.
    verdict : callable
        Of a result, what is wrong with it, or nothing. One that has a verdict is taken only
        where there is none without; one that ``diverged`` only where there is no other.

    Returns
    -------
    chosen : dict of str to Checkpoint
        By training.
    history : pandas.DataFrame
        ``name``, ``epoch``, ``loss_1``, ``loss_2``, the measured columns and ``verdict`` in the
        last row of each checkpoint, and ``chosen``.
    frames : dict of str to list of (int, numpy.ndarray)
        Last epoch and frame of every checkpoint.
    """
    from skyloom.learning.fitting import unpack

    best, tables, frames = {}, [], {}
    for name, last, result in pieces:
        words = verdict(result)
        table = pd.DataFrame(result["history"], columns=["epoch", "loss_1", "loss_2"])
        table = table.assign(name=name, **dict.fromkeys(measured, np.nan), verdict="", chosen=False)
        end = table["epoch"] == last
        for column in measured:
            table.loc[end, column] = float(result[column])
        table.loc[end, "verdict"] = words
        tables.append(table)
        frames.setdefault(name, []).append((last, result["frame"]))
        rank = (words == "diverged", words != "", float(result[measured[0]]))
        if name not in best or rank < best[name][0]:
            state = unpack(result, "state")
            best[name] = rank, Checkpoint(last, state, result["frame"], words)
    history = pd.concat(tables, ignore_index=True)
    for name, (_, checkpoint) in best.items():
        own = (history["name"] == name) & (history["epoch"] == checkpoint.epoch)
        history.loc[own, "chosen"] = True
        if checkpoint.verdict:
            logger.warning("%s: %s in every checkpoint", name, checkpoint.verdict)
    return {name: checkpoint for name, (_, checkpoint) in best.items()}, history, frames


def _adversarial_step(generator, discriminator, of_generator, of_discriminator, n_fakes, target):
    import tensorflow as tf

    latent = generator.inputs[0].shape[1]

    def loss(logits, target):
        labels = tf.fill(tf.shape(logits), target)
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))

    @tf.function
    def step(images, classes, seed):
        noise = tf.random.stateless_normal((n_fakes * tf.shape(images)[0], latent), seed)
        kinds = tf.repeat(classes, n_fakes, axis=0)
        with tf.GradientTape() as of_g, tf.GradientTape() as of_d:
            made = generator([noise, kinds], training=True)
            real = discriminator([images, classes], training=True)
            fake = discriminator([made, kinds], training=True)
            discriminator_loss = loss(real, target) + loss(fake, 0.0)
            generator_loss = loss(fake, 1.0)
        for tape, model, optimiser, value in (
            (of_g, generator, of_generator, generator_loss),
            (of_d, discriminator, of_discriminator, discriminator_loss),
        ):
            variables = model.trainable_variables
            optimiser.apply(tape.gradient(value, variables), variables)
        return generator_loss, discriminator_loss

    return step


def _variational_step(decoder, encoder, latent, optimiser, kl_weight):
    import tensorflow as tf

    @tf.function
    def step(images, classes, seed):
        noise = tf.random.stateless_normal((tf.shape(images)[0], latent), seed)
        with tf.GradientTape() as tape:
            mean, log_variance = tf.split(encoder([images, classes], training=True), 2, axis=1)
            numbers = mean + tf.exp(log_variance / 2) * noise
            made = decoder([numbers, classes], training=True)
            made = tf.clip_by_value(made, 1e-6, 1 - 1e-6)
            entropy = -images * tf.math.log(made) - (1 - images) * tf.math.log(1 - made)
            rebuilt = tf.reduce_mean(tf.reduce_sum(entropy, axis=(1, 2, 3)))
            divergence = tf.square(mean) + tf.exp(log_variance) - 1 - log_variance
            divergence = tf.reduce_mean(tf.reduce_sum(divergence, axis=1)) / 2
            value = rebuilt + kl_weight * divergence
        variables = decoder.trainable_variables + encoder.trainable_variables
        optimiser.apply(tape.gradient(value, variables), variables)
        return rebuilt, divergence

    return step


def train_pair(
    pair: Pair,
    images: np.ndarray,
    classes: np.ndarray,
    *,
    epochs: range,
    batch_size: int,
    rotate: bool,
    seed: int,
) -> pd.DataFrame:
    """Train both networks for some epochs.

    Parameters
    ----------
    pair : Pair
        With the state that the epoch before left.
    images : numpy.ndarray of float32, shape (n, size, size, 1)
        From 0 to 1.
    classes : numpy.ndarray of int, shape (n,)
        Of the images.
    epochs : range
        Their numbers, from 0.
    batch_size : int
        Images in a gradient step; incomplete steps are left out.
    rotate : bool
        Turn and mirror the images at random in every epoch.
    seed : int
        With the number of the epoch it decides the order, the angles and the latent numbers.

    Returns
    -------
    pandas.DataFrame
        ``epoch`` (from 1), ``loss_1`` and ``loss_2``: of generator and discriminator, or the
        reconstruction's and the divergence.
    """
    from keras import ops

    n_classes = pair.maker.inputs[1].shape[1]
    kind = np.eye(n_classes, dtype=np.float32)[classes]
    batch_size = min(batch_size, len(images))
    rows = []
    for epoch in epochs:
        rng = np.random.default_rng([seed, epoch])
        order, losses = rng.permutation(len(images)), []
        for first in range(0, len(images) - batch_size + 1, batch_size):
            chosen = order[first : first + batch_size]
            batch = ops.convert_to_tensor(images[chosen])
            if rotate:
                angles, flip = rng.uniform(0, 360, batch_size), rng.random(batch_size) < 0.5
                batch = rotate_and_flip(batch, angles, flip)
            key = ops.convert_to_tensor(rng.integers(2**31, size=2), "int32")
            losses.append(pair.step(batch, kind[chosen], key))
        rows.append((epoch + 1, *np.mean(losses, axis=0)))
    return pd.DataFrame(rows, columns=["epoch", "loss_1", "loss_2"])


def make_images(
    maker: Any, classes: np.ndarray, rng: np.random.Generator, *, chunk: int = 64
) -> np.ndarray:
    """Draw images of some classes.

    Parameters
    ----------
    maker : keras.Model
        Generator or decoder.
    classes : numpy.ndarray of int, shape (n,)
        What to make.
    rng : numpy.random.Generator
        Of the latent numbers.
    chunk : int
        Images made at a time.

    Returns
    -------
    numpy.ndarray of float32, shape (n, size, size, 1)
        From 0 to 1.
    """
    (_, latent), (_, n_classes) = (each.shape for each in maker.inputs)
    noise = rng.standard_normal((len(classes), latent), np.float32)
    kind = np.eye(n_classes, dtype=np.float32)[classes]
    parts: Sequence[np.ndarray] = [
        maker.predict_on_batch([noise[i : i + chunk], kind[i : i + chunk]])
        for i in range(0, len(classes), chunk)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, *maker.output_shape[1:]), np.float32)
