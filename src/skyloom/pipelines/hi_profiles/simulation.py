"""Node functions that write a made-up sample, as a telescope would."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from skyloom.pipelines.hi_profiles.parameters import SimulationParameters
from skyloom.simulate.hi_profiles import assign_classes, draw_truth, to_hdu


def simulate_truth(simulation: SimulationParameters) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw the sample.

    Returns
    -------
    truth : pandas.DataFrame
        Every parameter, the noiseless indices and the class.
    labels : pandas.DataFrame
        What a catalogue would give: columns ``cig`` and ``Class``.
    """
    options = simulation.model_dump(
        exclude={"seed", "n_profiles", "class_by", "class_shares", "class_edges"}
    )
    rng = np.random.default_rng([simulation.seed, 0])
    truth = draw_truth(simulation.n_profiles, rng, **options)
    truth["class"] = assign_classes(
        truth, by=simulation.class_by, shares=simulation.class_shares, edges=simulation.class_edges
    )
    labels = truth[["cig", "class"]].rename(columns={"class": "Class"})
    return truth, labels


def simulate_spectra(
    truth: pd.DataFrame, simulation: SimulationParameters
) -> dict[str, Callable[[], object]]:
    """Observe the sample.

    Returns
    -------
    dict of str to callable
        File name to a function that makes the HDU: only one spectrum is in memory at a time. The
        noise of a galaxy depends on the seed and its number, not on the size of the sample.
    """
    return {
        f"{row['id']}.fits": partial(
            lambda row: to_hdu(row, np.random.default_rng([simulation.seed, 1, int(row["cig"])])),
            row,
        )
        for _, row in truth.iterrows()
    }
