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
    activation: str | None = "softmax",
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
    activation : str or None
        Of the last layer; None for a network that predicts numbers.
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
    return published_stack(
        input_shape,
        n_classes,
        widths=widths,
        padding=padding,
        activation=activation,
        seed=seed,
        name="ring_cnn",
    )


def published_stack(
    input_shape: Sequence[int],
    n_outputs: int,
    *,
    widths: Sequence[int],
    padding: str,
    activation: str | None,
    seed: int,
    name: str,
) -> keras.Model:
    """The published layers in one or two dimensions, by the shape of the input.

    Parameters
    ----------
    input_shape : sequence of int
        One or two lengths, then channels.
    n_outputs : int
        Width of the last layer.
    widths, padding, activation, seed
        As in `ring_cnn`.
    name : str
        Of the network.

    Returns
    -------
    keras.Model
        Not compiled.

    Raises
    ------
    ValueError
        If the input is too small for so many blocks.
    """
    import keras
    from keras import layers

    convolution, pooling = (
        (layers.Conv1D, layers.MaxPooling1D)
        if len(input_shape) == 2
        else (layers.Conv2D, layers.MaxPooling2D)
    )
    size = input_shape[0]
    for _ in widths:
        size = (size if padding == "same" else size - 2) // 2
    if size < 1:
        msg = (
            f"{input_shape[0]} pixels are too few for {len(widths)} blocks with padding {padding!r}"
        )
        raise ValueError(msg)
    last = "output" if activation is None else "probability"
    seeds = iter(range(seed * 1000, seed * 1000 + 1000))

    def initializer():
        return keras.initializers.GlorotUniform(seed=next(seeds))

    stack = [keras.Input(tuple(input_shape), name="image")]
    for filters in widths:
        stack += [
            convolution(
                filters, 3, padding=padding, activation="relu", kernel_initializer=initializer()
            ),
            layers.BatchNormalization(),
            pooling(2),
            layers.Dropout(0.25, seed=next(seeds)),
        ]
    stack += [
        layers.Flatten(),
        layers.Dense(512, activation="relu", kernel_initializer=initializer()),
        layers.BatchNormalization(),
        layers.Dropout(0.5, seed=next(seeds)),
        layers.Dense(n_outputs, activation=activation, kernel_initializer=initializer(), name=last),
    ]
    return keras.Sequential(stack, name=name)
