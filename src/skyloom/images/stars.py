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
_BRIGHT = 200.0  # S/N of stars that may have spikes
_SPIKE = 25.0  # length of a spike, widths of a star
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
        Side of the boxes in which both are measured, pixels; about, so that they fit.

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
    # Boxes that fit: what is left over would be a box of a few pixels, filled by one star.
    high, wide = (max(4, -(-side // max(1, round(side / box)))) for side in image.shape)
    options = {"mask": ~observed, "bw": wide, "bh": high}
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
    # A frame that is lower than all, so that a peak may lie on the edge.
    padded = np.pad(values, reach, constant_values=-np.inf)
    row, column = np.nonzero(values > threshold)
    highest = np.full(row.shape, True)
    # Few pixels are above the threshold: each is compared with those about it.
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if np.hypot(dx, dy) <= max(separation / 2, 1):
                highest &= values[row, column] >= padded[row + dy + reach, column + dx + reach]
    is_peak = np.zeros(values.shape, bool)
    is_peak[row[highest], column[highest]] = True
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
    peaks = peaks[inner_places(peaks, image.shape, half)]
    peaks = peaks.iloc[len(peaks) // 10 :][:max_stars]
    stamps, peak = cut_stamps(image, peaks, half)
    stamps = stamps[peak > 0]
    if len(stamps) < 5:
        return np.nan
    star = np.median(stamps, axis=0)
    grid = np.arange(-half, half + 1)
    radius = np.hypot(grid[:, None], grid[None, :])
    radii, bins = np.unique(radius.round(6), return_inverse=True)
    profile = np.bincount(bins.ravel(), star.ravel()) / np.bincount(bins.ravel())
    below = np.flatnonzero(profile < 0.5 * profile[0])
    if not below.size:
        return np.nan
    k = below[0]
    share = (profile[k - 1] - 0.5 * profile[0]) / (profile[k - 1] - profile[k])
    return float(2 * (radii[k - 1] + share * (radii[k] - radii[k - 1])))


def inner_places(places: pd.DataFrame, shape: tuple[int, int], margin: float) -> pd.Series:
    """Which places are farther from the edge of an image than a margin.

    Parameters
    ----------
    places : pandas.DataFrame
        ``x`` and ``y``, pixels.
    shape : tuple of int
        Height and width of the image.
    margin : float
        Pixels.

    Returns
    -------
    pandas.Series of bool
    """
    height, width = shape
    inside = places["x"].between(margin, width - 1 - margin)
    return inside & places["y"].between(margin, height - 1 - margin)


def cut_stamps(image: np.ndarray, places: pd.DataFrame, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut stars out of an image and divide each by its peak.

    Parameters
    ----------
    image : numpy.ndarray, shape (height, width)
        Without background.
    places : pandas.DataFrame
        ``x`` and ``y``, pixels; farther from the edge than ``half``.
    half : int
        Half size of a stamp, pixels.

    Returns
    -------
    stamps : numpy.ndarray, shape (n, 2 half + 1, 2 half + 1)
        With the star in the middle, 1 there and 0 at the rim.
    peak : numpy.ndarray, shape (n,)
        In units of the image; where it is not positive, the stamp tells nothing.
    """
    from scipy import ndimage

    grid = np.arange(-half, half + 1)
    x, y = (places[name].to_numpy(float) for name in "xy")
    rows = y[:, None, None] + grid[None, :, None] + 0 * grid[None, None, :]
    columns = x[:, None, None] + grid[None, None, :] + 0 * grid[None, :, None]
    stamps = ndimage.map_coordinates(image, np.stack([rows, columns]), order=3)
    radius = np.hypot(grid[:, None], grid[None, :])
    stamps = stamps - np.median(stamps[:, radius > half - 2], axis=1)[:, None, None]
    peak = stamps[:, radius < 1.2].mean(axis=1)
    return stamps / np.where(peak > 0, peak, 1)[:, None, None], peak


def core_widths(stamps: np.ndarray) -> np.ndarray:
    """Width of what is in the middle of stamps, without its neighbours.

    Parameters
    ----------
    stamps : numpy.ndarray, shape (n, side, side)
        From `cut_stamps`.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Diameter of a disc of the area above half of the peak that hangs together with the middle,
        pixels.
    """
    from scipy import ndimage

    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    parts, _ = ndimage.label(stamps > 0.5, in_plane)
    half = stamps.shape[1] // 2
    own = parts[:, half, half][:, None, None]
    return 2 * np.sqrt(((parts == own) & (own > 0)).sum(axis=(1, 2)) / np.pi)


def measure_growth(
    image: np.ndarray, stars: pd.DataFrame, *, half: int = 12, max_stars: int = 500
) -> float:
    """By how much the stars of an image widen with their brightness, as on plates.

    Parameters
    ----------
    image : numpy.ndarray, shape (height, width)
        In units of the noise, see `normalise_sky`.
    stars : pandas.DataFrame
        ``x``, ``y`` (pixels) and ``snr``.
    half : int
        Half size of what is cut out about a star, pixels.
    max_stars : int
        The brightest ones, of S/N above 15.

    Returns
    -------
    float
        Pixels of the width at half of the maximum, for ten times the S/N; NaN where fewer than 10
        stars tell it, or all are alike: in a crowd neighbours widen the faint ones.

    Notes
    -----
    The width is that of `core_widths`. The slope is Theil's, which
    neighbours and saturated stars here and there do not change.
    """
    from scipy.stats import theilslopes

    chosen = stars[(stars["snr"] > 15) & inner_places(stars, image.shape, half)]
    chosen = chosen.nlargest(max_stars, "snr")
    if len(chosen) < 10 or chosen["snr"].max() < 2 * chosen["snr"].min():
        return np.nan
    stamps, peak = cut_stamps(image, chosen, half)
    width = core_widths(stamps)
    lit = peak > 0
    slope, *_ = theilslopes(width[lit], np.log10(chosen["snr"].to_numpy(float)[lit]))
    return float(slope)


def measure_shapes(
    image: np.ndarray, places: pd.DataFrame, fwhm: float, *, half: int = 10
) -> pd.DataFrame:
    """How wide and how long the light at each place is.

    Parameters
    ----------
    image : numpy.ndarray, shape (height, width)
        Without background.
    places : pandas.DataFrame
        ``x`` and ``y``, pixels.
    fwhm : float
        Of a star, pixels.
    half : int
        Half size of what is cut out, pixels.

    Returns
    -------
    pandas.DataFrame
        ``width`` (pixels; of a disc of the area above half of the peak), ``elongation`` (long by
        short axis of the second moments) and ``angle`` (of the long axis, from x towards y, rad).
    """
    stamps, _ = cut_stamps(image, places, half) if len(places) else (np.zeros((0, 1, 1)), None)
    grid = np.arange(-half, half + 1) if len(places) else np.zeros(1)
    x, y = grid[None, None, :], grid[None, :, None]
    window = np.exp(-0.5 * (x**2 + y**2) / (1.5 * fwhm) ** 2)
    # What both sides have: neither a neighbour nor the halo of a bright star makes a star long.
    light = np.clip(np.minimum(stamps, stamps[:, ::-1, ::-1]), 0, None) * window
    total = np.maximum(light.sum(axis=(1, 2)), 1e-9)

    def moment(values):
        return (light * values).sum(axis=(1, 2)) / total

    middle_x, middle_y = moment(x), moment(y)
    xx, yy = moment(x**2) - middle_x**2, moment(y**2) - middle_y**2
    xy = moment(x * y) - middle_x * middle_y
    apart = np.hypot(xx - yy, 2 * xy)
    return pd.DataFrame(
        {
            "width": core_widths(stamps),
            "elongation": np.sqrt((xx + yy + apart) / np.maximum(xx + yy - apart, 1e-3)),
            "angle": 0.5 * np.arctan2(2 * xy, xx - yy),
        },
        index=places.index,
    )


def on_spikes(detections: pd.DataFrame, fwhm: float) -> np.ndarray:
    """Which detections are long and point at a much brighter star, as spikes and bleeding do.

    Parameters
    ----------
    detections : pandas.DataFrame
        ``x``, ``y`` (pixels), ``snr``, and ``elongation`` and ``angle`` of `measure_shapes`.
    fwhm : float
        Of a star, pixels.

    Returns
    -------
    numpy.ndarray of bool, shape (n,)
    """
    from scipy.spatial import KDTree

    flagged = np.zeros(len(detections), bool)
    bright = detections[detections["snr"] > _BRIGHT]
    if bright.empty:
        return flagged
    places, snr = detections[["x", "y"]].to_numpy(), detections["snr"].to_numpy()
    tree = KDTree(places)
    for star in bright.itertuples():
        near = np.array(tree.query_ball_point((star.x, star.y), _SPIKE * fwhm), int)
        near = near[snr[near] < star.snr / 10]
        towards = np.arctan2(places[near, 1] - star.y, places[near, 0] - star.x)
        angle, elongation = (detections[name].to_numpy()[near] for name in ("angle", "elongation"))
        # An axis has no direction: the sine is the same both ways.
        along = np.abs(np.sin(towards - angle)) < np.sin(np.radians(15))
        flagged[near[along & (elongation > 1.5)]] = True
    return flagged


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


def star_discs(stars: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Discs about stars, as published: of a radius that grows with the brightness.

    Parameters
    ----------
    stars : numpy.ndarray, shape (k, 3)
        Column, row (pixels) and magnitude; those without one have no disc.
    shape : tuple of int
        Height and width of the image.

    Returns
    -------
    numpy.ndarray of bool, shape (height, width)

    Notes
    -----
    Radius = 1 + (m_max - m) / (m_max - m_min) (0.00586 side - 1) pixels, where the side is the
    shorter one and the magnitudes are those of this image.
    """
    mask = np.zeros(shape, bool)
    known = stars[np.isfinite(stars[:, 2])]
    if not len(known):
        return mask
    faintest, spread = known[:, 2].max(), max(np.ptp(known[:, 2]), 1e-9)
    largest = max(0.005859375 * min(shape) - 1, 0)
    for x, y, magnitude in known:
        radius = 1 + (faintest - magnitude) / spread * largest
        rows = np.arange(max(0, int(y - radius)), min(shape[0], int(y + radius) + 2))
        columns = np.arange(max(0, int(x - radius)), min(shape[1], int(x + radius) + 2))
        inside = (rows[:, None] - y) ** 2 + (columns[None, :] - x) ** 2 <= radius**2
        mask[np.ix_(rows, columns)] |= inside
    return mask


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
    sep.set_extract_pixstack(max(int(1.1 * image.size), 300_000))
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
