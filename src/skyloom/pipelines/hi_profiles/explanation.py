"""What a network looks at: distances from the mid-velocity made symmetric, one after the other."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

from skyloom.learning.fitting import predict
from skyloom.pipelines.hi_profiles.features import images_of
from skyloom.pipelines.hi_profiles.fitting import network_input
from skyloom.pipelines.hi_profiles.parameters import Configuration
from skyloom.spectra.hi.asymmetry import mirrored

_N_OFFSETS = 16


def explain_lines(
    line: dict[str, np.ndarray], network: Any, configuration: Configuration
) -> pd.DataFrame:
    """How much each distance from the mid-velocity counts for the class of some profiles.

    There both sides of a profile are replaced by their mean, so that the galaxy is symmetric, and
    the images are drawn again. The importance is the fall of the probability of the predicted
    class.

    Parameters
    ----------
    line : dict
        From `skyloom.spectra.hi.lines.line_geometry`.
    network : keras.Model
        A classifier.
    configuration : Configuration
        Its images.

    Returns
    -------
    pandas.DataFrame
        ``row``, ``predicted``, ``probability``, ``low``, ``high``, ``importance``.
    """
    n = len(line["flux"])
    before = classify_lines(line, network, configuration)
    predicted = before.argmax(axis=1)
    start, width, centre = (line[key] for key in ("velocity_start", "channel_width", "centre"))
    velocity = start[:, None] + width[:, None] * np.arange(line["flux"].shape[1])
    distance = np.abs(velocity - centre[:, None])
    symmetric = (line["flux"] + mirrored(line["flux"], start, width, centre)) / 2
    edges = np.linspace(0, 1, _N_OFFSETS + 1)[:, None]
    edges = edges * configuration.features.extent * line["half_width"]
    parts = []
    for low, high in itertools.pairwise(edges):
        # At least a channel wide, so that narrow lines have no distance without one.
        reach = np.maximum(high - low, width)[:, None] / 2
        inside = np.abs(distance - (low + high)[:, None] / 2) <= reach
        flux = np.where(inside, symmetric, line["flux"])
        after = classify_lines(line | {"flux": flux}, network, configuration)
        rows = np.arange(n)
        table = {"row": rows, "predicted": predicted, "probability": before[rows, predicted]}
        fall = before[rows, predicted] - after[rows, predicted]
        parts.append(pd.DataFrame(table | {"low": low, "high": high, "importance": fall}))
    return pd.concat(parts).sort_values(["row", "low"], ignore_index=True)


def classify_lines(line: dict, network: Any, configuration: Configuration) -> np.ndarray:
    """Probabilities (n, n_classes) of profiles ready to be drawn, see `explain_lines`."""
    images = images_of(line, configuration.features)
    rows, quadrant = np.arange(len(images)), configuration.features.quadrant
    return predict(network, network_input(images, rows, configuration.network, quadrant=quadrant))
