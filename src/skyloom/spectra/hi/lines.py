"""Lines of a whole sample, given as tables: fitted, ready to be drawn, and changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom.spectra.hi.busy_function import (
    DERIVED_NAMES,
    PARAMETER_NAMES,
    busy_function,
    fit_busy_function,
)
from skyloom.spectra.hi.preparation import baseline_error_shapes

_CHUNK = 256
_BASELINE = ("line_centre", "line_width", "baseline_level_error", "baseline_slope_error")
_USABLE = ("good", "chi-square too large")


def fit_profiles(
    profiles: pd.DataFrame, flux: np.ndarray, max_reduced_chi_square: float = 2.5
) -> Iterator[tuple[pd.DataFrame, tuple[Any, ...]]]:
    """Fit the busy function to a chunk of profiles after the other.

    Parameters
    ----------
    profiles : pandas.DataFrame
        ``id``, ``velocity_start``, ``channel_width``, ``noise`` and, where a baseline was
        subtracted, what is known of its errors.
    flux : numpy.ndarray, shape (n, m)
        mJy, NaN where masked.
    max_reduced_chi_square : float
        Above it the busy function does not describe the line.

    Yields
    ------
    table : pandas.DataFrame
        One row a profile: ``id``, the eight parameters and the derived quantities with ``_error``,
        ``w50_below_half_w20`` (one horn may stand for the line), ``chi_square``,
        ``degrees_of_freedom``, ``status`` (``good`` or why not) and ``usable`` (whether the
        line's edges can be trusted; a line the busy function cannot describe still has edges).
    measured : tuple
        Velocity, flux, noise, fit, baseline errors and window, as the asymmetry needs them; the
        last two are None where no baseline was subtracted.
    """
    has_baseline = set(_BASELINE) <= set(profiles.columns)
    for start in tqdm(range(0, len(profiles), _CHUNK), desc="fitting profiles", unit="chunk"):
        rows = slice(start, start + _CHUNK)
        part = profiles.iloc[rows]
        noise = part["noise"].to_numpy()
        data = np.asarray(flux[rows], dtype=float)
        velocity = _velocity(part, data.shape[1])
        baseline = window = None
        if has_baseline:
            window = part[["window_low", "window_high"]].to_numpy()
            baseline = baseline_error_shapes(velocity, *part[list(_BASELINE)].to_numpy().T)
        fit = fit_busy_function(
            velocity, data, noise, baseline, max_reduced_chi_square=max_reduced_chi_square
        )
        table = {"id": part["id"].to_numpy()}
        for names, values, errors in (
            (PARAMETER_NAMES, fit.parameters, fit.parameter_errors),
            (DERIVED_NAMES, fit.derived, fit.derived_errors),
        ):
            for k, name in enumerate(names):
                table[name], table[f"{name}_error"] = values[:, k], errors[:, k]
        table["w50_below_half_w20"] = table["w50"] < table["w20"] / 2
        table["chi_square"], table["degrees_of_freedom"] = fit.chi_square, fit.degrees_of_freedom
        table["status"] = fit.status
        table["usable"] = np.isin(fit.status, _USABLE)
        yield pd.DataFrame(table), (velocity, data, noise, fit, baseline, window)


def _velocity(profiles: pd.DataFrame, n_channels: int) -> np.ndarray:
    """Velocities of all channels, (n, m), km/s."""
    start, width = profiles[["velocity_start", "channel_width"]].to_numpy().T
    return start[:, None] + width[:, None] * np.arange(n_channels)


def line_geometry(
    profiles: pd.DataFrame, flux: np.ndarray, fits: pd.DataFrame, rows: Any = slice(None)
) -> dict[str, np.ndarray]:
    """What drawing needs of some profiles: filled fluxes and where the line is.

    Parameters
    ----------
    profiles, flux, fits
        Of the sample.
    rows : numpy.ndarray of int or slice
        Which of it; all by default.

    Returns
    -------
    dict
        ``flux`` (n, m) with gaps filled by the fit, ``n_channels`` (n,) before the padding,
        ``velocity_start``, ``channel_width``, ``noise``, ``centre``, ``half_width``, ``w50``,
        ``peak`` (n,) and ``usable`` (n,) bool.
    """
    # Fluxes may be memory-mapped: only the rows that are drawn are read.
    profiles, data, fits = profiles.iloc[rows], np.asarray(flux[rows], dtype=float), fits.iloc[rows]
    present = np.isfinite(data)
    n_channels = data.shape[1] - present[:, ::-1].argmax(1)
    model = busy_function(
        _velocity(profiles, data.shape[1]), fits[list(PARAMETER_NAMES)].to_numpy()
    )
    return {
        "flux": np.where(present, data, np.nan_to_num(model)),
        "n_channels": n_channels,
        "velocity_start": profiles["velocity_start"].to_numpy(),
        "channel_width": profiles["channel_width"].to_numpy(),
        "noise": profiles["noise"].to_numpy(),
        "centre": fits[["low_edge", "high_edge"]].mean(axis=1).to_numpy(),
        "half_width": (fits["w20"] / 2).to_numpy(),
        "w50": fits["w50"].to_numpy(),
        "peak": fits["peak_flux"].to_numpy(),
        "usable": fits["usable"].to_numpy(),
    }


def published_cut(line: dict[str, np.ndarray], row: int) -> np.ndarray:
    """The channels the published recipe paints: W50 + 5 channels on either side of the centre.

    Parameters
    ----------
    line : dict
        From `line_geometry`.
    row : int
        Which profile.

    Returns
    -------
    numpy.ndarray
        Fluxes, at least 8 channels.
    """
    width = line["channel_width"][row]
    middle = (line["centre"][row] - line["velocity_start"][row]) / width
    reach = line["w50"][row] / width + 5
    low = int(np.clip(np.rint(middle - reach), 0, line["n_channels"][row] - 8))
    high = int(np.clip(np.rint(middle + reach) + 1, low + 8, line["n_channels"][row]))
    return line["flux"][row, low:high]


def change_profiles(line: dict[str, np.ndarray], copies: pd.DataFrame) -> dict[str, np.ndarray]:
    """Add noise, exchange the sides and move the fold velocity of some profiles.

    Parameters
    ----------
    line : dict
        From `line_geometry`.
    copies : pandas.DataFrame
        One row a profile: ``profile`` and ``copy``, which seed the noise, ``exchanged``,
        ``snr_factor`` (1 adds no noise) and ``fold_shift`` (km/s).

    Returns
    -------
    dict
        The same with changed ``flux`` and ``centre``.
    """
    flux, centre = line["flux"].copy(), line["centre"].copy()
    factor = copies["snr_factor"].to_numpy(float)
    added = line["noise"] * np.sqrt(1 / factor**2 - 1)
    for i in np.flatnonzero(added > 0):
        rng = np.random.default_rng([int(copies["profile"].iloc[i]), int(copies["copy"].iloc[i])])
        n = line["n_channels"][i]
        flux[i, :n] += added[i] * rng.standard_normal(n)
    for i in np.flatnonzero(copies["exchanged"].to_numpy(bool)):
        n = line["n_channels"][i]
        flux[i, :n] = flux[i, :n][::-1]
        first = line["velocity_start"][i]
        centre[i] = 2 * first + (n - 1) * line["channel_width"][i] - centre[i]
    return line | {"flux": flux, "centre": centre + copies["fold_shift"].to_numpy(float)}
