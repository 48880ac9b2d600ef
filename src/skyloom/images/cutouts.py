"""Cut-outs of radio galaxies for a network: clipped, centred, cut, resized, stretched."""

from __future__ import annotations

import numpy as np

CENTRES = ("image", "peak", "centroid")
STRETCHES = ("min_max", "asinh")


def clip_background(
    images: np.ndarray, *, n_sigma: float = 3.0, max_iterations: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Set what is no brighter than the noise to zero.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, height, width)
        Any unit of brightness about a background of zero; not finite where nothing was observed.
    n_sigma : float
        Pixels are clipped at it in the measurement of the noise, and kept above it.
    max_iterations : int
        Of the clipping.

    Returns
    -------
    clipped : numpy.ndarray of float32, shape (n, height, width)
        Zero where nothing was observed.
    noise : numpy.ndarray, shape (n,)
        Standard deviation of the background in the unit of the images; 0 where it was clipped
        before.

    References
    ----------
    Alhassan, Taylor & Vaccari (2018), MNRAS 480, 2085: three sigma in ten iterations.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> images = rng.normal(0, 0.15, (1, 50, 50))
    >>> images[0, 25, 25] = 10.0
    >>> clipped, noise = clip_background(images)
    >>> print(f"noise {noise[0]:.2f}, {np.mean(clipped == 0):.1%} dark")
    noise 0.15, 99.9% dark
    """
    from astropy.stats import sigma_clip  # slow to import

    observed = np.ma.masked_invalid(images)
    clipped = sigma_clip(
        observed, sigma=n_sigma, maxiters=max_iterations, axis=(1, 2), copy=False
    ).mask
    noise = _standard_deviation(observed.data, ~clipped)
    known = observed.filled(0.0)
    kept = known > n_sigma * noise[:, None, None]
    return np.where(kept, known, 0.0).astype(np.float32), noise


def _standard_deviation(images, kept):
    """That of the pixels that are kept of each image; the steps of NumPy's masked arrays."""
    number = np.maximum(np.count_nonzero(kept, axis=(1, 2)), 1)
    mean = np.where(kept, images, 0).sum(axis=(1, 2)) / number
    deviation = np.where(kept, images - mean[:, None, None], 0.0)
    deviation *= deviation
    return np.sqrt(deviation.sum(axis=(1, 2)) / number)


def as_picture(images: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Images as pictures of 8 bits show them, from files of any depth.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, height, width)
        Clipped: zero outside the sources.
    threshold : numpy.ndarray, shape (n,)
        At which they were clipped, in the unit of the images; 0 where they were clipped before.

    Returns
    -------
    numpy.ndarray of float32, shape (n, height, width)
        Whole numbers from 0 to 255: what is above the threshold, in units of the brightest pixel.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.array([[[0.0, 0.6], [1.0, 20.5]]])
    >>> as_picture(image, np.array([0.5]))
    array([[[  0.,   1.],
            [  6., 255.]]], dtype=float32)
    """
    above = np.clip(images - np.asarray(threshold)[:, None, None], 0, None)
    peak = above.max(axis=(1, 2), keepdims=True)
    return np.rint(255 * above / np.where(peak > 0, peak, 1)).astype(np.float32)


def label_islands(images: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the islands of light; pixels that touch at a corner belong together.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, height, width)
        Clipped: zero outside the sources.

    Returns
    -------
    islands : numpy.ndarray of int, shape (n, height, width)
        From 1 on; 0 where it is dark. No island is in two images.
    n_islands : int
    """
    from scipy import ndimage

    touching = np.zeros((3, 3, 3), int)
    touching[1] = 1  # within an image only
    return ndimage.label(images > 0, touching)


def remove_specks(images: np.ndarray, *, min_pixels: int = 10) -> np.ndarray:
    """Set islands of few pixels to zero: peaks of the noise are smaller than the beam.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, height, width)
        Clipped: zero outside the sources.
    min_pixels : int
        Of an island that stays; see `label_islands`.

    Returns
    -------
    numpy.ndarray, shape (n, height, width)
    """
    islands, _ = label_islands(images)
    n_pixels = np.bincount(islands.ravel())
    return np.where(n_pixels[islands] >= min_pixels, images, 0).astype(images.dtype)


def source_centres(images: np.ndarray, by: str = "image", *, radius: int = 20) -> np.ndarray:
    """Pixel that becomes the middle of a cut-out.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, height, width)
        Clipped: zero outside the sources.
    by : {"image", "peak", "centroid"}
        The middle of the image, the brightest pixel, or the centroid of the brightness.
    radius : int
        The last two look no further from the middle of the image than this, pixels.

    Returns
    -------
    numpy.ndarray of int, shape (n, 2)
        Row and column; the middle of the image where nothing is bright.

    Raises
    ------
    ValueError
        If there is no such centre.
    """
    if by not in CENTRES:
        msg = f"centre {by!r} is none of {', '.join(CENTRES)}"
        raise ValueError(msg)
    n, *shape = images.shape
    middle = np.array(shape) // 2
    centres = np.tile(middle, (n, 1))
    if by == "image":
        return centres
    first = np.maximum(middle - radius, 0)
    part = images[:, first[0] : middle[0] + radius + 1, first[1] : middle[1] + radius + 1]
    bright = part.max(axis=(1, 2)) > 0
    light = part[bright]
    if by == "peak":
        found = np.unravel_index(light.reshape(len(light), -1).argmax(axis=1), part.shape[1:])
        place = np.stack(found, axis=1)
    else:
        total = light.sum(axis=(1, 2))
        rows, columns = (np.arange(side) for side in part.shape[1:])
        place = np.stack([light.sum(2) @ rows / total, light.sum(1) @ columns / total], axis=1)
    centres[bright] = first + np.rint(place).astype(int)
    return centres


def cut(images: np.ndarray, centres: np.ndarray, size: int, *, beyond: float = 0.0) -> np.ndarray:
    """Square parts of images about some pixels.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, height, width)
        Clipped.
    centres : numpy.ndarray of int, shape (n, 2)
        Row and column; the pixel ``size // 2`` of the result.
    size : int
        Pixels on a side.
    beyond : float
        Value beyond the edges.

    Returns
    -------
    numpy.ndarray, shape (n, size, size)

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(25).reshape(1, 5, 5)
    >>> cut(image, np.array([[2, 3]]), 3)
    array([[[ 7,  8,  9],
            [12, 13, 14],
            [17, 18, 19]]])
    """
    first = np.asarray(centres)[:, :, None] - size // 2 + np.arange(size)  # (n, 2, size)
    limits = np.array(images.shape[1:])[:, None]
    inside = (first >= 0) & (first < limits)
    row, column = np.moveaxis(np.clip(first, 0, limits - 1), 1, 0)
    values = images[np.arange(len(images))[:, None, None], row[:, :, None], column[:, None, :]]
    return np.where(inside[:, 0, :, None] & inside[:, 1, None, :], values, beyond).astype(
        images.dtype
    )


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Images of another size, averaged over what a new pixel covers.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, side, side)
    size : int
        Pixels on a side.

    Returns
    -------
    numpy.ndarray of float32, shape (n, size, size)
    """
    from PIL import Image

    if images.shape[1:] == (size, size):
        return images.astype(np.float32)
    resized = np.empty((len(images), size, size), np.float32)
    for k, image in enumerate(images.astype(np.float32)):
        resized[k] = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    return resized


def stretch(images: np.ndarray, how: str = "min_max", *, softening: float = 0.1) -> np.ndarray:
    """Brightness of each image from 0 to 1.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, height, width)
    how : {"min_max", "asinh"}
        Linear, as published, or linear below and logarithmic above the softening.
    softening : float
        In units of the brightest pixel.

    Returns
    -------
    numpy.ndarray of float32, shape (n, height, width)
        Zero everywhere where all pixels are equal.

    Raises
    ------
    ValueError
        If there is no such stretch.

    References
    ----------
    Lupton, Gunn & Szalay (1999), AJ 118, 1406 (asinh).

    Examples
    --------
    >>> import numpy as np
    >>> image = np.array([[[0.0, 1.0], [5.0, 10.0]]])
    >>> stretch(image)
    array([[[0. , 0.1],
            [0.5, 1. ]]], dtype=float32)
    >>> stretch(image, "asinh").round(2)
    array([[[0.  , 0.29],
            [0.77, 1.  ]]], dtype=float32)
    """
    if how not in STRETCHES:
        msg = f"stretch {how!r} is none of {', '.join(STRETCHES)}"
        raise ValueError(msg)
    low = images.min(axis=(1, 2), keepdims=True)
    span = images.max(axis=(1, 2), keepdims=True) - low
    scaled = np.divide(
        images - low, span, out=np.zeros(images.shape, np.float32), where=span > 0,
        casting="same_kind",
    )  # fmt: skip
    if how == "asinh":
        return np.arcsinh(scaled / np.float32(softening)) / np.float32(np.arcsinh(1 / softening))
    return scaled
