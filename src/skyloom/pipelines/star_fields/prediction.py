"""Node functions of the prediction: new images in, catalogues of their stars out."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom.evaluation.detection import Ranking
from skyloom.images.sky import SkyImage, read_sky_image
from skyloom.images.sky_catalogues import (
    belongs,
    match_rates,
    measure_offset,
    median_and_scatter,
)
from skyloom.images.stars import (
    USUAL_FWHM,
    find_peaks,
    inner_places,
    match_detections,
    matched_filter,
    measure_fwhm,
    measure_shapes,
    normalise_sky,
    on_spikes,
    pixels_of,
)
from skyloom.pipelines.star_fields.features import prepare_images
from skyloom.pipelines.star_fields.fitting import LEAST, SEPARATION
from skyloom.pipelines.star_fields.ingestion import known_stars, sort_out
from skyloom.pipelines.star_fields.parameters import (
    Configuration,
    DetectionParameters,
    IngestionParameters,
)
from skyloom.raw_files import UnusableError, load_bytes, tabulate_rejections
from skyloom.raw_files.names import object_ids

UNITS = {
    "x": "pix", "y": "pix", "x_fits": "pix", "y_fits": "pix", "ra": "deg", "dec": "deg",
    "position_error": "arcsec", "flux": "", "magnitude": "mag", "magnitude_error": "mag",
    "snr": "", "probability": "", "fwhm": "pix", "elongation": "",
}  # fmt: skip
FLAGS = ("saturated", "blended", "edge", "spike", "in_catalogue")
DETECTION_COLUMNS = ("field", "id", *UNITS, *FLAGS)
SUMMARY_COLUMNS = (
    "field", "file", "height", "width", "pixel_scale", "fwhm", "noise", "n_stars", "n_known",
    "n_found", "dx", "dy", "zero_point", "zero_point_error", "warning",
)  # fmt: skip
_MULTIPLE = 16  # pixels, of what the network halves
_SHOWN = 1000  # pixels on a side of a picture, at most
_FEWEST = 5  # stars that tell an offset or a zero point


def find_stars(
    observations: dict[str, Callable[[], bytes]],
    detection: DetectionParameters,
    ingestion: IngestionParameters,
    classifier: tuple[Any, dict[str, Any]],
) -> tuple[pd.DataFrame, pd.DataFrame, Iterator[Any], pd.DataFrame]:
    """Find the stars of every image of a folder.

    Returns
    -------
    stars : pandas.DataFrame
        `DETECTION_COLUMNS`. ``x`` and ``y`` count from 0 at the middle of the first pixel,
        ``x_fits`` and ``y_fits`` from 1, as FITS and DS9 do. Positions are in deg (ICRS);
        ``position_error`` of each coordinate is in arcsec, or in pixels without a WCS. ``flux`` is
        in the unit of the image. ``magnitude`` is that of the catalogue in or beside the image,
        else -2.5 log10 of the flux.
    fields : pandas.DataFrame
        `SUMMARY_COLUMNS`, one row an image; ``warning`` says what is not as in the training.
    sheets : iterator of matplotlib.figure.Figure
        Each of the first images with its stars.
    rejected : pandas.DataFrame
        ``file``, ``reason`` and ``value``.
    """
    network, description = classifier
    if not description["trained"]:
        msg = "the registered network is untrained: there was nothing to train on"
        raise ValueError(msg)
    features = Configuration.model_validate(description["configuration"]).features
    prepare = partial(prepare_images, features=features, stretch=description["light_range"])
    ranking = Ranking(**description["ranking"])
    if detection.threshold is not None:
        ranking = ranking._replace(threshold=detection.threshold)
    images, catalogues, rejected = sort_out(observations, ingestion)
    ids = object_ids(images)
    tables, rows, pictures = [], [], []
    for file in tqdm(images, desc="finding stars", unit="image"):
        sky = read_sky_image(file, load_bytes(observations[file]))
        table, facts = detect_stars(
            network, sky, prepare, ranking, detection, description["fwhm_range"]
        )
        try:
            known = known_stars(file, sky, catalogues, ingestion)
        except UnusableError as error:
            known, facts["warning"] = None, f"{facts['warning']}; {error}".strip("; ")
        table, facts = lay_on_catalogue(table, facts, sky, known, ingestion)
        table.insert(0, "field", ids[file])
        table.insert(1, "id", [f"{ids[file]}_{k}" for k in range(1, len(table) + 1)])
        tables.append(table)
        rows.append({"field": ids[file], "file": file, **facts})
        if len(pictures) < detection.n_sheets:
            pictures.append((ids[file], *_reduced(sky.image), table, known))
    refused = tabulate_rejections(rejected, len(rows), "an image of the sky")
    stars = pd.concat(tables, ignore_index=True)
    return (
        stars[list(DETECTION_COLUMNS)],
        pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS)),
        _sheets(pictures),
        refused,
    )


def detect_stars(
    network: Any,
    sky: SkyImage,
    prepare: Callable[[np.ndarray], np.ndarray],
    ranking: Ranking,
    detection: DetectionParameters,
    fwhm_range: tuple[float, float],
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Stars of an image of any size, tile by tile.

    Parameters
    ----------
    network : keras.Model
        Gives the probability of a star at each pixel.
    sky : SkyImage
        The image.
    prepare : callable
        Makes of images in units of the noise, shape (n, height, width), what the network takes.
    ranking : Ranking
        What makes a probability of what the network and the filter say, and its threshold.
    detection : DetectionParameters
        ``star_fields.detection``.
    fwhm_range : tuple of 2 floats
        Widths of the stars that the network was trained on, pixels.

    Returns
    -------
    stars : pandas.DataFrame
        `DETECTION_COLUMNS` but the first two, the surest first; empty where there is none.
    facts : dict
        Of `SUMMARY_COLUMNS`.

    Notes
    -----
    An image whose stars are wider or narrower than those trained on is resampled for the network.
    """
    from concurrent.futures import ThreadPoolExecutor

    height, width = sky.image.shape
    windows = _windows(height, width, detection.tile, detection.overlap)
    fwhm = _fwhm_of(sky.image, detection.tile)
    low, high = fwhm_range
    used = fwhm if np.isfinite(fwhm) else USUAL_FWHM
    # A little outside of the range is no matter.
    zoom = np.clip(used, 0.8 * low, 1.25 * high) / used if np.isfinite(fwhm) else 1.0
    if 0.98 < zoom < 1.02:
        zoom = 1.0
    work = partial(_stars_of_window, network, sky, prepare, ranking, used, zoom)
    with ThreadPoolExecutor(detection.threads) as pool:
        parts = list(pool.map(work, windows))
    stars = pd.concat([part for part, _ in parts], ignore_index=True)
    stars = _without_doubles(stars).sort_values(
        "probability", ascending=False, kind="stable", ignore_index=True
    )
    x, y = stars["x"].to_numpy(), stars["y"].to_numpy()
    stars["ra"], stars["dec"] = sky.sky_positions(x, y)
    scale = sky.pixel_scale if np.isfinite(sky.pixel_scale) else 1.0
    snr = np.maximum(stars["snr"].to_numpy(), 1e-3)
    # Of a profile fitted to white noise; never better than a fiftieth of the width.
    error = np.sqrt(2) * used / (2.355 * snr)
    stars["position_error"] = scale * np.maximum(error, used / 50)
    stars["blended"] = _distance_to_next(x, y) < detection.blend * used
    stars["edge"] = np.minimum.reduce([x, y, width - 1 - x, height - 1 - y]) < detection.edge
    stars["spike"] = on_spikes(stars, used)
    facts = {
        "height": height, "width": width, "pixel_scale": sky.pixel_scale, "fwhm": fwhm,
        "noise": float(np.median([noise for _, noise in parts])), "n_stars": len(stars),
        "warning": _warning(sky, fwhm, fwhm_range, zoom),
    }  # fmt: skip
    return stars, facts


def _windows(height, width, step, overlap):
    """What is seen of an image at a time, and the part of it that counts: rows and columns."""
    size_y, size_x = min(height, step + 2 * overlap), min(width, step + 2 * overlap)
    for y0 in range(0, height, step):
        for x0 in range(0, width, step):
            # All of one size, since a network is compiled for each.
            top = min(max(0, y0 - overlap), height - size_y)
            left = min(max(0, x0 - overlap), width - size_x)
            inner = y0, min(y0 + step, height), x0, min(x0 + step, width)
            yield np.s_[top : top + size_y, left : left + size_x], inner


def _fwhm_of(image, tile):
    """Median width of the stars of at most nine tiles, spread over an image."""
    height, width = image.shape
    tops, lefts = (
        np.unique(np.linspace(0, max(0, side - tile), 3).astype(int)) for side in (height, width)
    )
    if height <= 2 * tile and width <= 2 * tile:
        tops, lefts, tile = [0], [0], 2 * tile
    found = [
        measure_fwhm(normalise_sky(image[y : y + tile, x : x + tile]).image)
        for y in tops
        for x in lefts
    ]
    return float(np.nanmedian(found)) if np.isfinite(found).any() else np.nan


def _stars_of_window(network, sky, prepare, ranking, fwhm, zoom, window):
    """Stars of a part of an image, and its noise."""
    import sep

    seen, (first_row, last_row, first_column, last_column) = window
    raw = sky.image[seen]
    top, left = seen[0].start, seen[1].start
    normalised = normalise_sky(raw)
    image = np.ascontiguousarray(normalised.image)
    noise = float(np.median(normalised.noise))
    if not image.any():
        return _nothing(), noise
    probability = np.where(normalised.observed, _ask(network, raw, image, prepare, zoom), 0)
    peaks = find_peaks(probability, LEAST, SEPARATION)
    # A pixel more than what counts: a peak between two windows is seen from both sides.
    rows, columns = peaks["y"] + top, peaks["x"] + left
    inside = rows.between(first_row - 1, last_row) & columns.between(first_column - 1, last_column)
    peaks = peaks[inside].reset_index(drop=True)
    snr = matched_filter(image, fwhm)[pixels_of(peaks, image.shape)].astype(float)
    named = ranking.probability(peaks["value"], snr)
    kept = (named >= ranking.threshold) & (named > 0)
    peaks, snr, named = peaks[kept].reset_index(drop=True), snr[kept], named[kept]
    if peaks.empty:
        return _nothing(), noise
    row, column = pixels_of(peaks, image.shape)
    around = np.nanmax(
        [
            np.pad(raw, 1, constant_values=np.nan)[row + dy, column + dx]
            for dy in range(3)
            for dx in range(3)
        ],
        axis=0,
        initial=-np.inf,
    )
    saturated = around >= 0.98 * sky.saturation
    x, y = _centroids(image, normalised.observed, peaks, fwhm, saturated)
    flux, *_ = sep.sum_circle(
        image, x, y, max(1.5, 0.7 * fwhm), mask=~normalised.observed, subpix=5
    )
    flux = flux * normalised.noise[row, column]
    shapes = measure_shapes(image, pd.DataFrame({"x": x, "y": y}), fwhm)
    with np.errstate(invalid="ignore", divide="ignore"):
        magnitude = np.where(flux > 0, -2.5 * np.log10(np.maximum(flux, 1e-30)), np.nan)
    stars = pd.DataFrame(
        {
            "x": x + left, "y": y + top, "x_fits": x + left + 1, "y_fits": y + top + 1,
            "flux": flux, "magnitude": magnitude,
            "magnitude_error": 1.0857 / np.maximum(snr, 1e-3), "snr": snr, "probability": named,
            "fwhm": shapes["width"], "elongation": shapes["elongation"], "angle": shapes["angle"],
            "saturated": saturated,
            "window": first_row * 1_000_000 + first_column,
        }
    )  # fmt: skip
    return stars, noise


def _nothing():
    columns = [
        "x", "y", "x_fits", "y_fits", "flux", "magnitude", "magnitude_error", "snr", "probability",
        "fwhm", "elongation", "angle", "window",
    ]  # fmt: skip
    return pd.DataFrame(columns=columns, dtype=float).assign(saturated=np.zeros(0, bool))


def _ask(network, raw, image, prepare, zoom):
    """Probability at each pixel of an image in units of its noise."""
    from scipy import ndimage

    shape = image.shape
    if zoom != 1:
        filled = np.where(np.isfinite(raw), raw, np.nanmedian(raw))
        observed = ndimage.zoom(np.isfinite(raw).astype(np.float32), zoom, order=1) > 0.5
        other = ndimage.zoom(filled, zoom, order=3, mode="nearest")
        # The noise is another one after it.
        image = normalise_sky(np.where(observed, other, np.nan)).image
    padded = np.zeros([-(-side // _MULTIPLE) * _MULTIPLE for side in image.shape], np.float32)
    padded[: image.shape[0], : image.shape[1]] = image
    said = network.predict_on_batch(prepare(padded[None]))[0, ..., 0]
    said = said[: image.shape[0], : image.shape[1]]
    if zoom == 1:
        return said
    factors = [side / other for side, other in zip(shape, said.shape, strict=True)]
    return np.clip(ndimage.zoom(said, factors, order=1), 0, 1)


def _centroids(image, observed, peaks, fwhm, saturated):
    """Positions better than those of the map, where a windowed centroid finds them nearby."""
    import sep

    x, y = peaks["x"].to_numpy(float), peaks["y"].to_numpy(float)
    better_x, better_y, flag = sep.winpos(image, x, y, fwhm / 2.355, mask=~observed)
    near = np.hypot(better_x - x, better_y - y) < max(1.0, 0.3 * fwhm)
    # A saturated core has no middle of its own that is better than what the network says.
    near &= np.isfinite(better_x) & (flag == 0) & ~saturated
    return np.where(near, better_x, x), np.where(near, better_y, y)


def _without_doubles(stars):
    """One row where two windows have seen the same star."""
    from scipy.spatial import KDTree

    if len(stars) < 2:
        return stars
    pairs = KDTree(stars[["x", "y"]].to_numpy()).query_pairs(SEPARATION / 2, output_type="ndarray")
    window, sure = stars["window"].to_numpy(), stars["probability"].to_numpy()
    pairs = pairs[window[pairs[:, 0]] != window[pairs[:, 1]]]
    worse = np.where(sure[pairs[:, 0]] < sure[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
    return stars.drop(index=np.unique(worse))


def _distance_to_next(x, y):
    from scipy.spatial import KDTree

    if len(x) < 2:
        return np.full(len(x), np.inf)
    places = np.column_stack([x, y])
    return KDTree(places).query(places, k=2)[0][:, 1]


def lay_on_catalogue(
    stars: pd.DataFrame,
    facts: dict[str, Any],
    sky: SkyImage,
    known: pd.DataFrame | None,
    ingestion: IngestionParameters,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Which of the stars a catalogue has, and what it says of positions and magnitudes.

    Parameters
    ----------
    stars : pandas.DataFrame
        From `detect_stars`.
    facts : dict
        From `detect_stars`.
    sky : SkyImage
        The image.
    known : pandas.DataFrame or None
        From `skyloom.pipelines.star_fields.ingestion.known_stars`.
    ingestion : IngestionParameters
        ``star_fields.ingestion``.

    Returns
    -------
    stars : pandas.DataFrame
        With ``in_catalogue``; positions and magnitudes of the system of the catalogue, if it
        belongs to the image.
    facts : dict
        With what was found.
    """
    facts |= {"n_known": 0, "n_found": 0} | dict.fromkeys(
        ("dx", "dy", "zero_point", "zero_point_error"), np.nan
    )
    stars = stars.assign(in_catalogue=False)
    if known is None or stars.empty:
        return stars, facts
    known = known.sort_values("magnitude", kind="stable", ignore_index=True)
    ranked = stars.assign(score=stars["snr"]).sort_values("snr", ascending=False)
    here = inner_places(known, sky.image.shape, -0.5)
    offset = measure_offset(ranked, known[here], reach=ingestion.reach, radius=ingestion.radius)
    dx, dy = np.nan_to_num([offset.dx, offset.dy])
    moved = known.assign(x=known["x"] + dx, y=known["y"] + dy)
    rates = match_rates(ranked, moved, sky.image.shape, radius=ingestion.radius)
    limits = {"min_excess": ingestion.min_excess, "max_chance": ingestion.max_chance}
    if not belongs(rates, **limits):
        facts["warning"] = f"{facts['warning']}; the catalogue does not fit the image".strip("; ")
        return stars, facts
    star, _ = match_detections(ranked, moved, ingestion.radius)
    star = pd.Series(star, ranked.index).reindex(stars.index).to_numpy()
    found = star >= 0
    stars["in_catalogue"] = found
    facts |= {
        "n_known": int(inner_places(moved, sky.image.shape, -0.5).sum()),
        "n_found": int(found.sum()), "dx": offset.dx, "dy": offset.dy,
    }  # fmt: skip
    x, y = stars["x"].to_numpy(), stars["y"].to_numpy()
    stars["ra"], stars["dec"] = sky.sky_positions(x - dx, y - dy)
    bands = [name for name in known.columns if name not in ("x", "y", "ra", "dec")]
    plain = found & ~stars["saturated"].to_numpy() & (stars["snr"] > 8).to_numpy()
    fits = []
    for name in bands:
        apart = known[name].to_numpy()[star[plain]] - stars["magnitude"].to_numpy()[plain]
        apart = apart[np.isfinite(apart)]
        if len(apart) >= _FEWEST:
            zero_point, scatter = median_and_scatter(apart)
            fits.append((scatter, zero_point, len(apart)))
    if fits:
        scatter, zero_point, number = min(fits)
        error = 1.25 * scatter / np.sqrt(number)
        facts |= {"zero_point": zero_point, "zero_point_error": error}
        stars["magnitude"] += zero_point
        stars["magnitude_error"] = np.hypot(stars["magnitude_error"], error)
    return stars, facts


def _warning(sky, fwhm, fwhm_range, zoom):
    """What is not as in the training, or missing."""
    words = []
    seen = np.isfinite(sky.image)
    if not seen.any():
        words.append("nothing was observed")
    elif np.nanmin(sky.image) == np.nanmax(sky.image):
        words.append("all pixels are the same")
    if sky.wcs_problem:
        words.append(f"no positions: {sky.wcs_problem}")
    if zoom != 1:
        low, high = fwhm_range
        words.append(
            f"stars of {fwhm:.1f} pixels, trained on {low:.1f} to {high:.1f}: resampled by "
            f"{zoom:.2f}"
        )
    return "; ".join(words)


def _reduced(image):
    """An image for a picture, and by what its pixels are larger."""
    step = -(-max(image.shape) // _SHOWN)
    return normalise_sky(image[::step, ::step]).image, step


def _sheets(pictures):
    """A page each image."""
    from skyloom.plots.star_fields import catalogue_figure

    for name, image, step, table, known in pictures:
        yield catalogue_figure(name, image, table, known, step)


def stars_table(stars: pd.DataFrame) -> tuple[Any, str]:
    """Stars as a table with units, for FITS, and as ECSV.

    Returns
    -------
    table : astropy.table.Table
    ecsv : str
    """
    from astropy.table import Table

    table = Table.from_pandas(stars)
    for name, unit in UNITS.items():
        table[name].unit = unit or None
    table.meta["comments"] = [
        "x, y: from 0 at the middle of the first pixel; x_fits, y_fits: from 1",
        "position_error: of each coordinate; pixels where there is no WCS",
    ]
    stream = io.StringIO()
    table.write(stream, format="ascii.ecsv")
    return table, stream.getvalue()


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
