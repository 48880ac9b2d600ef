"""Node function of the explanation: which wavelengths decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from skyloom.learning.final import rows_and_classes
from skyloom.pipelines.stellar_spectra.features import as_input, wavelengths
from skyloom.pipelines.stellar_spectra.parameters import Configuration, ReportingParameters

OCCLUSION_COLUMNS = ("class", "low", "high", "drop", "error", "n_spectra")


def explain_by_occlusion(
    sample: pd.DataFrame,
    prepared_spectra: dict[str, Callable[[], np.ndarray]],
    split_manifest: pd.DataFrame,
    classifier: Any,
    classifier_description: dict[str, Any],
    reporting: ReportingParameters,
) -> pd.DataFrame:
    """Which wavelengths decide: what hiding a window costs the true class.

    Returns
    -------
    pandas.DataFrame
        `OCCLUSION_COLUMNS`, one row a class and window: ``low`` and ``high`` (Angstrom), mean
        ``drop`` of the probability of the true class and its standard error.
    """
    if not classifier_description["trained"]:
        return pd.DataFrame(columns=list(OCCLUSION_COLUMNS))
    from skyloom.learning.fitting import predict

    features = Configuration.model_validate(classifier_description["configuration"]).features
    flux, wavelength = prepared_spectra[features.prepared](), wavelengths(features)
    n_windows = max(1, round((wavelength[-1] - wavelength[0]) / reporting.occlusion_width))
    edges = np.linspace(wavelength[0], wavelength[-1], n_windows + 1)
    window = np.clip(np.searchsorted(edges, wavelength, "right") - 1, 0, n_windows - 1)
    rows, classes = rows_and_classes(sample, split_manifest)
    table = []
    for label in np.unique(classes):
        shown = np.asarray(flux[rows[classes == label][: reporting.n_occluded]])
        whole = predict(classifier, as_input(shown, features))[:, label]
        for k in range(n_windows):
            inside = window == k
            # The window is bridged by what is around it; corrected spectra lie at 1 there.
            level = 1.0 if features.preparation == "corrected" else _around(shown, inside)
            hidden = np.where(inside, level, shown)
            drop = whole - predict(classifier, as_input(hidden, features))[:, label]
            error = drop.std(ddof=1) / np.sqrt(len(drop)) if len(drop) > 1 else np.nan
            name = classifier_description["class_names"][label]
            table.append((name, edges[k], edges[k + 1], drop.mean(), error, len(drop)))
    return pd.DataFrame(table, columns=list(OCCLUSION_COLUMNS))


def _around(flux, inside):
    """Mean flux of the pixels beside a window, shape (n, 1)."""
    first, last = np.flatnonzero(inside)[[0, -1]]
    beside = np.r_[max(0, first - 10) : first, last + 1 : last + 11]
    return flux[:, beside[beside < flux.shape[1]]].mean(axis=1, keepdims=True)
