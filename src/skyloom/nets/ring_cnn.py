"""The convolutional network published for ring images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def ring_cnn(
    input_shape: tuple[int, int, int],
    n_classes: int,
    *,
    widths: Sequence[int] = (32, 64, 128),
    padding: str = "valid",
    seed: int,
) -> keras.Model:
    """Three blocks of convolution, batch normalisation, pooling and dropout, then a dense head.

    Parameters
    ----------
    input_shape : tuple of 3 ints
        Height, width, channels.
    n_classes : int
        Outputs of the softmax.
    widths : sequence of int
        Filters of the blocks; published are (32, 64, 128), (32, 64, 256) and (32, 64, 512).
    padding : {"valid", "same"}
        ``"valid"`` as published for 128 x 128 images; ``"same"`` for small quadrants.
    seed : int
        Of the initial weights and the dropout.

    Returns
    -------
    keras.Model
        Not compiled.

    References
    ----------
    arXiv:2501.11657 and its documentation.
    """
    import keras
    from keras import layers

    seeds = iter(range(seed * 1000, seed * 1000 + 1000))

    def initializer():
        return keras.initializers.GlorotUniform(seed=next(seeds))

    stack = [keras.Input(input_shape, name="image")]
    for filters in widths:
        stack += [
            layers.Conv2D(
                filters, 3, padding=padding, activation="relu", kernel_initializer=initializer()
            ),
            layers.BatchNormalization(),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25, seed=next(seeds)),
        ]
    stack += [
        layers.Flatten(),
        layers.Dense(512, activation="relu", kernel_initializer=initializer()),
        layers.BatchNormalization(),
        layers.Dropout(0.5, seed=next(seeds)),
        layers.Dense(
            n_classes, activation="softmax", kernel_initializer=initializer(), name="probability"
        ),
    ]
    return keras.Sequential(stack, name="ring_cnn")
