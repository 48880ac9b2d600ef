"""Networks that classify spectra of stars: as published, and along the wavelength."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

WIDTHS = (10, 20, 40, 50)
PUBLISHED_DENSE = 11500


def star_cnn(
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    widths: Sequence[int] = WIDTHS,
    kernel_size: int = 3,
    pool: int = 2,
    dense: int = 128,
    dropout: float = 0.3,
    activation: str | None = "softmax",
    seed: int,
) -> keras.Model:
    """Convolutions with pooling along the wavelength, or in two dimensions.

    Parameters
    ----------
    input_shape : tuple of int
        (pixels, 1) of spectra; (height, columns, 1) of images made of them. The published recipe
        has (1, pixels): then nothing is convolved, for each pixel is a channel, and only one tap
        of each kernel ever sees more than zeros.
    n_classes : int
        Classes.
    widths : sequence of int
        Filters of the convolutions, each followed by a pooling.
    kernel_size : int
        Pixels of a filter, on each side.
    pool : int
        Pixels that a pooling makes one of.
    dense : int
        Width of the dense layer.
    dropout : float
        Share dropped after it.
    activation : str or None
        Of the output.
    seed : int
        Of the initial weights and the dropout.

    Returns
    -------
    keras.Model
        Not compiled.
    """
    import keras
    from keras import layers

    flat = len(input_shape) == 2
    convolution = layers.Conv1D if flat else layers.Conv2D
    pooling = layers.MaxPooling1D if flat else layers.MaxPooling2D
    seeds = iter(range(seed * 1000, seed * 1000 + 1000))

    def start(kind=keras.initializers.GlorotUniform):
        return kind(seed=next(seeds))

    model = keras.Sequential([keras.Input(input_shape)], name="star_cnn")
    for filters in widths:
        model.add(
            convolution(
                filters, kernel_size, padding="same", activation="relu",
                kernel_initializer=start(),
            )
        )  # fmt: skip
        model.add(pooling(pool, padding="same"))
    model.add(layers.Flatten())
    model.add(layers.Dense(dense, activation="relu", kernel_initializer=start()))
    if dropout:
        model.add(layers.Dropout(dropout, seed=next(seeds)))
    model.add(layers.Dense(n_classes, activation=activation, kernel_initializer=start()))
    return model


def published_star_cnn(
    n_classes: int = 7, *, pixels: int = 3500, kernel_size: int = 3, seed: int
) -> keras.Model:
    """The published network to the letter; 781,127 parameters for 7 classes of 3500 pixels.

    Parameters
    ----------
    n_classes : int
        Classes.
    pixels : int
        Of a spectrum; each is a channel of an input one pixel long.
    kernel_size : int
        2 to 5 in its study. What varies with it is only how large the initial weights are.
    seed : int
        Of the initial weights.

    Returns
    -------
    keras.Model
        Not compiled; takes (1, pixels).
    """
    return star_cnn(
        (1, pixels), n_classes, kernel_size=kernel_size, dense=PUBLISHED_DENSE, dropout=0, seed=seed
    )


def used_taps(network: Any) -> np.ndarray:
    """Taps of the first kernel that ever see more than the zeros beside a spectrum.

    Parameters
    ----------
    network : keras.Model
        Whose first layer is a convolution of an input one pixel long.

    Returns
    -------
    numpy.ndarray of int
        Those whose weights have a gradient.
    """
    import tensorflow as tf

    inputs = tf.ones((1, *network.input_shape[1:]))
    first = network.layers[0]
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(first(inputs) ** 2)
    gradient = tape.gradient(value, first.kernel).numpy()
    return np.flatnonzero(np.abs(gradient).sum(axis=(1, 2)) > 0)
