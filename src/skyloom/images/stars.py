"""Stars in images: normalisation, widths, peaks, classical finders, matching with a catalogue."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

_FWHM = np.sqrt(8 * np.log(2))
USUAL_FWHM = 3.0
"""Of a star where the image does not tell it, pixels."""
DETECTION_COLUMNS = ("x", "y", "flux", "snr", "score")
"""Of every finder: pixels with the middle of the first one at 0, counts, S/N, and what ranks."""


class NormalisedImage(NamedTuple):
    """An image in units of its own noise.

    Attributes
    ----------
    image : numpy.ndarray of float32, shape (height, width)
        Without background, divided by the local noise; 0 where nothing was observed.
    background, noise : numpy.ndarray of float32, shape (height, width)
        In the unit of the image as it was.
    observed : numpy.ndarray of bool, shape (height, width)
        Where there are data.
    """

    image: np.ndarray
    background: np.ndarray
    noise: np.ndarray
    observed: np.ndarray


def normalise_sky(
    image: np.ndarray, masked: np.ndarray | None = None, *, box: int = 32
) -> NormalisedImage:
    """Take away the background of an image and divide by its noise, both local.

    Parameters
    ----------
    image : numpy.ndarray, shape (height, width)
        NaN where nothing was observed.
    masked : numpy.ndarray of bool, shape (height, width), optional
        Further pixels that say nothing.
    box : int
        Side of the boxes in which both are measured, pixels.

    Returns
    -------
    NormalisedImage
        All 0 where the image has nothing but one value, or no data at all.

    References
    ----------
    Bertin & Arnouts (1996), A&AS 117, 393, section 3: the mode of the clipped box.
    """
    import sep

    observed = np.isfinite(image) & ~(np.zeros(image.shape, bool) if masked is None else masked)
    data = np.ascontiguousarray(np.where(observed, image, 0), dtype=np.float32)
    flat = np.zeros(image.shape, np.float32)
    if not observed.any() or np.ptp(data[observed]) == 0:
        return NormalisedImage(flat, flat + (data[observed][:1].sum()), flat, observed)
    box = max(4, min(box, *image.shape))
    options = {"mask": ~observed, "bw": box, "bh": box}
    background = sep.Background(data, **options).back()
    # Of what is left: a slope within a box is no noise.
    noise = sep.Background(data - background, **options).rms()
    # Where a box has no noise at all, as of counts that are all the same, that of the image counts.
    usual = noise[observed & (noise > 0)]
    noise = np.maximum(noise, 0.1 * np.median(usual) if usual.size else 1.0)
    return NormalisedImage(
        np.where(observed, (data - background) / noise, 0).astype(np.float32),
        background,
        noise,
        observed,
    )


def matched_filter(image: np.ndarray, fwhm: float) -> np.ndarray:
    """S/N of a star at each pixel.

    Parameters
    ----------
    image : numpy.ndarray, shape (height, width)
        In units of the noise, see `normalise_sky`.
    fwhm : float
        Of a star, pixels.

    Returns
    -------
    numpy.ndarray of float32, shape (height, width)

    Notes
    -----
    The noise after the filter is measured rather than computed, since that of neighbouring pixels
    is correlated on plates and in images that were resampled.
    """
    from scipy import ndimage

    filtered = ndimage.gaussian_filter(image.astype(np.float32), fwhm / _FWHM)
    seen = filtered[image != 0]
    if not seen.size:
        return filtered
    # The lower half: stars are above.
    middle = np.median(seen)
    low = middle - seen[seen < middle]
    scatter = 1.4826 * np.median(low) if low.size else 0.0
    return (filtered - middle) / scatter if scatter > 0 else np.zeros_like(filtered)


def find_peaks(values: np.ndarray, threshold: float, separation: float) -> pd.DataFrame:
    """Peaks of a map with positions better than a pixel.

    Parameters
    ----------
    values : numpy.ndarray, shape (height, width)
        Such as the probability of a star.
    threshold : float
        Of the peak.
    separation : float
        Of two peaks at least, pixels.

    Returns
    -------
    pandas.DataFrame
        ``x``, ``y`` (pixels) and ``value``, the highest first; empty where there is none.
    """
    from scipy import ndimage

    reach = max(1, round(separation / 2))
    grid = np.arange(-reach, reach + 1)
    disc = np.hypot(grid[:, None], grid[None, :]) <= max(separation / 2, 1)
    highest = ndimage.maximum_filter(values, footprint=disc, mode="constant", cval=-np.inf)
    is_peak = (values == highest) & (values > threshold)
    # Neighbours of the same value are one peak, in their middle.
    flat, n_peaks = ndimage.label(is_peak, np.ones((3, 3)))
    y, x = np.nonzero(is_peak)
    number = flat[y, x] - 1
    size = np.bincount(number, minlength=n_peaks)
    middle_y, middle_x = (
        np.bincount(number, each, minlength=n_peaks) / np.maximum(size, 1) for each in (y, x)
    )
    y, x = middle_y.round().astype(int), middle_x.round().astype(int)
    peak = values[y, x]

    def offset(before, after):
        """Vertex of the parabola through three values."""
        curvature = before - 2 * peak + after
        with np.errstate(divide="ignore", invalid="ignore"):
            shift = 0.5 * (before - after) / curvature
        return np.where(curvature < 0, np.clip(shift, -0.5, 0.5), 0.0)

    padded = np.pad(values, 1, mode="edge")
    table = pd.DataFrame(
        {
            "x": np.where(size > 1, middle_x, x + offset(padded[y + 1, x], padded[y + 1, x + 2])),
            "y": np.where(size > 1, middle_y, y + offset(padded[y, x + 1], padded[y + 2, x + 1])),
            "value": peak,
        }
    )
    return table.sort_values("value", ascending=False, kind="stable", ignore_index=True)


def measure_fwhm(image: np.ndarray, *, max_stars: int = 300, half: int = 12) -> float:
    """Width of the stars of an image.

    Parameters
    ----------
    image : numpy.ndarray, shape (height, width)
        In units of the noise, see `normalise_sky`.
    max_stars : int
        That are measured.
    half : int
        Half size of what is cut out about a star, pixels.

    Returns
    -------
    float
        Full width at half of the maximum, pixels; NaN where there are fewer than 5 stars that can
        be measured.

    Notes
    -----
    Stars are cut out, divided by their peaks, and their median is taken, which has no neighbours
    in it. The brightest tenth is left out, whose cores may be saturated.
    """
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(image, 0.8)
    scatter = 1.4826 * np.median(np.abs(smooth - np.median(smooth)))
    peaks = find_peaks(smooth, 8 * scatter, 5) if scatter > 0 else pd.DataFrame()
    if not len(peaks):
        return np.nan
    inside = np.logical_and(
        *(
            peaks[k].between(half, side - 1 - half)
            for k, side in zip("yx", image.shape, strict=True)
        )
    )
    peaks = peaks[inside]
    peaks = peaks.iloc[len(peaks) // 10 :][:max_stars]
    if len(peaks) < 5:
        return np.nan
    grid = np.arange(-half, half + 1)
    where = np.stack(
        [
            np.add.outer(peaks["y"].to_numpy(), grid[:, None] + 0 * grid[None, :]),
            np.add.outer(peaks["x"].to_numpy(), grid[None, :] + 0 * grid[:, None]),
        ]
    )
    stamps = ndimage.map_coordinates(image, where, order=3)
    radius = np.hypot(grid[:, None], grid[None, :])
    stamps = stamps - np.median(stamps[:, radius > half - 2], axis=1)[:, None, None]
    core = stamps[:, radius < 1.2].mean(axis=1)
    stamps = stamps[core > 0] / core[core > 0][:, None, None]
    if len(stamps) < 5:
        return np.nan
    star = np.median(stamps, axis=0)
    radii, bins = np.unique(radius.round(6), return_inverse=True)
    profile = np.bincount(bins.ravel(), star.ravel()) / np.bincount(bins.ravel())
    below = np.flatnonzero(profile < 0.5 * profile[0])
    if not below.size:
        return np.nan
    k = below[0]
    share = (profile[k - 1] - 0.5 * profile[0]) / (profile[k - 1] - profile[k])
    return float(2 * (radii[k - 1] + share * (radii[k] - radii[k - 1])))


def pixels_of(places: pd.DataFrame, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Pixel of each place, the nearest one where it lies off the image.

    Parameters
    ----------
    places : pandas.DataFrame
        ``x`` and ``y``, pixels.
    shape : tuple of int
        Height and width of the image.

    Returns
    -------
    row, column : numpy.ndarray of int, shape (n_places,)
    """
    row, column = (
        places[name].round().astype(int).clip(0, side - 1).to_numpy()
        for name, side in zip("yx", shape, strict=True)
    )
    return row, column


# --- classical finders ----------------------------------------------------------------------------


def find_by_sep(
    normalised: NormalisedImage,
    *,
    threshold: float = 2.0,
    fwhm: float = 3.0,
    min_area: int = 3,
    deblend_contrast: float = 0.005,
    max_ellipticity: float = 1.0,
) -> pd.DataFrame:
    """Find stars as SExtractor does.

    Parameters
    ----------
    normalised : NormalisedImage
        Of the field.
    threshold : float
        In units of the noise, after the filter.
    fwhm : float
        Of the filter, pixels.
    min_area : int
        Pixels of a source.
    deblend_contrast : float
        Share of the light that makes a peak a source of its own.
    max_ellipticity : float
        1 - b / a of what counts as a star.

    Returns
    -------
    pandas.DataFrame
        `DETECTION_COLUMNS`, the best first.

    References
    ----------
    Bertin & Arnouts (1996), A&AS 117, 393; Barbary (2016), JOSS 1, 58.
    """
    import sep

    image = np.ascontiguousarray(normalised.image, np.float32)
    half = max(2, int(np.ceil(fwhm)))
    grid = np.arange(-half, half + 1)
    kernel = np.exp(-0.5 * (grid[:, None] ** 2 + grid[None, :] ** 2) / (fwhm / _FWHM) ** 2)
    # A crowded field needs more than the default of both.
    sep.set_extract_pixstack(max(image.size, 300_000))
    sep.set_sub_object_limit(16384)
    found = sep.extract(
        image, threshold, err=1.0, mask=~normalised.observed, minarea=min_area,
        filter_kernel=kernel.astype(np.float32), deblend_nthresh=32,
        deblend_cont=deblend_contrast, clean=True,
    )  # fmt: skip
    round_enough = found["b"] >= (1 - max_ellipticity) * found["a"]
    found = found[round_enough]
    return _detections(found["x"], found["y"], found["flux"], found["cpeak"])


def find_by_photutils(
    normalised: NormalisedImage,
    *,
    method: str = "DAO",
    threshold: float = 4.0,
    fwhm: float = 3.0,
    sharpness_range: tuple[float, float] = (0.2, 1.0),
    roundness_range: tuple[float, float] = (-1.0, 1.0),
) -> pd.DataFrame:
    """Find stars as DAOFIND or IRAF's starfind do.

    Parameters
    ----------
    normalised : NormalisedImage
        Of the field.
    method : {"DAO", "IRAF"}
        Which.
    threshold : float
        In units of the noise.
    fwhm : float
        Of the filter, pixels.
    sharpness_range, roundness_range : tuple of 2 floats
        Of what counts as a star; their meaning is that of the method.

    Returns
    -------
    pandas.DataFrame
        `DETECTION_COLUMNS`, the best first.

    References
    ----------
    Stetson (1987), PASP 99, 191.
    """
    from photutils.detection import DAOStarFinder, IRAFStarFinder
    from photutils.utils.exceptions import NoDetectionsWarning

    finder = {"DAO": DAOStarFinder, "IRAF": IRAFStarFinder}[method](
        threshold=threshold, fwhm=fwhm, sharpness_range=sharpness_range,
        roundness_range=roundness_range,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)
        found = finder(normalised.image.astype(float), mask=~normalised.observed)
    if found is None:
        return _detections(*np.zeros((4, 0)))
    x, y = (np.asarray(found[name]) for name in ("x_centroid", "y_centroid"))
    # The flux of the one may be negative, so both are ranked by their peak.
    return _detections(x, y, np.asarray(found["flux"]), np.asarray(found["peak"]))


def _detections(x, y, flux, snr):
    table = pd.DataFrame({"x": x, "y": y, "flux": flux, "snr": snr, "score": snr}, dtype=float)
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)


# --- matching -------------------------------------------------------------------------------------


def match_detections(
    detections: pd.DataFrame, stars: pd.DataFrame, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Match detections with stars one to one, the best detection first.

    Parameters
    ----------
    detections : pandas.DataFrame
        ``x``, ``y`` and ``score``.
    stars : pandas.DataFrame
        ``x`` and ``y``.
    radius : float
        Within which they are the same, pixels.

    Returns
    -------
    star : numpy.ndarray of int, shape (n_detections,)
        Row of the star of each detection; -1 where it has none.
    distance : numpy.ndarray, shape (n_detections,)
        Pixels; NaN where there is none.

    Notes
    -----
    Each detection in turn takes the nearest star that is still free. So what a detection is matched
    with does not depend on those which rank below it, and a threshold may be moved afterwards.
    """
    from scipy.spatial import KDTree

    star = np.full(len(detections), -1)
    distance = np.full(len(detections), np.nan)
    if not len(stars) or not len(detections):
        return star, distance
    places = detections[["x", "y"]].to_numpy()
    apart, near = KDTree(stars[["x", "y"]].to_numpy()).query(
        places, k=min(8, len(stars)), distance_upper_bound=radius
    )
    apart, near = apart.reshape(len(places), -1), near.reshape(len(places), -1)
    taken = np.zeros(len(stars) + 1, bool)
    taken[-1] = True  # where there is none, the tree answers with the number of stars
    for k in np.argsort(-detections["score"].to_numpy(), kind="stable"):
        free = np.flatnonzero(~taken[near[k]])
        if free.size:
            star[k], distance[k] = near[k][free[0]], apart[k][free[0]]
            taken[star[k]] = True
    return star, distance


Finder = Callable[..., pd.DataFrame]
FINDERS: dict[str, tuple[Finder, dict[str, Any]]] = {
    "SEP": (
        find_by_sep,
        {
            "threshold": {"low": 0.8, "high": 6.0, "log": True},
            "fwhm": {"low": 1.5, "high": 6.0, "log": True},
            "min_area": {"low": 1, "high": 12},
            "deblend_contrast": {"low": 1e-5, "high": 0.05, "log": True},
            "max_ellipticity": {"low": 0.3, "high": 1.0},
        },
    ),
    "DAO": (
        find_by_photutils,
        {
            "method": ["DAO"],
            "threshold": {"low": 0.8, "high": 10.0, "log": True},
            "fwhm": {"low": 1.5, "high": 6.0, "log": True},
        },
    ),
    "IRAF": (
        find_by_photutils,
        {
            "method": ["IRAF"],
            "threshold": {"low": 0.8, "high": 10.0, "log": True},
            "fwhm": {"low": 1.5, "high": 6.0, "log": True},
        },
    ),
}
"""Classical finders, and what is searched of their settings."""


def star_discs(
    x: np.ndarray, y: np.ndarray, magnitude: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Discs on stars, the larger the brighter, as published.

    Parameters
    ----------
    x, y : numpy.ndarray, shape (n,)
        Pixels; the middle of the first one is 0. Stars may lie outside of the image.
    magnitude : numpy.ndarray, shape (n,)
        A star without one has no disc, but all that have one set the range.
    shape : tuple of int
        Of the image.

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width)
        1 on a star.

    Notes
    -----
    Radius = 1 + (m_max - m) / (m_max - m_min) (0.00586 size - 1) pixels, and 1 at least; the size
    is that of the shorter side.
    """
    discs = np.zeros(shape, np.uint8)
    known = magnitude[np.isfinite(magnitude)]
    if not known.size:
        return discs
    spread = max(np.ptp(known), 1e-9)
    radii = 1 + (known.max() - magnitude) / spread * max(0.005859375 * min(shape) - 1, 0)
    for column, row, radius in zip(x, y, radii, strict=True):
        if not np.isfinite(column + row + radius):
            continue
        rows, columns = (
            np.arange(max(0, int(middle - radius)), min(side, int(middle + radius) + 2))
            for middle, side in ((row, shape[0]), (column, shape[1]))
        )
        inside = (rows[:, None] - row) ** 2 + (columns - column) ** 2 <= radius**2
        discs[np.ix_(rows, columns)] |= inside
    return discs
