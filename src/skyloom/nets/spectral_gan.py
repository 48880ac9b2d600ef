"""Pairs of networks that make spectra: as published, and one with convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from skyloom.nets.dcgan import first_size
from skyloom.nets.spectral_norm import seed_spectral_norms

if TYPE_CHECKING:
    import keras

PUBLISHED_LATENT = 900
_FIRST_NOISE = 0.05  # of the continuum
_CONTRAST = 5.0  # lines are a few tenths of the continuum
_SPECTRAL_KERNEL = 8  # pixels; divided by the stride, so that all pixels are covered alike


def generator(
    pixels: int, n_classes: int, *, latent: int = 64, width: int = 64, seed: int
) -> keras.Model:
    """Spectra out of random numbers: a smooth one, and noise whose level is learnt.

    Noise is drawn for each pixel and need not be learnt: a few dozen spectra could not teach it,
    and without it the discriminator sees nothing else.

    Parameters
    ----------
    pixels : int
        Of a spectrum.
    n_classes : int
        The network is told which class to make, as one number for each; 1 for a single class.
    latent : int
        Random numbers of the smooth spectrum and the level of the noise, standard normal.
    width : int
        Filters of the first feature maps; halved as the maps are made four times as long.
    seed : int
        Of the initial weights.

    Returns
    -------
    keras.Model
        Takes ``(latent, class as 0 and 1)`` and gives spectra (pixels, 1) in units of their
        continuum; untrained it makes the continuum with some noise. Of its ``latent + pixels``
        random numbers the last ones are the noise.
    """
    import keras
    from keras import layers

    seeds = iter(range(seed * 1000, seed * 1000 + 1000))
    n_steps = -(-first_size(pixels)[1] // 2)
    first = -(-pixels // 4**n_steps)

    def start():
        return keras.initializers.RandomNormal(stddev=0.02, seed=next(seeds))

    drawn = keras.Input((latent + pixels,), name="latent")
    kind = keras.Input((n_classes,), name="class")
    told = layers.Concatenate()([drawn[:, :latent], kind])
    x = layers.Dense(first * width, use_bias=False, kernel_initializer=start())(told)
    x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.LeakyReLU(0.2)(x)
    x = layers.Reshape((first, width))(x)
    for step in range(1, n_steps + 1):
        last = step == n_steps
        filters = 1 if last else max(16, width >> step)
        x = layers.Conv1DTranspose(
            filters, _SPECTRAL_KERNEL, 4, padding="same", use_bias=last,
            kernel_initializer=start(), bias_initializer=keras.initializers.Constant(1.0),
        )(x)  # fmt: skip
        if not last:
            x = layers.BatchNormalization(momentum=0.9)(x)
            x = layers.LeakyReLU(0.2)(x)
    extra = first * 4**n_steps - pixels
    x = layers.Cropping1D((extra // 2, extra - extra // 2))(x)
    # Lines stay where they are: each pixel has a mean and a scale of its own.
    smooth = _each_pixel(pixels, 1.0, bias=True)(x)
    noise = _each_pixel(pixels, _FIRST_NOISE)(layers.Reshape((pixels, 1))(drawn[:, latent:]))
    level = layers.Dense(1, activation="exponential", kernel_initializer=start())(told)
    noise = layers.Multiply()([noise, layers.Reshape((1, 1))(level)])
    return keras.Model([drawn, kind], layers.Add()([smooth, noise]), name="generator")


def _each_pixel(pixels, scale, *, bias=False):
    """Layer with a factor, and perhaps a term, for each pixel."""
    import keras
    from keras import layers

    return layers.EinsumDense(
        "abc,bc->abc", (pixels, 1), bias_axes="bc" if bias else None,
        kernel_initializer=keras.initializers.Constant(scale),
    )  # fmt: skip


def discriminator(
    pixels: int,
    n_classes: int,
    *,
    widths: Sequence[int] = (16, 32, 64),
    dropout: float = 0.3,
    seed: int,
) -> keras.Model:
    """Tells spectra of the sample from made ones.

    Parameters
    ----------
    pixels : int
        Of a spectrum.
    n_classes : int
        As of the generator.
    widths : sequence of int
        Filters of the convolutions, each of which makes the spectrum four times as short.
    dropout : float
        Share that is dropped after each.
    seed : int
        Of the initial weights and the dropout.

    Returns
    -------
    keras.Model
        Takes ``(spectrum, class as 0 and 1)`` and gives a logit, positive for a spectrum of the
        sample.

    References
    ----------
    Miyato et al. (2018), ICLR (spectral normalisation, which has nothing to do with ours).
    """
    import keras
    from keras import layers

    seeds = iter(range(seed * 1000 + 500, seed * 1000 + 1500))
    spectrum = keras.Input((pixels, 1), name="spectrum")
    kind = keras.Input((n_classes,), name="class")
    along = layers.RepeatVector(pixels)(kind)
    # Lines are departures from the continuum.
    lines = layers.Rescaling(_CONTRAST, offset=-_CONTRAST)(spectrum)
    x = layers.Concatenate()([lines, along])
    for filters in widths:
        start = keras.initializers.HeNormal(seed=next(seeds))
        convolution = layers.Conv1D(
            filters, _SPECTRAL_KERNEL + 1, 4, padding="same", kernel_initializer=start
        )
        x = layers.SpectralNormalization(convolution)(x)
        x = layers.LeakyReLU(0.2)(x)
        x = layers.Dropout(dropout, seed=next(seeds))(x)
    x = layers.Flatten()(x)
    logit = layers.Dense(1, kernel_initializer=keras.initializers.GlorotNormal(next(seeds)))(x)
    model = keras.Model([spectrum, kind], logit, name="discriminator")
    seed_spectral_norms(model, seed)
    return model


def published_generator(
    pixels: int = 3500, n_classes: int = 1, *, latent: int = PUBLISHED_LATENT, seed: int
) -> keras.Model:
    """The published generator: dense layers of 256, 512 and 1024, a hyperbolic tangent at the end.

    Parameters
    ----------
    pixels : int
        Of a spectrum.
    n_classes : int
        1: it is told no class.
    latent : int
        Random numbers.
    seed : int
        Of the initial weights.

    Returns
    -------
    keras.Model
        Takes ``(latent, class)``, of which the second changes nothing, and gives (pixels, 1) from
        -1 to 1, though its spectra run from 0 to 1.
    """
    import keras
    from keras import layers

    seeds = iter(range(seed * 1000, seed * 1000 + 1000))

    def start(kind=keras.initializers.GlorotUniform, **options):
        return kind(seed=next(seeds), **options)

    noise, kind = keras.Input((latent,), name="latent"), keras.Input((n_classes,), name="class")
    first = start(keras.initializers.RandomNormal, stddev=0.02)
    x = layers.LeakyReLU(0.2)(layers.Dense(256, kernel_initializer=first)(noise))
    for width in (512, 1024):
        x = layers.BatchNormalization()(layers.Dense(width, kernel_initializer=start())(x))
        x = layers.LeakyReLU(0.2)(x)
    x = layers.Dense(pixels, activation="tanh", kernel_initializer=start())(x)
    return keras.Model([noise, kind], layers.Reshape((pixels, 1))(x), name="generator")


def published_discriminator(pixels: int = 3500, n_classes: int = 1, *, seed: int) -> keras.Model:
    """The published discriminator: dense layers of 1024, 512 and 256, a sigmoid at the end.

    Parameters
    ----------
    pixels : int
        Of a spectrum.
    n_classes : int
        1: it is told no class.
    seed : int
        Of the initial weights and the dropout.

    Returns
    -------
    keras.Model
        Takes ``(spectrum, class)`` and gives a probability, which its training takes for a logit:
        the loss of the discriminator cannot fall below 1.006, and that of the generator stays
        between 0.313 and 0.693.
    """
    import keras
    from keras import layers

    seeds = iter(range(seed * 1000 + 500, seed * 1000 + 1500))
    spectrum = keras.Input((pixels, 1), name="spectrum")
    kind = keras.Input((n_classes,), name="class")
    x = layers.Flatten()(spectrum)
    for width in (1024, 512, 256):
        start = keras.initializers.GlorotUniform(seed=next(seeds))
        x = layers.LeakyReLU(0.2)(layers.Dense(width, kernel_initializer=start)(x))
        x = layers.Dropout(0.3, seed=next(seeds))(x)
    start = keras.initializers.GlorotUniform(seed=next(seeds))
    x = layers.Dense(1, activation="sigmoid", kernel_initializer=start)(x)
    return keras.Model([spectrum, kind], x, name="discriminator")
