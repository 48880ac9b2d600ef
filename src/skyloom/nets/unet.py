"""U-shaped networks that say of every pixel whether it is a star's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def small_unet(
    widths: Sequence[int] = (16, 32, 64), *, n_channels: int = 1, dropout: float = 0.0, seed: int
) -> keras.Model:
    """A U-Net that a laptop can train and run.

    Parameters
    ----------
    widths : sequence of int
        Filters of each level; every level but the first halves the image.
    n_channels : int
        Of the image.
    dropout : float
        Before the lowest level.
    seed : int
        Of the initial weights.

    Returns
    -------
    keras.Model
        Takes images (height, width, 1) whose sides are multiples of 2^(levels - 1), and gives the
        probability of a star, of the same shape.

    Notes
    -----
    Activations are normalised on the lower levels only. At full resolution that takes as long as
    the convolutions, and gains less than 0.01 of F1.

    References
    ----------
    Ronneberger, Fischer & Brox (2015), MICCAI, 234; Wu & He (2018), ECCV, 3 (groups).
    """
    import keras
    from keras import layers

    seeds = iter(range(seed * 1000, seed * 1000 + 1000))

    def convolve(x, filters, *, normalised):
        for _ in range(2):
            start = keras.initializers.HeNormal(next(seeds))
            x = layers.Conv2D(
                filters, 3, padding="same", use_bias=not normalised, kernel_initializer=start
            )(x)
            if normalised:
                # Batches are small and fields unlike each other: none tells of the next one.
                x = layers.GroupNormalization(min(8, filters))(x)
            x = layers.Activation("relu")(x)
        return x

    image = x = keras.Input((None, None, n_channels))
    skips = []
    for filters in widths[:-1]:
        skips.append(convolve(x, filters, normalised=bool(skips)))
        x = layers.MaxPooling2D()(skips[-1])
    if dropout:
        x = layers.Dropout(dropout, seed=next(seeds))(x)
    x = convolve(x, widths[-1], normalised=True)
    for filters, skip in zip(widths[-2::-1], skips[::-1], strict=True):
        x = layers.UpSampling2D()(x)
        x = convolve(layers.Concatenate()([x, skip]), filters, normalised=skip is not skips[0])
    # Stars are rare: a network that knows nothing yet says so.
    rare = keras.initializers.Constant(-4.0)
    start = keras.initializers.GlorotNormal(next(seeds))
    x = layers.Conv2D(1, 1, activation="sigmoid", kernel_initializer=start, bias_initializer=rare)(
        x
    )
    return keras.Model(image, x, name="small_unet")


def published_unet(*, n_channels: int = 3, seed: int) -> keras.Model:
    """The published network: 64 to 1024 filters, dropout in every block.

    Parameters
    ----------
    n_channels : int
        Of the image; published are three that are the same.
    seed : int
        Of the initial weights.

    Returns
    -------
    keras.Model
        Takes images (height, width, n_channels) whose sides are multiples of 16, published are 512,
        and gives the probability of a star, shape (height, width, 1).
    """
    import keras
    from keras import layers

    seeds = iter(range(seed * 1000, seed * 1000 + 1000))

    def block(x, filters):
        for _ in range(2):
            start = keras.initializers.GlorotUniform(next(seeds))
            x = layers.Conv2D(filters, 3, padding="same", kernel_initializer=start)(x)
            x = layers.BatchNormalization()(x)
            x = layers.Activation("relu")(x)
        return layers.Dropout(0.2, seed=next(seeds))(x)

    image = x = keras.Input((None, None, n_channels))
    skips = []
    for filters in (64, 128, 256, 512):
        skips.append(block(x, filters))
        x = layers.MaxPooling2D()(skips[-1])
    x = block(x, 1024)
    for filters, skip in zip((512, 256, 128, 64), skips[::-1], strict=True):
        x = layers.Concatenate()([layers.UpSampling2D()(x), skip])
        x = block(x, filters)
    start = keras.initializers.GlorotUniform(next(seeds))
    x = layers.Conv2D(1, 1, activation="sigmoid", kernel_initializer=start)(x)
    return keras.Model(image, x, name="published_unet")
