"""The convolutional network published for radio galaxies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


FEATURES = "features"  # layer whose outputs are the network's own description of an image


def alhassan(
    input_shape: tuple[int, int, int],
    n_outputs: int,
    *,
    widths: Sequence[int] = (32, 64, 194),
    dense: int = 194,
    kernel_size: int = 3,
    pool_dropout: float = 0.0,
    dropout: float = 0.5,
    activation: str | None = "softmax",
    seed: int,
) -> keras.Model:
    """Blocks of convolution and pooling, then a dense layer.

    Parameters
    ----------
    input_shape : tuple of 3 ints
        Height, width, channels; published is (150, 150, 1).
    n_outputs : int
        Width of the last layer.
    widths : sequence of int
        Filters of the blocks.
    dense : int
        Width of the dense layer.
    kernel_size : int
        Pixels on a side of the filters.
    pool_dropout : float
        Share that is dropped after each pooling; 0.25 in the published variant with dropout.
    dropout : float
        Share that is dropped after the dense layer.
    activation : str or None
        Of the last layer; None for a network that predicts numbers.
    seed : int
        Of the initial weights and the dropout.

    Returns
    -------
    keras.Model
        Not compiled.

    Raises
    ------
    ValueError
        If the input is too small for so many blocks.

    References
    ----------
    Alhassan, Taylor & Vaccari (2018), MNRAS 480, 2085, and the weights published with it.
    """
    import keras
    from keras import layers

    if min(input_shape[:2]) < 2 ** len(widths):
        msg = f"{min(input_shape[:2])} pixels are too few for {len(widths)} blocks"
        raise ValueError(msg)
    seeds = iter(range(seed * 1000, seed * 1000 + 1000))
    stack = [keras.Input(tuple(input_shape), name="image")]
    for filters in widths:
        stack += [
            layers.Conv2D(
                filters, kernel_size, padding="same", activation="relu",
                kernel_initializer=keras.initializers.HeNormal(seed=next(seeds)),
            ),
            layers.MaxPooling2D(2),
        ]  # fmt: skip
        if pool_dropout:
            stack.append(layers.Dropout(pool_dropout, seed=next(seeds)))
    stack += [
        layers.Flatten(),
        layers.Dense(
            dense, activation="relu", name=FEATURES,
            kernel_initializer=keras.initializers.HeNormal(next(seeds)),
        ),
        layers.Dropout(dropout, seed=next(seeds)),
        layers.Dense(
            n_outputs, activation=activation,
            kernel_initializer=keras.initializers.GlorotNormal(next(seeds)),
            name="output" if activation is None else "probability",
        ),
    ]  # fmt: skip
    return keras.Sequential(stack, name="alhassan")
