"""Node functions of the simulation: a made-up survey, written as an archive would give it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from skyloom.pipelines.radio_galaxies.parameters import SimulationParameters
from skyloom.simulate.radio_galaxies import draw_truth, observe, to_hdu


def simulate_truth(simulation: SimulationParameters) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw the true parameters of a sample and its label table.

    Returns
    -------
    truth : pandas.DataFrame
        From `skyloom.simulate.radio_galaxies.draw_truth`, with positions on the sky.
    labels : pandas.DataFrame
        ``id``, ``class`` and ``bending_angle`` (deg; of compact sources there is none).
    """
    rng = np.random.default_rng(simulation.seed)
    field = simulation.size * simulation.pixel_scale
    truth = draw_truth(simulation.n_sources, rng, field=field, **simulation.sources.model_dump())
    truth["ra"] = rng.uniform(120, 240, len(truth))
    truth["dec"] = np.degrees(np.arcsin(rng.uniform(0, 0.8, len(truth))))
    labels = truth[["id", "class", "bending_angle"]].copy()
    labels.loc[labels["class"] == "compact", "bending_angle"] = np.nan
    return truth, labels


def simulate_cut_outs(
    truth: pd.DataFrame, simulation: SimulationParameters
) -> dict[str, Callable[[], Any]]:
    """Observe the sample.

    Returns
    -------
    dict of str to callable
        Function that makes the HDU of a file, by its name.
    """
    return {
        f"{row['id']}.fits": partial(_hdu, row, number, simulation)
        for number, row in truth.iterrows()
    }


def _hdu(row, number, parameters):
    """One file; its noise depends on the seed and its number, not on the size of the sample."""
    rng = np.random.default_rng([parameters.seed, number + 1])
    (image,) = observe(
        row.to_frame().T.infer_objects(),
        rng,
        size=parameters.size,
        pixel_scale=parameters.pixel_scale,
        beam_fwhm=parameters.sources.beam_fwhm,
    )
    return to_hdu(row, image, pixel_scale=parameters.pixel_scale)
