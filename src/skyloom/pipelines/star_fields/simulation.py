"""Node functions of the simulation: made-up fields, written as a telescope would."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from skyloom.pipelines.star_fields.parameters import SimulationParameters
from skyloom.simulate.star_fields import draw_fields, observe_field, to_hdus


def simulate_truth(simulation: SimulationParameters) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw the true parameters of the fields, and the label table that a user would have.

    Returns
    -------
    truth : pandas.DataFrame
        From `skyloom.simulate.star_fields.draw_fields`, with positions on the sky.
    labels : pandas.DataFrame
        ``id`` and ``plate``: fields of one plate, or of one night, belong together.
    """
    rng = np.random.default_rng(simulation.seed)
    truth = draw_fields(simulation.n_fields, rng, **simulation.fields.model_dump())
    truth["ra"] = rng.uniform(0, 360, len(truth))
    truth["dec"] = np.degrees(np.arcsin(rng.uniform(-0.8, 0.8, len(truth))))
    return truth, truth[["id"]].assign(plate=truth["id"])


def simulate_fields(
    truth: pd.DataFrame, simulation: SimulationParameters
) -> dict[str, Callable[[], Any]]:
    """Observe the fields.

    Returns
    -------
    dict of str to callable
        Function that makes the HDUs of a file, with its catalogue, by its name.
    """
    return {
        f"{row['id']}.fits": partial(_hdus, row, number, simulation)
        for number, row in truth.iterrows()
    }


def _hdus(row, number, parameters):
    """One file; what is random in it depends on the seed and its number alone."""
    rng = np.random.default_rng([parameters.seed, number + 1])
    field = observe_field(row, rng, size=parameters.size)
    return to_hdus(
        field,
        rng,
        ra=row["ra"],
        dec=row["dec"],
        pixel_scale=parameters.pixel_scale,
        faintest=parameters.faintest,
        position_error=parameters.position_error,
        offset=parameters.offset,
    )
