"""Node functions of the augmentation: the split, and made-up fields to train on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from skyloom.images.injection import (
    draw_injected,
    inject_stars,
    measure_templates,
    usual_templates,
)
from skyloom.images.sky import SkyImage
from skyloom.images.stars import USUAL_FWHM, inner_places, pixels_of
from skyloom.learning.splitting import split_once
from skyloom.pipelines.star_fields.features import draw_targets, prepare_images, stars_of_tiles
from skyloom.pipelines.star_fields.ingestion import examine_field
from skyloom.pipelines.star_fields.parameters import (
    AugmentationParameters,
    IngestionParameters,
    SimulationParameters,
    Sweep,
)
from skyloom.simulate.star_fields import draw_fields, observe_field

_WIDER = (0.8, 1.25)  # than the widths that were measured


def make_split(sample: pd.DataFrame, augmentation: AugmentationParameters) -> pd.DataFrame:
    """Split the tiles once; those of fields that overlap, or of one plate, stay together.

    Returns
    -------
    pandas.DataFrame
        As of `skyloom.evaluation.splits.split_manifest`. Empty where there are too few groups.
    """
    return split_once(sample[["id", "group", "sha256"]].assign(role=""), augmentation)


def draw_training_tiles(
    sample: pd.DataFrame,
    fields: pd.DataFrame,
    stars: pd.DataFrame,
    pixels: np.ndarray,
    measurements: pd.DataFrame,
    split_manifest: pd.DataFrame,
    sweep: Sweep,
    ingestion: IngestionParameters,
    simulation: SimulationParameters,
) -> dict[str, Callable[[], np.ndarray]]:
    """Made-up tiles to train on, of other seeds than any made-up sample, and injected ones.

    Stars of the made-up ones are as wide as those of the tiles that are trained on, and somewhat
    more and less: a network that has never seen stars of a width does not find them. Injected tiles
    are the observed ones with further stars, measured on the same field; a fit takes those of its
    own training tiles.

    Returns
    -------
    dict of str to callable
        Function that returns images or targets, by ``inputs_<variant>``, ``targets_<variant>``,
        ``injected_inputs_<variant>`` and ``injected_targets_<variant>``; nothing where no
        configuration is trained on them.
    """
    augmentation = sweep.base.augmentation
    sources = {}
    if sweep.uses_simulated:
        drawn = made_up_distribution(measurements, split_manifest, simulation)
        sources[""] = cache(
            partial(made_up_tiles, augmentation.n_simulated, augmentation, ingestion, drawn)
        )
    if sweep.uses_injected:
        density = simulation.fields.density_range
        sources["injected_"] = cache(
            partial(inject_tiles, sample, fields, stars, pixels, augmentation, ingestion, density)
        )
    return {
        f"{prefix}{kind}_{name}": partial(_of_variant, kind, source, member, ingestion)
        for name, member in sweep.input_variants.items()
        for prefix, source in sources.items()
        for kind in ("inputs", "targets")
    }


def made_up_distribution(
    measurements: pd.DataFrame, split_manifest: pd.DataFrame, simulation: SimulationParameters
) -> dict[str, Any]:
    """Distributions of made-up tiles, whose stars are as wide as those of the training tiles.

    Returns
    -------
    dict
        Arguments of `skyloom.simulate.star_fields.draw_fields`.
    """
    seen = split_manifest.loc[split_manifest["role"] == "train", "id"].unique()
    widths = measurements.loc[measurements["id"].isin(seen), "fwhm"].dropna()
    drawn = simulation.fields.model_dump()
    if len(widths):
        low, high = widths.quantile([0.05, 0.95])
        drawn["fwhm_range"] = (max(1.2, _WIDER[0] * low), _WIDER[1] * high)
    return drawn


def _of_variant(kind, source, member, ingestion):
    """Images or targets of tiles, as a configuration takes them."""
    pixels, stars = source()
    if kind == "inputs":
        return prepare_images(pixels, member.features)
    options = {"limit": ingestion.limit, "doubtful": ingestion.doubtful}
    return np.stack([draw_targets(s, ingestion.tile, member.features, **options) for s in stars])


def made_up_tiles(
    n_tiles: int,
    augmentation: AugmentationParameters,
    ingestion: IngestionParameters,
    drawn: dict[str, Any],
    *,
    first: int = 0,
    true_snr: bool = False,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Made-up tiles with their stars, laid on them as a catalogue is on an observed image.

    Parameters
    ----------
    n_tiles : int
        How many.
    augmentation, ingestion
        Of the study.
    drawn : dict
        Distributions, see `skyloom.simulate.star_fields.draw_fields`.
    first : int
        Number of the first one; tiles of other numbers are others.
    true_snr : bool
        Whether S/N is against the noise of the sky, which the simulation knows, rather than that
        which a catalogue's star is given: in a crowd, light of unresolved stars is a part of its
        noise.

    Returns
    -------
    pixels : numpy.ndarray of float32, shape (n, tile, tile)
        Without ``true_snr``, those whose catalogue would be refused are left out, as observed ones
        are; but not if it were all of them.
    stars : list of numpy.ndarray, shape (k, 4)
        `skyloom.evaluation.detection.STAR_COLUMNS`.
    """
    rng = np.random.default_rng([augmentation.simulated_seed, 1, first])
    fields = draw_fields(n_tiles, rng, **drawn)
    pixels, stars, kept = [], [], []
    for number, field in fields.iterrows():
        # Seeds of a sequence that no simulated sample has.
        own = np.random.default_rng([augmentation.simulated_seed, first + number, 1])
        seen = observe_field(field, own, size=ingestion.tile)
        listed = seen.stars[seen.stars["snr"] > ingestion.doubtful]
        known = listed[["x", "y", "snr", "magnitude"]]
        sky = SkyImage(seen.image, "made up", seen.saturation)
        catalogue = listed[["x", "y", "magnitude"]].assign(ra=0.0, dec=0.0)
        facts, laid, image = examine_field(sky, catalogue, ingestion)
        kept.append(true_snr or facts["usable"])
        known = laid[list(known.columns)] if facts["usable"] and not true_snr else known
        inside = inner_places(known, seen.image.shape, -0.5)
        pixels.append(np.nan_to_num(image))
        stars.append(known[inside].to_numpy(float))
    rows = np.flatnonzero(kept) if any(kept) else np.arange(n_tiles)
    return np.stack(pixels)[rows], [stars[row] for row in rows]


def inject_tiles(
    sample: pd.DataFrame,
    fields: pd.DataFrame,
    stars: pd.DataFrame,
    pixels: np.ndarray,
    augmentation: AugmentationParameters,
    ingestion: IngestionParameters,
    density: tuple[float, float],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Observed tiles with further stars, of the shapes that those of the same field have.

    Parameters
    ----------
    sample, fields, stars : pandas.DataFrame
        Of the ingestion.
    pixels : numpy.ndarray, shape (n, tile, tile)
        Observed tiles.
    augmentation, ingestion
        Of the study.
    density : tuple of 2 floats
        Further stars of S/N above 5 in 1000 pixels, log-uniform.

    Returns
    -------
    pixels : numpy.ndarray of float32, shape (n, tile, tile)
    injected : list of numpy.ndarray, shape (k, 4)
        The stars that were there and those put in.
    """
    size = ingestion.tile
    width_of = fields.set_index("id")["fwhm"].fillna(USUAL_FWHM)
    known = stars_of_tiles(sample, stars, size)
    made, all_stars = np.empty(pixels.shape, np.float32), [None] * len(sample)
    for field, rows in sample.reset_index(drop=True).groupby("field").groups.items():
        corners = sample[["x0", "y0"]].to_numpy()[rows]
        mosaic = np.full(corners.max(axis=0)[::-1] + size, np.nan, np.float32)
        for row, (x0, y0) in zip(rows, corners, strict=True):
            mosaic[y0 : y0 + size, x0 : x0 + size] = pixels[row]
        templates = measure_templates(mosaic, stars[stars["field"] == field])
        if not len(templates.snr):
            templates = usual_templates(width_of[field])
        highest = float(np.nanmax(mosaic, initial=0.0))
        for row in rows:
            rng = np.random.default_rng([augmentation.simulated_seed, int(row), 2])
            own = np.exp(rng.uniform(*np.log(density)))
            further = draw_injected(templates, (size, size), own, rng, faintest=ingestion.doubtful)
            made[row] = inject_stars(pixels[row], further, templates, highest=highest)
            observed = np.isfinite(pixels[row][pixels_of(further, (size, size))])
            further = further[observed].to_numpy(float)
            all_stars[row] = np.concatenate([known[row], further])
    return made, all_stars
