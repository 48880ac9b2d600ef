"""Node functions of the simulation: a made-up survey, written as an archive would give it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from skyloom.pipelines.stellar_spectra.parameters import SimulationParameters
from skyloom.simulate.stellar_spectra import draw_truth, observe, to_hdu


def simulate_truth(simulation: SimulationParameters) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw stars, some of which are observed twice, and the survey's catalogue.

    Returns
    -------
    truth : pandas.DataFrame
        From `skyloom.simulate.stellar_spectra.draw_truth`, one row a spectrum; ``star`` is that
        of the first spectrum of the same star.
    labels : pandas.DataFrame
        ``obsid``, ``ra``, ``dec`` (deg), ``snrg``, ``subclass``, ``rv`` (km/s), as LAMOST has them.
    """
    rng = np.random.default_rng(simulation.seed)
    truth = draw_truth(simulation.n_stars, rng, **simulation.stars.model_dump())
    truth["star"] = truth["id"]
    again = truth.sample(round(simulation.repeat_share * len(truth)), random_state=rng).copy()
    again["id"] = [f"SIM{len(truth) + k:07d}" for k in range(len(again))]
    low, high = np.log(simulation.stars.snr)
    again["snr"] = np.exp(rng.uniform(low, high, len(again)))
    again["dec"] += rng.normal(0, 0.5 / 3600, len(again))  # the fibre is not quite there
    truth = pd.concat([truth, again], ignore_index=True)
    labels = pd.DataFrame(
        {
            "obsid": truth["id"],
            "ra": truth["ra"].round(6),
            "dec": truth["dec"].round(6),
            "snrg": truth["snr"].round(2),
            "subclass": truth["class"] + np.minimum(truth["subtype"].astype(int), 9).astype(str),
            "rv": (truth["velocity"] + truth["velocity_error"] * rng.standard_normal(len(truth))),
        }
    )
    return truth, labels.round({"rv": 2})


def simulate_spectra(
    truth: pd.DataFrame, simulation: SimulationParameters
) -> dict[str, Callable[[], Any]]:
    """Observe the sample.

    Returns
    -------
    dict of str to callable
        Function that makes the HDU of a file, by its name.
    """
    return {
        f"{row['id']}.fits": partial(_hdu, row, number, simulation.seed)
        for number, row in truth.iterrows()
    }


def _hdu(row, number, seed):
    """One file; its noise depends on the seed and its number, not on the size of the sample."""
    rng = np.random.default_rng([seed, number + 1])
    flux, inverse_variance = observe(row.to_frame().T.infer_objects(), rng)
    return to_hdu(row, flux[0], inverse_variance[0])
