"""A pair of networks that make images by competing with each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from skyloom.nets.spectral_norm import seed_spectral_norms

if TYPE_CHECKING:
    import keras

_SMALLEST = 8  # pixels on a side of the first feature maps at most
_DARK = -4.0  # logit of an untrained image: most of a clipped sky is dark


def first_size(size: int) -> tuple[int, int]:
    """Pixels of the first feature maps of a generator, and how often they are doubled.

    Parameters
    ----------
    size : int
        Pixels on a side of the images.

    Returns
    -------
    first : int
        At most 8.
    n_doublings : int
        The doubled maps are at least as large as the images, and then cropped to them.
    """
    n_doublings = 0
    while -(-size // 2**n_doublings) > _SMALLEST:
        n_doublings += 1
    return -(-size // 2**n_doublings), n_doublings


def generator(
    size: int, n_classes: int, *, latent: int = 100, width: int = 128, seed: int
) -> keras.Model:
    """Images out of random numbers, by transposed convolutions.

    Parameters
    ----------
    size : int
        Pixels on a side; 56 is published.
    n_classes : int
        The network is told which class to make, as one number for each; 1 for a single class.
    latent : int
        Random numbers, standard normal.
    width : int
        Filters of the first feature maps; halved as the maps are doubled.
    seed : int
        Of the initial weights.

    Returns
    -------
    keras.Model
        Takes ``(latent, class as 0 and 1)`` and gives images (size, size, 1) from 0 to 1.

    References
    ----------
    Radford, Metz & Chintala (2016), ICLR (DCGAN); Mirza & Osindero (2014), arXiv:1411.1784
    (conditional).
    """
    import keras
    from keras import layers

    seeds = iter(range(seed * 1000, seed * 1000 + 1000))
    first, n_doublings = first_size(size)

    def start():
        return keras.initializers.RandomNormal(stddev=0.02, seed=next(seeds))

    noise, kind = keras.Input((latent,), name="latent"), keras.Input((n_classes,), name="class")
    x = layers.Concatenate()([noise, kind])
    x = layers.Dense(first * first * width, use_bias=False, kernel_initializer=start())(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.LeakyReLU(0.2)(x)
    x = layers.Reshape((first, first, width))(x)
    for step in range(1, n_doublings + 1):
        last = step == n_doublings
        filters = 1 if last else max(8, width >> step)
        # A kernel that the stride divides covers all pixels alike: no chequerboard.
        x = layers.Conv2DTranspose(
            filters, 4, 2, padding="same", use_bias=last, kernel_initializer=start(),
            bias_initializer=keras.initializers.Constant(_DARK),
        )(x)  # fmt: skip
        if not last:
            x = layers.BatchNormalization(momentum=0.9)(x)
            x = layers.LeakyReLU(0.2)(x)
    x = layers.Activation("sigmoid")(x)
    image = layers.CenterCrop(size, size)(x)
    return keras.Model([noise, kind], image, name="generator")


def discriminator(
    size: int, n_classes: int, *, widths: Sequence[int] = (32, 64, 128), dropout: float = 0.3,
    seed: int,
) -> keras.Model:  # fmt: skip
    """Tells images of the sample from made ones.

    Parameters
    ----------
    size : int
        Pixels on a side.
    n_classes : int
        As of the generator.
    widths : sequence of int
        Filters of the convolutions, each of which halves the image.
    dropout : float
        Share that is dropped after each.
    seed : int
        Of the initial weights and the dropout.

    Returns
    -------
    keras.Model
        Takes ``(image, class as 0 and 1)`` and gives a logit, positive for an image of the sample.

    References
    ----------
    Miyato et al. (2018), ICLR (spectral normalisation).
    """
    import keras
    from keras import layers

    seeds = iter(range(seed * 1000 + 500, seed * 1000 + 1500))
    image, kind = (
        keras.Input((size, size, 1), name="image"),
        keras.Input((n_classes,), name="class"),
    )
    plane = layers.Reshape((1, 1, n_classes))(kind)
    plane = layers.UpSampling2D(size)(plane)
    x = layers.Concatenate()([image, plane])
    for filters in widths:
        start = keras.initializers.HeNormal(seed=next(seeds))
        convolution = layers.Conv2D(filters, 5, 2, padding="same", kernel_initializer=start)
        x = layers.SpectralNormalization(convolution)(x)
        x = layers.LeakyReLU(0.2)(x)
        x = layers.Dropout(dropout, seed=next(seeds))(x)
    x = layers.Flatten()(x)
    logit = layers.Dense(1, kernel_initializer=keras.initializers.GlorotNormal(next(seeds)))(x)
    model = keras.Model([image, kind], logit, name="discriminator")
    seed_spectral_norms(model, seed)
    return model
