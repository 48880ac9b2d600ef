"""Strengths of spectral lines and bands, as the classical classification of stars reads them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd


class LineIndex(NamedTuple):
    """Where a feature is measured, Angstrom in vacuum.

    Attributes
    ----------
    band : tuple of 2 float
        The feature.
    blue, red : tuple of 2 float
        Continuum on both sides; the same one twice where there is none on the other.
    """

    band: tuple[float, float]
    blue: tuple[float, float]
    red: tuple[float, float]


# Bands and side bands about as of the Lick system (Worthey et al. 1994, ApJS 94, 687; Worthey &
# Ottaviani 1997, ApJS 111, 377) and, for hot and cool stars, of Liu et al. (2015, RAA 15, 1137),
# moved to vacuum.
LINE_INDICES = {
    "Ca II K": LineIndex((3928.5, 3941.5), (3906.0, 3922.0), (3991.0, 4011.0)),
    "He I 4026": LineIndex((4019.0, 4035.0), (4009.0, 4018.0), (4038.0, 4050.0)),
    "H delta": LineIndex((4084.5, 4124.0), (4042.0, 4082.0), (4129.0, 4163.0)),
    "Ca I 4227": LineIndex((4223.0, 4236.0), (4212.0, 4221.0), (4242.0, 4252.0)),
    "G band": LineIndex((4282.0, 4317.0), (4267.0, 4283.0), (4318.0, 4336.0)),
    "H gamma": LineIndex((4321.0, 4364.5), (4284.5, 4318.0), (4368.0, 4421.0)),
    "Fe I 4383": LineIndex((4370.0, 4421.0), (4360.0, 4371.5), (4444.0, 4456.5)),
    "He I 4471": LineIndex((4464.0, 4480.0), (4448.0, 4462.0), (4490.0, 4505.0)),
    "Mg II 4481": LineIndex((4478.0, 4488.0), (4448.0, 4462.0), (4490.0, 4505.0)),
    "He II 4542": LineIndex((4534.0, 4552.0), (4518.0, 4532.0), (4556.0, 4566.0)),
    "He II 4686": LineIndex((4679.0, 4696.0), (4660.0, 4676.0), (4700.0, 4712.0)),
    "H beta": LineIndex((4849.0, 4878.0), (4829.0, 4849.0), (4878.0, 4893.0)),
    "Mg b": LineIndex((5161.5, 5194.0), (5119.0, 5144.0), (5193.0, 5208.0)),
    "Fe I 5270": LineIndex((5247.0, 5287.0), (5235.0, 5249.5), (5287.5, 5319.5)),
    "He II 5411": LineIndex((5405.0, 5421.0), (5385.0, 5402.0), (5424.0, 5440.0)),
    "He I 5876": LineIndex((5869.0, 5886.0), (5845.0, 5866.0), (5905.0, 5925.0)),
    "Na D": LineIndex((5880.0, 5910.5), (5862.0, 5877.0), (5923.5, 5949.5)),
    "TiO 6200": LineIndex((6191.5, 6274.0), (6068.0, 6143.5), (6374.0, 6417.0)),
    "H alpha": LineIndex((6550.0, 6580.0), (6500.0, 6545.0), (6585.0, 6630.0)),
    "CaH 6975": LineIndex((6962.0, 6997.0), (7044.0, 7048.0), (7044.0, 7048.0)),
    "TiO 7050": LineIndex((7060.0, 7077.0), (7044.0, 7048.0), (7044.0, 7048.0)),
}


def line_indices(
    wavelength: np.ndarray, flux: np.ndarray, inverse_variance: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Equivalent widths of lines and bands.

    Parameters
    ----------
    wavelength : numpy.ndarray, shape (m,)
        In vacuum, at rest, Angstrom.
    flux, inverse_variance : numpy.ndarray, shape (n, m)
        Any unit; pixels with inverse variance 0 are not used.

    Returns
    -------
    widths : pandas.DataFrame, shape (n, indices)
        Angstrom, positive for absorption; NaN where a band or side band has fewer than half of
        its pixels, lies outside the spectrum, or the continuum is not above zero.
    errors : pandas.DataFrame, shape (n, indices)
        Standard errors from the inverse variances, those of the side bands included.

    References
    ----------
    Worthey et al. (1994), ApJS 94, 687, eq. 2; errors by propagation.

    Examples
    --------
    >>> import numpy as np
    >>> wavelength = np.arange(3850.0, 7300.0)
    >>> line = 0.5 * np.exp(-0.5 * ((wavelength - 6564.6) / 3) ** 2)  # H alpha in vacuum
    >>> flux = (1 - line)[None]
    >>> widths, errors = line_indices(wavelength, flux, np.full_like(flux, 1e4))
    >>> print(f"{widths['H alpha'][0]:.2f} +- {errors['H alpha'][0]:.2f} Angstrom")
    3.76 +- 0.06 Angstrom
    >>> print(f"{line.sum():.2f} Angstrom were put in")
    3.76 Angstrom were put in
    """
    used = inverse_variance > 0
    variance = np.divide(1.0, inverse_variance, out=np.zeros_like(flux, float), where=used)
    step = np.gradient(wavelength)
    widths, errors = {}, {}
    for name, index in LINE_INDICES.items():
        sides = [_mean(wavelength, flux, variance, used, side) for side in (index.blue, index.red)]
        (low, low_variance), (high, high_variance) = sides
        middle = [np.mean(side) for side in (index.blue, index.red)]
        inside = _inside(wavelength, index.band)
        apart = middle[1] - middle[0]
        place = wavelength[inside]
        share = (place - middle[0]) / apart if apart else np.zeros(len(place))
        continuum = low[:, None] * (1 - share) + high[:, None] * share
        good = used[:, inside] & (continuum > 0)
        divisor = np.where(good, continuum, 1.0)
        ratio = flux[:, inside] / divisor
        weight = good * step[inside]
        # Gaps are taken to be like the rest of the band.
        filled = step[inside].sum() / np.maximum(weight.sum(axis=1), 1e-12)
        enough = good.mean(axis=1) >= 0.5 if inside.any() else np.zeros(len(flux), bool)
        widths[name] = np.where(enough, ((1 - ratio) * weight).sum(axis=1) * filled, np.nan)
        own = (weight**2 * variance[:, inside] / divisor**2).sum(axis=1)
        # Each side band moves the continuum of all pixels together.
        slope = weight * ratio / divisor
        blue, red = (slope * (1 - share)).sum(axis=1), (slope * share).sum(axis=1)
        if not apart:
            blue, red = slope.sum(axis=1), np.zeros(len(flux))
        total = own + blue**2 * low_variance + red**2 * high_variance
        errors[name] = np.where(enough, np.sqrt(total) * filled, np.nan)
    return pd.DataFrame(widths), pd.DataFrame(errors)


def _inside(wavelength, band):
    return (wavelength >= band[0]) & (wavelength <= band[1])


def _mean(wavelength, flux, variance, used, band):
    """Mean flux of a side band and its variance, NaN where less than half of it is there."""
    inside = _inside(wavelength, band)
    number = used[:, inside].sum(axis=1)
    covered = wavelength[0] <= band[0] and wavelength[-1] >= band[1]
    enough = covered & (number >= 0.5 * inside.sum()) & (number > 0)
    count = np.maximum(number, 1)
    mean = np.where(used[:, inside], flux[:, inside], 0).sum(axis=1) / count
    spread = variance[:, inside].sum(axis=1) / count**2
    return np.where(enough, mean, np.nan), np.where(enough, spread, np.nan)
