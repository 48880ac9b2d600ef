"""Node functions of the augmentation: the split, and made-up fields to train on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from skyloom.images.stars import normalise_sky
from skyloom.learning.splitting import split_once
from skyloom.pipelines.star_fields.features import draw_targets, prepare_images
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


def simulate_training_tiles(
    measurements: pd.DataFrame,
    split_manifest: pd.DataFrame,
    sweep: Sweep,
    ingestion: IngestionParameters,
    simulation: SimulationParameters,
) -> dict[str, Callable[[], np.ndarray]]:
    """Made-up tiles to train on, of other seeds than any made-up sample.

    Their stars are as wide as those of the tiles that are trained on, and somewhat more and less:
    a network that has never seen stars of a width does not find them.

    Returns
    -------
    dict of str to callable
        Function that returns images or targets, by ``inputs_<variant>`` and
        ``targets_<variant>``; nothing where no configuration is trained on them.
    """
    if not sweep.uses_simulated:
        return {}
    seen = split_manifest.loc[split_manifest["role"] == "train", "id"].unique()
    widths = measurements.loc[measurements["id"].isin(seen), "fwhm"].dropna()
    drawn = simulation.fields.model_dump()
    if len(widths):
        low, high = widths.quantile([0.05, 0.95])
        drawn["fwhm_range"] = (max(1.2, _WIDER[0] * low), _WIDER[1] * high)
    return {
        f"{kind}_{name}": partial(_made_up, kind, sweep.base.augmentation, member, ingestion, drawn)
        for name, member in sweep.input_variants.items()
        for kind in ("inputs", "targets")
    }


def _made_up(kind, augmentation, member, ingestion, drawn):
    """Images or targets of made-up tiles; both are of the same seeds."""
    rng = np.random.default_rng([augmentation.simulated_seed, 1])
    fields = draw_fields(augmentation.n_simulated, rng, **drawn)
    made = []
    for number, field in fields.iterrows():
        # Seeds of a sequence that no simulated sample has.
        own = np.random.default_rng([augmentation.simulated_seed, number, 1])
        seen = observe_field(field, own, size=ingestion.tile)
        if kind == "inputs":
            made.append(normalise_sky(seen.image).image)
            continue
        known = seen.stars[["x", "y", "snr", "magnitude"]].to_numpy(float)
        inside = ((known[:, :2] >= -0.5) & (known[:, :2] < ingestion.tile - 0.5)).all(axis=1)
        made.append(
            draw_targets(
                known[inside], ingestion.tile, member.features, limit=ingestion.limit,
                doubtful=ingestion.doubtful,
            )
        )  # fmt: skip
    stacked = np.stack(made)
    return prepare_images(stacked, member.features) if kind == "inputs" else stacked
