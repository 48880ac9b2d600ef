"""Node functions that write a made-up sample, as a telescope would."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from skyloom.pipelines.hi_profiles.parameters import SimulationParameters
from skyloom.simulate.hi_profiles import assign_classes, draw_truth, to_hdu


def simulate_truth(parameters: SimulationParameters) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw the sample.

    Parameters
    ----------
    parameters : SimulationParameters
        ``hi_profiles.simulation``.

    Returns
    -------
    truth : pandas.DataFrame
        Every parameter, the noiseless indices and the class.
    labels : pandas.DataFrame
        What a catalogue would give: columns ``cig`` and ``Class``.
    """
    options = parameters.model_dump(
        exclude={"seed", "n_profiles", "class_by", "class_shares", "class_edges"}
    )
    rng = np.random.default_rng([parameters.seed, 0])
    truth = draw_truth(parameters.n_profiles, rng, **options)
    truth["class"] = assign_classes(
        truth, by=parameters.class_by, shares=parameters.class_shares, edges=parameters.class_edges
    )
    labels = truth[["cig", "class"]].rename(columns={"class": "Class"})
    return truth, labels


def simulate_spectra(
    truth: pd.DataFrame, parameters: SimulationParameters
) -> dict[str, Callable[[], object]]:
    """Observe the sample.

    Parameters
    ----------
    truth : pandas.DataFrame
        From `simulate_truth`.
    parameters : SimulationParameters
        ``hi_profiles.simulation``.

    Returns
    -------
    dict of str to callable
        File name to a function that makes the HDU: only one spectrum is in memory at a time. The
        noise of a galaxy depends on the seed and its number, not on the size of the sample.
    """
    return {
        f"{row['id']}.fits": partial(
            lambda row: to_hdu(row, np.random.default_rng([parameters.seed, 1, int(row["cig"])])),
            row,
        )
        for _, row in truth.iterrows()
    }
