"""Stars of an image, measured by brightness, and put into it or another one again."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pandas as pd

from skyloom.images.stars import cut_stamps, inner_places

_EDGES = (12.0, 30.0, 80.0, 200.0, 500.0, np.inf)  # S/N of the bins of brightness
_FEWEST = 5  # stars of a template
_MAX_STARS = 100


class StarTemplates(NamedTuple):
    """Stars as an image shows them, the faintest first.

    Attributes
    ----------
    snr : numpy.ndarray, shape (n,)
        Median S/N of the stars of each.
    stamps : numpy.ndarray of float32, shape (n, side, side)
        In the units of the image that they were measured in; the star is in the middle.
    """

    snr: np.ndarray
    stamps: np.ndarray


def measure_templates(image: np.ndarray, stars: pd.DataFrame, *, half: int = 12) -> StarTemplates:
    """Stack the isolated stars of an image by their brightness.

    Parameters
    ----------
    image : numpy.ndarray, shape (height, width)
        Without background, such as of `skyloom.images.stars.normalise_sky`; NaN where nothing was
        observed.
    stars : pandas.DataFrame
        ``x``, ``y`` (pixels) and ``snr``.
    half : int
        Half size of a stamp, pixels.

    Returns
    -------
    StarTemplates
        Empty where no bin of brightness has five stars.

    Notes
    -----
    On a plate a bright star is no faint one made larger: its core is saturated and its wings are
    not. So every bin of brightness has a template of its own, the median of its stars.
    """
    image = np.nan_to_num(image)
    inside = stars[inner_places(stars, image.shape, half)]
    # A neighbour that is half as bright spoils a stamp.
    inside = inside[_is_isolated(inside, stars, half)]
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    # Down to 0 at the rim, so that no square is seen.
    taper = np.clip((half - np.hypot(x, y)) / (0.25 * half), 0, 1)
    found, stamps = [], []
    for low, high in itertools.pairwise(_EDGES):
        chosen = inside[inside["snr"].between(low, high, inclusive="left")].head(_MAX_STARS)
        if len(chosen) < _FEWEST:
            continue
        cut, peak = cut_stamps(image, chosen, half)
        lit = peak > 0
        if lit.sum() < _FEWEST:
            continue
        found.append(float(np.median(chosen["snr"].to_numpy()[lit])))
        stamps.append(np.median(cut[lit] * peak[lit][:, None, None], axis=0) * taper)
    side = 2 * half + 1
    return StarTemplates(
        np.array(found), np.array(stamps, np.float32).reshape(len(found), side, side)
    )


def usual_templates(fwhm: float, *, half: int = 12) -> StarTemplates:
    """A Gaussian, for images whose stars are too few to be stacked.

    Parameters
    ----------
    fwhm : float
        Pixels.
    half : int
        Half size of the stamp, pixels.

    Returns
    -------
    StarTemplates
        One, of a star of S/N 20 in white noise of 1.
    """
    sigma, snr = fwhm / np.sqrt(8 * np.log(2)), 20.0
    grid = np.arange(-half, half + 1)
    star = np.exp(-0.5 * (grid[:, None] ** 2 + grid[None, :] ** 2) / sigma**2)
    peak = snr / (np.sqrt(np.pi) * sigma)
    return StarTemplates(np.array([snr]), (peak * star[None]).astype(np.float32))


def _is_isolated(chosen, stars, half):
    from scipy.spatial import KDTree

    if not len(chosen):
        return np.zeros(0, bool)
    near = KDTree(stars[["x", "y"]].to_numpy()).query_ball_point(
        chosen[["x", "y"]].to_numpy(), 0.75 * half
    )
    snr = stars["snr"].to_numpy()
    return np.array(
        [
            (snr[others] > 0.5 * own).sum() <= 1
            for own, others in zip(chosen["snr"], near, strict=True)
        ]
    )


def inject_stars(
    image: np.ndarray, stars: pd.DataFrame, templates: StarTemplates, *, highest: float = np.inf
) -> np.ndarray:
    """Put stars into an image.

    Parameters
    ----------
    image : numpy.ndarray, shape (height, width)
        In the units of the templates.
    stars : pandas.DataFrame
        ``x``, ``y`` (pixels; may lie beyond the edge) and ``snr``.
    templates : StarTemplates
        At least one. Each star is that of the nearest brightness, scaled to its own.
    highest : float
        What no pixel may exceed, as of a detector that saturates.

    Returns
    -------
    numpy.ndarray of float32, shape (height, width)
    """
    from scipy import ndimage

    half = templates.stamps.shape[1] // 2
    wide = np.pad(np.asarray(image, np.float32), 2 * half)
    nearest = np.abs(
        np.log(stars["snr"].to_numpy()[:, None]) - np.log(templates.snr[None, :])
    ).argmin(axis=1)
    for star, number in zip(stars.itertuples(), nearest, strict=True):
        row, column = round(star.y), round(star.x)
        if not (-half <= row < len(image) + half and -half <= column < image.shape[1] + half):
            continue
        stamp = ndimage.shift(
            templates.stamps[number], (star.y - row, star.x - column), order=1, mode="constant"
        )
        part = np.s_[row + half : row + 3 * half + 1, column + half : column + 3 * half + 1]
        wide[part] += star.snr / templates.snr[number] * stamp
    inner = wide[2 * half : -2 * half, 2 * half : -2 * half]
    # What was above before is no star of ours.
    return np.where(np.isfinite(image), np.minimum(inner, np.fmax(highest, image)), image)


def draw_injected(
    templates: StarTemplates,
    shape: tuple[int, int],
    density: float,
    rng: np.random.Generator,
    *,
    faintest: float = 2.0,
    count_slope: float = 0.3,
) -> pd.DataFrame:
    """Draw stars to be put into an image.

    Parameters
    ----------
    templates : StarTemplates
        The brightest star is at most twice as bright as the brightest of them.
    shape : tuple of int
        Height and width of the image.
    density : float
        Stars of S/N above 5 in 1000 pixels.
    rng : numpy.random.Generator
        Source of randomness.
    faintest : float
        S/N.
    count_slope : float
        d log N / d mag of the number of stars brighter than a magnitude.

    Returns
    -------
    pandas.DataFrame
        ``x``, ``y`` (pixels), ``snr`` and ``magnitude`` (-2.5 log10 of it).
    """
    slope = 2.5 * count_slope
    n = rng.poisson(density * shape[0] * shape[1] / 1000 * (5 / faintest) ** slope)
    snr = np.minimum(faintest * rng.random(n) ** (-1 / slope), 2 * templates.snr.max(initial=0))
    return pd.DataFrame(
        {
            "x": rng.uniform(-0.5, shape[1] - 0.5, n),
            "y": rng.uniform(-0.5, shape[0] - 0.5, n),
            "snr": snr,
            "magnitude": -2.5 * np.log10(np.maximum(snr, 1e-9)),
        }
    )
