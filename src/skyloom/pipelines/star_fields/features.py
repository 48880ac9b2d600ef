"""Node functions of the features: what a network sees, and what it is taught."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from skyloom.images.stars import USUAL_FWHM, matched_filter, star_discs
from skyloom.pipelines.star_fields.parameters import FeatureParameters, IngestionParameters, Sweep

_WIDE = 20.0  # S/N from which a star is wider than what it is taught as


def light_range(pixels: np.ndarray) -> tuple[float, float]:
    """Darkest and brightest of all pixels, in units of the noise.

    Returns
    -------
    low, high : float
        0 where there are none.
    """
    seen = np.asarray(pixels)[np.isfinite(pixels)]
    return (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)


def prepare_images(
    pixels: np.ndarray, features: FeatureParameters, stretch: tuple[float, float] | None = None
) -> np.ndarray:
    """Tiles as a network takes them.

    Parameters
    ----------
    pixels : numpy.ndarray, shape (n, height, width)
        In units of the noise above the background; NaN where nothing was observed.
    features : FeatureParameters
        ``star_fields.features``.
    stretch : tuple of 2 floats, optional
        What ``min_max`` makes 0 and 1; by default the darkest and the brightest of these pixels.

    Returns
    -------
    numpy.ndarray of float32, shape (n, height, width, n_channels)
        ``min_max`` stretches all of them together from 0 to 1, as published; ``local`` is the
        inverse hyperbolic sine of what is there.
    """
    light = np.nan_to_num(np.asarray(pixels, np.float32))
    if features.normalisation == "local":
        light = np.arcsinh(light)
    elif light.size:
        low, high = stretch or (light.min(), light.max())
        light = (light - low) / max(high - low, 1e-9)
    return np.repeat(light[..., None], features.n_channels, axis=3)


def draw_targets(
    stars: np.ndarray, size: int, features: FeatureParameters, *, limit: float, doubtful: float
) -> np.ndarray:
    """What a network is taught of a tile.

    Parameters
    ----------
    stars : numpy.ndarray, shape (k, 4)
        `skyloom.evaluation.detection.STAR_COLUMNS`, from the first pixel of the tile.
    size : int
        Pixels on a side.
    features : FeatureParameters
        ``profile`` is a Gaussian on each star that must be seen, wider on bright ones; ``discs``
        are those published: of a radius that grows with the brightness, in the range of the
        tile's own magnitudes.
    limit, doubtful : float
        S/N of stars that must be seen, and of those that may be.

    Returns
    -------
    numpy.ndarray of float32, shape (size, size, 2)
        From 0 to 1, and the weight of each pixel: 0 about stars that may be seen or not.
    """
    target, weight = np.zeros((size, size), np.float32), np.ones((size, size), np.float32)
    snr = stars[:, 2]
    seen = stars[snr > limit]
    if features.target == "discs":
        target += star_discs(seen[:, [0, 1, 3]], (size, size))
        return np.stack([target, weight], axis=-1)
    for x, y, *_ in stars[(snr > doubtful) & (snr <= limit)]:
        row, column = round(float(y)), round(float(x))
        weight[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = 0
    # The middle of a saturated star is not known to a pixel.
    growth = 1 + features.target_growth * np.log10(np.maximum(seen[:, 2] / _WIDE, 1))
    for (x, y, *_), sigma in zip(seen, features.target_width * growth, strict=True):
        row, column, reach = round(float(y)), round(float(x)), max(2, round(3 * sigma))
        rows = np.arange(max(0, row - reach), min(size, row + reach + 1))
        columns = np.arange(max(0, column - reach), min(size, column + reach + 1))
        apart = (rows[:, None] - y) ** 2 + (columns[None, :] - x) ** 2
        value = np.exp(-0.5 * apart / sigma**2)
        part = np.ix_(rows, columns)
        target[part] = np.maximum(target[part], value)
        weight[part] = np.where(value > 0.1, 1, weight[part])
    return np.stack([target, weight], axis=-1)


def stars_of_tiles(sample: pd.DataFrame, stars: pd.DataFrame, size: int) -> np.ndarray:
    """Stars of each tile.

    Parameters
    ----------
    sample : pandas.DataFrame
        ``field``, ``x0``, ``y0``.
    stars : pandas.DataFrame
        ``field``, and `skyloom.evaluation.detection.STAR_COLUMNS` in the field.
    size : int
        Pixels on a side of a tile.

    Returns
    -------
    numpy.ndarray of object, shape (n,)
        An array of shape (k, 4) each, positions from the first pixel of the tile.
    """
    by_field = {
        name: part[["x", "y", "snr", "magnitude"]].to_numpy(float)
        for name, part in stars.groupby("field")
    }
    found = np.empty(len(sample), object)
    for number, tile in enumerate(sample.itertuples()):
        known = by_field.get(tile.field, np.zeros((0, 4)))
        moved = known - np.array([tile.x0, tile.y0, 0, 0])
        inside = ((moved[:, :2] >= -0.5) & (moved[:, :2] < size - 0.5)).all(axis=1)
        found[number] = moved[inside]
    return found


def draw_inputs(pixels: np.ndarray, sweep: Sweep) -> dict[str, Callable[[], np.ndarray]]:
    """Images of every variant that the sweep compares.

    Returns
    -------
    dict of str to callable
        Function that returns them, by variant.
    """
    return {
        name: partial(prepare_images, pixels, member.features)
        for name, member in sweep.input_variants.items()
    }


def draw_all_targets(
    sample: pd.DataFrame, stars: pd.DataFrame, sweep: Sweep, ingestion: IngestionParameters
) -> dict[str, Callable[[], np.ndarray]]:
    """What a network is taught of every tile, for every variant.

    Returns
    -------
    dict of str to callable
        Function that returns them, shape (n, tile, tile, 2), by variant.
    """
    tiles = stars_of_tiles(sample, stars, ingestion.tile)
    options = {"limit": ingestion.limit, "doubtful": ingestion.doubtful}
    return {
        name: partial(_targets, tiles, ingestion.tile, member.features, options)
        for name, member in sweep.input_variants.items()
    }


def _targets(tiles, size, features, options):
    drawn = [draw_targets(stars, size, features, **options) for stars in tiles]
    return np.stack(drawn) if drawn else np.zeros((0, size, size, 2), np.float32)


def measure_tiles(sample: pd.DataFrame, fields: pd.DataFrame) -> pd.DataFrame:
    """What the images themselves tell of each tile.

    Returns
    -------
    pandas.DataFrame
        ``id``, and ``fwhm`` (pixels), ``noise_correlation`` of its field.
    """
    about = fields.set_index("id")[["fwhm", "noise_correlation"]]
    return sample[["id", "field"]].join(about, on="field").drop(columns="field")


def filter_tiles(sample: pd.DataFrame, fields: pd.DataFrame, pixels: np.ndarray) -> np.ndarray:
    """S/N of a star at every pixel of every tile.

    Returns
    -------
    numpy.ndarray of float16, shape (n, tile, tile)
    """
    fwhm = sample["field"].map(fields.set_index("id")["fwhm"]).fillna(USUAL_FWHM)
    filtered = [
        matched_filter(np.nan_to_num(tile), width).astype(np.float16)
        for tile, width in zip(pixels, fwhm, strict=True)
    ]
    return np.stack(filtered) if filtered else np.zeros(pixels.shape, np.float16)
