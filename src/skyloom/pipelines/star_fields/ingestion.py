"""Node functions of the ingestion: images and catalogues in, fields, stars and tiles out."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom.evaluation.splits import same_objects
from skyloom.images.sky import SkyImage, read_sky_image
from skyloom.images.sky_catalogues import catalogue_cover, lay_catalogue, noise_correlation
from skyloom.images.stars import (
    USUAL_FWHM,
    find_by_sep,
    matched_filter,
    measure_fwhm,
    measure_growth,
    normalise_sky,
    pixels_of,
)
from skyloom.pipelines.star_fields.parameters import (
    AugmentationParameters,
    Configuration,
    FeatureParameters,
    IngestionParameters,
    NetworkParameters,
    Sweep,
    SweepsParameters,
    TrainingParameters,
)
from skyloom.raw_files import UnusableError, load_bytes, tabulate_rejections
from skyloom.raw_files.labels import labels_by_id, match_ids, warn_of_unmatched
from skyloom.raw_files.names import object_ids
from skyloom.raw_files.positions import positions_of_table
from skyloom.raw_files.tables import find_column, numbers, read_table

logger = logging.getLogger(__name__)

FIELD_COLUMNS = (
    "id", "file", "sha256", "group", "height", "width", "pixel_scale", "ra", "dec", "epoch", "fwhm",
    "fwhm_growth", "background", "noise", "noise_correlation", "saturation", "catalogue",
    "magnitude_column", "n_stars", "dx", "dy", "offset_error", "excess", "chance_rate", "by_chance",
    "zero_point", "depth", "usable", "reason",
)  # fmt: skip
STAR_COLUMNS = ("field", "x", "y", "snr", "magnitude", "ra", "dec")
TILE_COLUMNS = ("id", "field", "group", "sha256", "x0", "y0", "n_stars")
_MAGNITUDES = (
    "magnitude", "mag", "gmag", "phot_g_mean_mag", "rmag", "r", "jmag", "j_m", "kmag", "vmag", "v",
    "bmag", "imag", "zmag", "g", "i",
)  # fmt: skip
# Such as Jmag, J, Ks, mag_auto, phot_bp_mean_mag, [8.0]; not e_Jmag.
_BAND = re.compile(
    r"\[\d+(\.\d+)?\]|(?!e_|err|sig|q_|n_|f_)\w*mag(_\w+)?|[UBVRIJHKugrizyYZ]|Ks?", re.IGNORECASE
)
_MOTIONS = (("pmra", "pmdec"), ("pm_ra", "pm_dec"), ("pmra_cosdec", "pmdec"))
_EPOCHS = ("ref_epoch", "epoch", "epoch_year")


def configure_sweep(
    sweeps: SweepsParameters,
    features: FeatureParameters,
    augmentation: AugmentationParameters,
    network: NetworkParameters,
    training: TrainingParameters,
) -> Sweep:
    """Lay out the chosen sweep and check every configuration before any file is read."""
    base = Configuration(
        name="base",
        features=features,
        augmentation=augmentation,
        network=network,
        training=training,
    )
    return Sweep.lay_out(sweeps.parameters, base)


def ingest_fields(
    observations: dict[str, Callable[[], bytes]],
    labels: pd.DataFrame,
    ingestion: IngestionParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Read every image, lay its catalogue on it, and cut it into tiles.

    Returns
    -------
    fields : pandas.DataFrame
        `FIELD_COLUMNS`, one row an image that was read. ``usable`` says whether its stars are
        known, and ``reason`` why not.
    stars : pandas.DataFrame
        `STAR_COLUMNS`, of fields whose stars are known.
    sample : pandas.DataFrame
        `TILE_COLUMNS`, one row a tile of these fields.
    pixels : numpy.ndarray of float32, shape (n, tile, tile)
        In units of the noise above the background; NaN where nothing was observed.
    rejected : pandas.DataFrame
        ``file``, ``reason`` and ``value`` of files that are neither an image nor a catalogue.

    Raises
    ------
    skyloom.raw_files.NothingUsableError
        If no image was read.
    """
    images, catalogues, rejected = sort_out(observations, ingestion)
    ids = object_ids(images)
    rows, stars, tiles, pixels = [], [], [], []
    for file in tqdm(images, desc="examining fields", unit="field"):
        content = load_bytes(observations[file])
        sky = read_sky_image(file, content)
        about = {"id": ids[file], "file": file, "sha256": hashlib.sha256(content).hexdigest()}
        try:
            catalogue, problem = known_stars(file, sky, catalogues, ingestion), ""
        except UnusableError as error:
            catalogue, problem = None, str(error)
        facts, known, normalised = examine_field(sky, catalogue, ingestion)
        facts["reason"] = problem or facts["reason"]
        rows.append(about | facts)
        if not facts["usable"]:
            continue
        stars.append(known.assign(field=ids[file]))
        for x0, y0, tile in cut_tiles(normalised, ingestion.tile, ingestion.min_observed):
            here = known["x"].between(x0 - 0.5, x0 + ingestion.tile - 0.5)
            here &= known["y"].between(y0 - 0.5, y0 + ingestion.tile - 0.5)
            tiles.append(
                {
                    "id": f"{ids[file]}_{y0}_{x0}", "field": ids[file],
                    "sha256": about["sha256"], "x0": x0, "y0": y0,
                    "n_stars": int((here & (known["snr"] > ingestion.limit)).sum()),
                }
            )  # fmt: skip
            pixels.append(tile)
    refused = tabulate_rejections(rejected, len(rows), "an image of the sky")
    fields = pd.DataFrame(rows)
    fields["group"] = _groups(fields, labels)
    sample = pd.DataFrame(tiles, columns=list(TILE_COLUMNS))
    sample["group"] = sample["field"].map(fields.set_index("id")["group"])
    unusable = fields[~fields["usable"]]
    if len(unusable):
        logger.warning(
            "the stars of %d of %d fields are not known: %s", len(unusable), len(fields),
            "; ".join(f"{row.id}: {row.reason}" for row in unusable.head(5).itertuples()),
        )  # fmt: skip
    size = ingestion.tile
    return (
        fields[list(FIELD_COLUMNS)],
        pd.concat(stars, ignore_index=True)[list(STAR_COLUMNS)]
        if stars
        else pd.DataFrame(columns=list(STAR_COLUMNS)),
        sample,
        np.stack(pixels) if pixels else np.zeros((0, size, size), np.float32),
        refused,
    )


def examine_field(
    sky: SkyImage, catalogue: pd.DataFrame | None, ingestion: IngestionParameters
) -> tuple[dict[str, Any], pd.DataFrame, np.ndarray]:
    """Measure an image and lay a catalogue on it.

    Returns
    -------
    facts : dict
        Of `FIELD_COLUMNS` what an image alone tells.
    stars : pandas.DataFrame
        `STAR_COLUMNS` without the field; empty where they are not known.
    image : numpy.ndarray of float32, shape (height, width)
        In units of the noise above the background; NaN where nothing was observed.
    """
    normalised = normalise_sky(sky.image)
    fwhm = measure_fwhm(normalised.image)
    used = fwhm if np.isfinite(fwhm) else USUAL_FWHM
    ra, dec = sky.centre
    height, width = sky.image.shape
    facts = {
        "height": height, "width": width, "pixel_scale": sky.pixel_scale, "ra": ra, "dec": dec,
        "epoch": sky.epoch, "fwhm": fwhm, "fwhm_growth": np.nan,
        "background": float(np.median(normalised.background)),
        "noise": float(np.median(normalised.noise)),
        "noise_correlation": noise_correlation(normalised), "saturation": sky.saturation,
        "catalogue": "", "magnitude_column": "", "n_stars": 0, "dx": np.nan, "dy": np.nan,
        "offset_error": np.nan, "excess": np.nan, "chance_rate": np.nan, "by_chance": np.nan,
        "zero_point": np.nan, "depth": np.nan, "usable": False, "reason": "",
    }  # fmt: skip
    nothing = pd.DataFrame(columns=list(STAR_COLUMNS[1:]), dtype=float)
    image = np.where(normalised.observed, normalised.image, np.nan).astype(np.float32)
    if not normalised.image.any():
        return facts | {"reason": "nothing in the image"}, nothing, image
    snr = matched_filter(normalised.image, used)
    detections = find_by_sep(normalised, threshold=1.5, fwhm=used)
    detections["snr"] = snr[pixels_of(detections, snr.shape)]
    facts["fwhm_growth"] = measure_growth(normalised.image, detections)
    if catalogue is None:
        reason = sky.wcs_problem or "no catalogue"
        return facts | {"reason": reason}, nothing, image
    name, laid = lay_best(
        normalised, snr, detections, catalogue, reach=ingestion.reach, radius=ingestion.radius,
        limit=ingestion.limit, doubtful=ingestion.doubtful,
    )  # fmt: skip
    facts |= {
        "catalogue": str(catalogue.attrs.get("origin", "")), "magnitude_column": name,
        "dx": laid.offset.dx, "dy": laid.offset.dy, "offset_error": laid.offset.error,
        "excess": laid.excess, "chance_rate": laid.chance_rate, "by_chance": laid.by_chance,
        "zero_point": laid.zero_point,
        "depth": laid.depth, "n_stars": int((laid.stars["snr"] > ingestion.limit).sum()),
    }  # fmt: skip
    if np.isnan(laid.excess):
        few = f"no star of the catalogue must be seen, of {len(catalogue)} in and about the image"
        return facts | {"reason": few}, nothing, image
    if laid.excess < ingestion.min_excess or laid.by_chance > ingestion.max_chance:
        reason = (
            f"the catalogue does not belong to the image: {laid.excess:.2f} more matches than by "
            f"chance, expected {ingestion.min_excess:g}; by chance with a probability of "
            f"{laid.by_chance:.2g}, expected at most {ingestion.max_chance:g}"
        )
        return facts | {"reason": reason}, nothing, image
    # Nothing can be said of what a catalogue does not cover.
    covered = catalogue_cover(laid.stars[laid.stars["ra"].notna()], image.shape)
    kept = laid.stars[covered[pixels_of(laid.stars, covered.shape)]].reset_index(drop=True)
    return facts | {"usable": True}, kept, np.where(covered, image, np.nan).astype(np.float32)


def cut_tiles(
    image: np.ndarray, size: int, min_observed: float
) -> list[tuple[int, int, np.ndarray]]:
    """Tiles of an image that do not overlap; what is left over at the edge is not used.

    Parameters
    ----------
    image : numpy.ndarray, shape (height, width)
        NaN where nothing was observed.
    size : int
        Pixels on a side.
    min_observed : float
        Share of the pixels of a tile that must have data.

    Returns
    -------
    list of (int, int, numpy.ndarray)
        Column and row of the first pixel, and the tile. Of an image that is smaller than a tile
        there is one, filled up with NaN.
    """
    height, width = image.shape
    padded = np.full((max(height, size), max(width, size)), np.nan, np.float32)
    padded[:height, :width] = image
    tiles = []
    for y0 in range(0, padded.shape[0] - size + 1, size):
        for x0 in range(0, padded.shape[1] - size + 1, size):
            tile = padded[y0 : y0 + size, x0 : x0 + size]
            of_image = min(height - y0, size) * min(width - x0, size)
            if np.isfinite(tile).sum() >= min_observed * of_image > 0:
                tiles.append((x0, y0, tile))
    return tiles


def sort_out(
    observations: dict[str, Callable[[], bytes]], ingestion: IngestionParameters
) -> tuple[list[str], dict[str, dict[str, pd.DataFrame]], list[tuple[str, str, str]]]:
    """Which files are images, which are catalogues, and which are neither.

    Returns
    -------
    images : list of str
        Names only: one image is in memory at a time.
    catalogues : dict of str to dict of str to pandas.DataFrame
        Tables by folder and name.
    rejected : list of (str, str, str)
        File, reason and value.
    """
    images, catalogues, rejected = [], {}, []
    for file in tqdm(sorted(observations), desc="reading images", unit="file"):
        path = PurePosixPath(file)
        try:
            content = load_bytes(observations[file])
        except UnusableError as error:
            rejected.append((file, error.reason, error.value))
            continue
        try:
            read_sky_image(file, content)
            images.append(file)
            continue
        except UnusableError as error:
            no_image = error
        try:
            table, _ = read_table(path.name, content)
            table.attrs["origin"] = path.name
            places = _places(table, ingestion.ra_column, ingestion.dec_column)
            # A text about a catalogue may name its columns, too.
            if places.iloc[:, :2].isna().any(axis=1).all():
                raise UnusableError("no position in any row", f"{len(table)} rows")
            catalogues.setdefault(str(path.parent), {})[path.stem] = table
        except (UnusableError, KeyError) as error:
            value = f"{no_image.value}; nor a catalogue: {error}"
            rejected.append((file, no_image.reason, value))
    return images, catalogues, rejected


def _places(table, ra_column, dec_column):
    """Positions of a catalogue on the sky, or its pixels where it has nothing else."""
    try:
        return positions_of_table(table, ra_column, dec_column)
    except KeyError:
        x, y = (find_column(table, name) for name in ("x_image", "y_image"))
        if x is None or y is None:
            raise
        # Of SExtractor: the first pixel is 1.
        return pd.DataFrame({"x": numbers(table[x]) - 1, "y": numbers(table[y]) - 1})


def known_stars(
    file: str,
    sky: SkyImage,
    catalogues: dict[str, dict[str, pd.DataFrame]],
    ingestion: IngestionParameters,
) -> pd.DataFrame | None:
    """Stars that a catalogue has in an image, at the epoch of the image.

    Parameters
    ----------
    file : str
        The image.
    sky : SkyImage
        As read.
    catalogues : dict of str to dict of str to pandas.DataFrame
        Tables by folder and name. Of those in the image's folder the ones whose names begin alike
        count, or all of them where none does.
    ingestion : IngestionParameters
        What their columns are called.

    Returns
    -------
    pandas.DataFrame or None
        ``x``, ``y`` (pixels by the WCS), ``ra``, ``dec``, ``magnitude``, and further magnitudes
        in columns of their own names; None without a catalogue.

    Raises
    ------
    skyloom.raw_files.UnusableError
        If a catalogue has no positions, or not the magnitude that was chosen.
    """
    path = PurePosixPath(file)
    tables = catalogues.get(str(path.parent), {})
    first = path.stem.lower().split("_")[0]
    alike = {name: table for name, table in tables.items() if name.lower().startswith(first)}
    found = list((alike or tables).values())
    if sky.catalogue is not None:
        found.append(sky.catalogue.astype(str))
    laid = [stars for table in found if len(stars := _laid(table, sky, ingestion))]
    if not laid:
        return None
    stars = pd.concat(laid, ignore_index=True)
    # Catalogues of neighbouring fields have stars in common.
    stars = stars.loc[~stars[["x", "y"]].round(1).duplicated()].reset_index(drop=True)
    stars.attrs["origin"] = ", ".join(
        str(table.attrs.get("origin", "the file itself")) for table in found
    )
    return stars


def _laid(table, sky, ingestion):
    try:
        places = _places(table, ingestion.ra_column, ingestion.dec_column)
    except KeyError as error:
        raise UnusableError("a catalogue without positions", error.args[0]) from error
    magnitudes = _magnitudes(table, ingestion.magnitude_column)
    if "ra" not in places:
        found = places.assign(ra=np.nan, dec=np.nan)
    else:
        ra, dec = _at_epoch(table, places, sky.epoch, ingestion)
        x, y = sky.pixel_positions(ra, dec)
        found = pd.DataFrame({"x": x, "y": y, "ra": ra, "dec": dec})
    return pd.concat([found, magnitudes.set_axis(found.index)], axis=1).dropna(subset=["x", "y"])


def _magnitudes(table, chosen):
    """The magnitude that was chosen, or all that there seem to be: the image tells which it is."""
    if chosen:
        if find_column(table, chosen) is None:
            msg = f"no column {chosen!r}, but {list(table.columns)}"
            raise UnusableError("a catalogue without its magnitude", msg)
        return pd.DataFrame({"magnitude": _column(table, chosen, ())})
    usual = {name: _column(table, name, ()) for name in _MAGNITUDES}
    found = {find_column(table, name): m for name, m in usual.items() if np.isfinite(m).any()}
    for name in table.columns:
        if name not in found and _BAND.fullmatch(str(name)):
            found[name] = _column(table, name, ())
    found = {name: m for name, m in found.items() if np.isfinite(m).any()}
    first = next(iter(found.values()), np.full(len(table), np.nan))
    return pd.DataFrame({"magnitude": first, **{str(name): m for name, m in found.items()}})


def lay_best(normalised, snr, detections, catalogue, **options):
    """Lay a catalogue on its image by that magnitude which follows the light best.

    Parameters
    ----------
    normalised, snr, detections, **options
        As of `skyloom.images.sky_catalogues.lay_catalogue`.
    catalogue : pandas.DataFrame
        From `known_stars`.

    Returns
    -------
    name : str
        Of the column of the magnitude; empty where there is but one.
    laid : skyloom.images.sky_catalogues.MatchedCatalogue
    """
    columns = ["x", "y", "ra", "dec", "magnitude"]
    bands = [name for name in catalogue.columns if name not in columns]
    if len(bands) < 2:
        return "", lay_catalogue(normalised, snr, detections, catalogue[columns], **options)
    laid = {
        name: lay_catalogue(
            normalised, snr, detections, catalogue[columns].assign(magnitude=catalogue[name]),
            **options,
        )
        for name in bands
    }  # fmt: skip
    best = min(bands, key=lambda name: laid[name].scatter)
    return best, laid[best]


def _column(table, chosen, usual):
    """A column as numbers; NaN where there is none."""
    for name in (chosen,) if chosen else usual:
        if (found := find_column(table, name)) is not None:
            return numbers(table[found]).to_numpy()
    return np.full(len(table), np.nan)


def _at_epoch(table, places, epoch, ingestion):
    """Positions at the epoch of the image, where that and the motions are known."""
    ra, dec = places["ra"].to_numpy(), places["dec"].to_numpy()
    pairs = (ingestion.motion_columns,) if ingestion.motion_columns else _MOTIONS
    for pair in pairs:
        motion_ra, motion_dec = (_column(table, name, ()) for name in pair)
        if np.isfinite(motion_ra).any() and np.isfinite(epoch):
            of_rows = _column(table, None, _EPOCHS)
            years = epoch - np.where(np.isfinite(of_rows), of_rows, ingestion.catalogue_epoch)
            moved = np.nan_to_num(years / 3.6e6 * np.stack([motion_ra, motion_dec]))
            return ra + moved[0] / np.cos(np.radians(dec)), dec + moved[1]
    return ra, dec


def _groups(fields, labels):
    """Fields that overlap, are of one plate or have the same content are one group."""
    plates = pd.Series("", index=fields.index)
    if not labels.empty:
        table = labels_by_id(labels, "id", ["plate"])
        row_of = match_ids(fields["id"], table.index)
        warn_of_unmatched("label table", table.index, row_of, "fields")
        plates = fields["id"].map(row_of).map(table["plate"]).fillna("").astype(str)
    diagonal = np.hypot(fields["height"], fields["width"]) * fields["pixel_scale"]
    radius = float(diagonal.max()) if diagonal.notna().any() else 0.0
    group = same_objects(fields["ra"], fields["dec"], radius, fields["sha256"], plates)
    return fields["id"].to_numpy()[group]
