"""Images turned and mirrored, which leaves their class as it is."""

from __future__ import annotations

from typing import Any

import numpy as np


def rotate_and_flip(images: Any, angles: Any, flip: Any) -> Any:
    """Turn images about their middle, and mirror some of them before.

    Parameters
    ----------
    images : array_like or tensor, shape (n, height, width, channels)
        Zero where there is no source; so are the corners that turn in.
    angles : array_like or tensor, shape (n,)
        deg, from columns towards rows.
    flip : array_like or tensor of bool, shape (n,)
        Whether left and right are exchanged.

    Returns
    -------
    tensor of float32, shape (n, height, width, channels)
        Interpolated linearly.
    """
    from keras import ops

    images = ops.cast(images, "float32")
    angle = ops.cast(angles, "float32") * np.float32(np.pi / 180)
    sign = 1 - 2 * ops.cast(flip, "float32")
    cosine, sine = ops.cos(angle), ops.sin(angle)
    middle_y, middle_x = ((side - 1) / 2 for side in images.shape[1:3])
    # Where each pixel of the result comes from: turned back, then mirrored.
    xx, xy, yx, yy = sign * cosine, sign * sine, -sine, cosine
    zero = ops.zeros_like(angle)
    transform = ops.stack(
        [
            xx, xy, middle_x - xx * middle_x - xy * middle_y,
            yx, yy, middle_y - yx * middle_x - yy * middle_y,
            zero, zero,
        ],
        axis=1,
    )  # fmt: skip
    return ops.image.affine_transform(images, transform, "bilinear", "constant", 0.0)


def orientations(images: np.ndarray) -> list[np.ndarray]:
    """The eight orientations of images that move pixels and interpolate none.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, side, side, channels)
        Any.

    Returns
    -------
    list of numpy.ndarray, shape (n, side, side, channels)
        The images as they are come first.
    """
    return [
        np.rot90(each, turns, (1, 2)) for each in (images, images[:, :, ::-1]) for turns in range(4)
    ]


def neighbouring_offsets(pixels: int) -> list[tuple[int, int]]:
    """No offset and those by some pixels along the rows and the columns.

    Parameters
    ----------
    pixels : int
        0 for no offset only.

    Returns
    -------
    list of tuple of int
        Rows and columns. Turned and mirrored they are the same.
    """
    return [(0, 0)] + [(0, pixels), (0, -pixels), (pixels, 0), (-pixels, 0)] * (pixels > 0)


def random_rotations(seed: int) -> Any:
    """Function that turns and mirrors the images of a numbered batch at random.

    Parameters
    ----------
    seed : int
        The same seed and number give the same angles.

    Returns
    -------
    callable
        ``(number, images) -> images``, to be mapped over a `tf.data.Dataset`.
    """
    import tensorflow as tf

    def change(number, images):
        key = tf.stack([tf.constant(seed, tf.int64), tf.cast(number, tf.int64)])
        count = tf.shape(images)[0]
        angles = tf.random.stateless_uniform((count,), key, 0.0, 360.0)
        flip = tf.random.stateless_uniform((count,), key + 2**32) < 0.5
        return rotate_and_flip(images, angles, flip)

    return change
