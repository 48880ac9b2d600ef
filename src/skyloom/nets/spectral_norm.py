"""Spectral normalisation that begins with the same numbers in every process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras


def seed_spectral_norms(model: keras.Model, seed: int) -> None:
    """Draw the vectors of the power iterations anew: Keras draws them without a seed.

    Parameters
    ----------
    model : keras.Model
        Those of its layers that are normalised are changed.
    seed : int
        Of the vectors.
    """
    import keras

    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.SpectralNormalization):
            layer.vector_u.assign(rng.normal(0, 0.02, layer.vector_u.shape))
