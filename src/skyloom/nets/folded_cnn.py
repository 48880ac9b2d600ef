"""The published network's layers along the radius of a ring image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from skyloom.nets.ring_cnn import published_stack

if TYPE_CHECKING:
    import keras


def folded_cnn(
    input_shape: tuple[int, int],
    n_classes: int,
    *,
    widths: Sequence[int] = (32, 64, 128),
    padding: str = "same",
    activation: str | None = "softmax",
    seed: int,
) -> keras.Model:
    """Same blocks and head as `skyloom.nets.ring_cnn.ring_cnn`, in one dimension.

    A rotationally symmetric image is a function of its radius alone, so this is what the second
    dimension has to be compared with.

    Parameters
    ----------
    input_shape : tuple of 2 ints
        Radii, channels.
    n_classes, widths, padding, activation, seed
        As in `skyloom.nets.ring_cnn.ring_cnn`.

    Returns
    -------
    keras.Model
        Not compiled.
    """
    return published_stack(
        input_shape,
        n_classes,
        widths=widths,
        padding=padding,
        activation=activation,
        seed=seed,
        name="folded_cnn",
    )
