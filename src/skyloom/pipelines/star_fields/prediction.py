"""Node functions of the prediction: new images in, catalogues of their stars out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom.images.sky import SkyImage, read_sky_image
from skyloom.images.stars import (
    USUAL_FWHM,
    find_peaks,
    matched_filter,
    measure_fwhm,
    normalise_sky,
    pixels_of,
)
from skyloom.pipelines.star_fields.features import prepare_images
from skyloom.pipelines.star_fields.fitting import LEAST, SEPARATION
from skyloom.pipelines.star_fields.parameters import Configuration, DetectionParameters
from skyloom.raw_files import UnusableError, load_bytes, tabulate_rejections
from skyloom.raw_files.names import object_ids

DETECTION_COLUMNS = (
    "field", "id", "x", "y", "x_fits", "y_fits", "ra", "dec", "position_error", "snr",
    "magnitude", "probability", "saturated", "blended", "edge",
)  # fmt: skip
SUMMARY_COLUMNS = ("field", "file", "height", "width", "fwhm", "n_stars", "warning")
_MULTIPLE = 16  # pixels, of what the network halves


def find_stars(
    observations: dict[str, Callable[[], bytes]],
    detection: DetectionParameters,
    classifier: tuple[Any, dict[str, Any]],
) -> tuple[pd.DataFrame, pd.DataFrame, Iterator[Any], pd.DataFrame]:
    """Find the stars of every image of a folder.

    Returns
    -------
    stars : pandas.DataFrame
        `DETECTION_COLUMNS`. ``x`` and ``y`` count from 0 at the middle of the first pixel,
        ``x_fits`` and ``y_fits`` from 1, as FITS and DS9 do. Positions are in deg (ICRS), their
        error in arcsec, or pixels without a WCS. ``magnitude`` is instrumental:
        -2.5 log10 of the S/N.
    fields : pandas.DataFrame
        `SUMMARY_COLUMNS`, one row an image; ``warning`` says what is not as in the training.
    sheets : iterator of matplotlib.figure.Figure
        Each image with its stars.
    rejected : pandas.DataFrame
        ``file``, ``reason`` and ``value``.
    """
    network, description = classifier
    if not description["trained"]:
        msg = "the registered network is untrained: there was nothing to train on"
        raise ValueError(msg)
    features = Configuration.model_validate(description["configuration"]).features
    threshold = description["threshold"] if detection.threshold is None else detection.threshold
    ids = object_ids(observations)
    tables, rows, rejected, pictures = [], [], [], []
    for file in tqdm(sorted(observations), desc="finding stars", unit="image"):
        try:
            sky = read_sky_image(file, load_bytes(observations[file]))
        except UnusableError as error:
            rejected.append((file, error.reason, error.value))
            continue
        probability, snr, image, fwhm = map_stars(network, sky, features, detection)
        table = catalogue(sky, probability, snr, fwhm, threshold, detection)
        table.insert(0, "field", ids[file])
        table.insert(1, "id", [f"{ids[file]}_{k}" for k in range(1, len(table) + 1)])
        tables.append(table)
        pictures.append((ids[file], image, table))
        rows.append(
            {
                "field": ids[file], "file": file, "height": sky.image.shape[0],
                "width": sky.image.shape[1], "fwhm": fwhm, "n_stars": len(table),
                "warning": _warning(sky, image, fwhm, description["fwhm_range"]),
            }
        )  # fmt: skip
    refused = tabulate_rejections(rejected, len(rows), "an image of the sky")
    stars = pd.concat(tables, ignore_index=True)
    return (
        stars[list(DETECTION_COLUMNS)],
        pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS)),
        _sheets(pictures),
        refused,
    )


def map_stars(
    network: Any, sky: SkyImage, features: Any, detection: DetectionParameters
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Probability of a star at each pixel of an image of any size, tile by tile.

    Returns
    -------
    probability, snr : numpy.ndarray of float16, shape (height, width)
        The latter by the matched filter.
    image : numpy.ndarray of float32, shape (height, width)
        In units of the noise; NaN where nothing was observed.
    fwhm : float
        Of the stars, pixels; NaN where they do not tell it.
    """
    normalised = normalise_sky(sky.image)
    image = np.where(normalised.observed, normalised.image, np.nan).astype(np.float32)
    fwhm = measure_fwhm(normalised.image)
    height, width = image.shape
    probability = np.zeros((height, width), np.float16)
    step, overlap = detection.tile, detection.overlap
    for y0 in range(0, height, step):
        for x0 in range(0, width, step):
            top, left = max(0, y0 - overlap), max(0, x0 - overlap)
            bottom, right = min(height, y0 + step + overlap), min(width, x0 + step + overlap)
            part = image[top:bottom, left:right]
            padded = np.zeros(
                [-(-side // _MULTIPLE) * _MULTIPLE for side in part.shape], np.float32
            )
            padded[: part.shape[0], : part.shape[1]] = np.nan_to_num(part)
            said = network.predict_on_batch(prepare_images(padded[None], features))[0, ..., 0]
            inside = said[y0 - top : y0 - top + step, x0 - left : x0 - left + step]
            target = probability[y0 : y0 + step, x0 : x0 + step]
            target[...] = inside[: target.shape[0], : target.shape[1]]
    probability[~normalised.observed] = 0
    snr = matched_filter(normalised.image, fwhm if np.isfinite(fwhm) else USUAL_FWHM)
    return probability, snr.astype(np.float16), image, fwhm


def catalogue(
    sky: SkyImage,
    probability: np.ndarray,
    snr: np.ndarray,
    fwhm: float,
    threshold: float,
    detection: DetectionParameters,
) -> pd.DataFrame:
    """Stars of an image from the map of their probability.

    Returns
    -------
    pandas.DataFrame
        `DETECTION_COLUMNS` but the first two, the surest first; empty where there is none.
    """
    from scipy.spatial import KDTree

    peaks = find_peaks(probability.astype(np.float32), max(threshold, LEAST) - 1e-6, SEPARATION)
    height, width = probability.shape
    row, column = pixels_of(peaks, probability.shape)
    x, y = peaks["x"].to_numpy(), peaks["y"].to_numpy()
    seen = snr[row, column].astype(float)
    ra, dec = sky.sky_positions(x, y)
    used = fwhm if np.isfinite(fwhm) else USUAL_FWHM
    scale = sky.pixel_scale if np.isfinite(sky.pixel_scale) else 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        error = scale * used / (2.355 * np.maximum(seen, 1e-3))
        magnitude = np.where(seen > 0, -2.5 * np.log10(np.maximum(seen, 1e-3)), np.nan)
    nearest = np.full(len(peaks), np.inf)
    if len(peaks) > 1:
        nearest = KDTree(np.column_stack([x, y])).query(np.column_stack([x, y]), k=2)[0][:, 1]
    around = np.array([_brightest(sky.image, r, c) for r, c in zip(row, column, strict=True)])
    edge = np.minimum.reduce([x, y, width - 1 - x, height - 1 - y]) if len(peaks) else x
    return pd.DataFrame(
        {
            "x": x, "y": y, "x_fits": x + 1, "y_fits": y + 1, "ra": ra, "dec": dec,
            # Of a centroid by photon noise, and never better than a fiftieth of the width.
            "position_error": np.maximum(error, scale * used / 50),
            "snr": seen, "magnitude": magnitude, "probability": peaks["value"].to_numpy(),
            "saturated": around >= 0.98 * sky.saturation if len(peaks) else [],
            "blended": nearest < detection.blend * used,
            "edge": edge < detection.edge,
        }
    )  # fmt: skip


def _brightest(image, row, column):
    part = image[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
    return np.nanmax(part) if np.isfinite(part).any() else np.nan


def _warning(sky, image, fwhm, fwhm_range):
    """What is not as in the training, or missing."""
    words = []
    if not np.isfinite(image).any():
        words.append("nothing was observed")
    elif not np.nan_to_num(image).any():
        words.append("all pixels are the same")
    if sky.wcs_problem:
        words.append(f"no positions: {sky.wcs_problem}")
    low, high = fwhm_range
    if np.isfinite(fwhm) and not 0.8 * low <= fwhm <= 1.25 * high:
        words.append(f"stars of {fwhm:.1f} pixels, trained on {low:.1f} to {high:.1f}")
    return "; ".join(words)


def _sheets(pictures):
    """A page each image."""
    from skyloom.plots.star_fields import draw_field
    from skyloom.plots.style import new_figure

    for name, image, table in pictures:
        figure = new_figure(8, 8)
        axis = figure.subplots()
        draw_field(axis, image)
        axis.scatter(table["x"], table["y"], s=30, ec="#56b4e9", fc="none", lw=0.7)
        axis.set_title(f"{name}: {len(table)} stars")
        yield figure


def ds9_regions(stars: pd.DataFrame) -> str:
    """Stars as a region file of DS9, in pixels of the image as FITS counts them.

    Returns
    -------
    str
        A circle each star, with its id; regions of all images one after the other.
    """
    lines = ["# Region file format: DS9 version 4.1", "global color=cyan", "image"]
    lines += [
        f"circle({row.x_fits:.2f},{row.y_fits:.2f},4) # text={{{row.id}}}"
        for row in stars.itertuples()
    ]
    return "\n".join(lines) + "\n"
