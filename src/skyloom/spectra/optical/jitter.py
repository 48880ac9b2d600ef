"""Changed copies of spectra, as other spectra of the same star would be."""

from __future__ import annotations

import numpy as np

from skyloom.spectra.constants import SPEED_OF_LIGHT


def changed_copies(
    flux: np.ndarray,
    n: int,
    rng: np.random.Generator,
    *,
    step: float,
    velocity: float,
    noise: float,
    tilt: float,
) -> np.ndarray:
    """Changed copies of spectra: shifted, tilted and noisier.

    Parameters
    ----------
    flux : numpy.ndarray, shape (k, m)
        In units of their continuum, on a logarithmic grid.
    n : int
        Copies.
    rng : numpy.random.Generator
        Draws the changes.
    step : float
        Pixel, in log10(wavelength).
    velocity : float
        Standard deviation of the shift, km/s.
    noise : float
        Its standard deviation, in units of the continuum.
    tilt : float
        Standard deviation of the change at the ends.

    Returns
    -------
    numpy.ndarray of float32, shape (n, m)
        Each of one spectrum, in turn.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> changed_copies(np.ones((2, 5)), 3, rng, step=1e-4, velocity=30, noise=0, tilt=0)
    array([[1., 1., 1., 1., 1.],
           [1., 1., 1., 1., 1.],
           [1., 1., 1., 1., 1.]], dtype=float32)
    """
    m = flux.shape[1]
    chosen = flux[np.resize(rng.permutation(len(flux)), n)]
    shift = velocity * rng.standard_normal((n, 1)) / SPEED_OF_LIGHT / np.log(10) / step
    place = np.clip(np.arange(m) - shift, 0, m - 1.001)
    whole = place.astype(int)
    left, right = (np.take_along_axis(chosen, whole + k, axis=1) for k in (0, 1))
    moved = left + (place - whole) * (right - left)
    slope = 1 + tilt * rng.standard_normal((n, 1)) * np.linspace(-1, 1, m)
    return (moved * slope + noise * rng.standard_normal((n, m))).astype(np.float32)
