"""The network that squeezes images into few numbers; `skyloom.nets.dcgan.generator` undoes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def encoder(
    size: int, n_classes: int, *, latent: int = 32, widths: Sequence[int] = (32, 64, 128), seed: int
) -> keras.Model:
    """Where images lie among the latent numbers, and how well that is known.

    Parameters
    ----------
    size : int
        Pixels on a side.
    n_classes : int
        The network is told the class, as one number for each; 1 for a single class.
    latent : int
        Numbers.
    widths : sequence of int
        Filters of the convolutions, each of which halves the image.
    seed : int
        Of the initial weights.

    Returns
    -------
    keras.Model
        Takes ``(image, class as 0 and 1)`` and gives (2 * latent,): means, then logarithms of
        variances.

    References
    ----------
    Kingma & Welling (2014), ICLR.
    """
    import keras
    from keras import layers

    seeds = iter(range(seed * 1000 + 500, seed * 1000 + 1500))
    image, kind = (
        keras.Input((size, size, 1), name="image"),
        keras.Input((n_classes,), name="class"),
    )
    x = image
    for filters in widths:
        start = keras.initializers.HeNormal(seed=next(seeds))
        x = layers.Conv2D(
            filters, 5, 2, padding="same", activation="relu", kernel_initializer=start
        )(x)
    x = layers.Concatenate()([layers.Flatten()(x), kind])
    start = keras.initializers.GlorotNormal(next(seeds))
    return keras.Model(
        [image, kind], layers.Dense(2 * latent, kernel_initializer=start)(x), name="encoder"
    )
