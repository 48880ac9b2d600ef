"""Made-up 21-cm spectra of isolated galaxies with every parameter known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from skyloom.spectra.hi.asymmetry import INDICES, folded_indices, measure_asymmetry
from skyloom.spectra.hi.busy_function import PARAMETER_NAMES, busy_function, line_measures

if TYPE_CHECKING:
    from astropy.io import fits

SHAPES = ("single-peaked", "flat-topped", "double-horned")


def _pool_of_shapes(shape: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Busy functions of unit half-width about zero with a broad range of asymmetries, (n, 8)."""
    if shape == "single-peaked":
        steepness, depth = rng.uniform(0.8, 1.6, n), rng.uniform(0.0, 0.4, n)
    elif shape == "flat-topped":
        steepness, depth = 10 ** rng.uniform(0.5, 1.2, n), rng.uniform(0.0, 0.3, n)
    else:
        steepness, depth = 10 ** rng.uniform(0.5, 1.3, n), rng.uniform(0.5, 3.0, n)
    # Scale mixtures: most profiles nearly symmetric, some very lopsided; edges and trough are
    # drawn independently, so that a profile can have equal fluxes and yet unequal sides.
    edge_tilt = rng.normal(0, 0.4, n) * rng.exponential(1.0, n)
    trough_reach = 1.2 if shape != "double-horned" else 0.25
    trough = rng.normal(0, trough_reach, n) * rng.exponential(0.8, n)
    zero = np.zeros(n)
    return np.stack(
        [
            zero + 1,
            steepness * np.exp(edge_tilt),
            steepness * np.exp(-edge_tilt),
            depth,
            zero,
            np.clip(trough, -3, 3),
            zero + 1,
            rng.uniform(2, 5, n),
        ],
        axis=1,
    )


def _noiseless(velocity: np.ndarray, parameters: np.ndarray):
    """Line measures (n, 7) and signed asymmetries (n, 6) of busy functions."""
    model = busy_function(velocity, parameters)
    measures = line_measures(velocity, model)
    return measures, measure_asymmetry(velocity, model, measures[:, 5], measures[:, 6])


def draw_truth(
    n_profiles: int,
    rng: np.random.Generator,
    *,
    shape_shares: Sequence[float] = (0.352, 0.269, 0.379),
    a_flux_sigma: float = 0.13,
    tail_fraction: float = 0.05,
    tail_sigma: float = 0.45,
    snr_median: float = 40.0,
    snr_scatter: float = 0.6,
    width_median: float = 280.0,
    width_scatter: float = 0.35,
    velocity_range: tuple[float, float] = (1500.0, 12000.0),
    channel_width: float = 5.0,
    n_channels: int = 512,
    ripple: float = 0.1,
    interference_fraction: float = 0.05,
) -> pd.DataFrame:
    """Draw the true parameters of a sample of line profiles.

    The asymmetry follows the distribution measured for isolated galaxies: A_flux - 1 is a
    half-Gaussian with a small, wider tail. Busy functions are drawn from a pool many times larger
    than the sample with weights that give this distribution.

    Parameters
    ----------
    n_profiles : int
        Size of the sample.
    rng : numpy.random.Generator
        Source of randomness.
    shape_shares : sequence of 3 floats
        Shares of single-peaked, flat-topped and double-horned profiles (Yu et al. 2022).
    a_flux_sigma, tail_fraction, tail_sigma : float
        Half-Gaussian of A_flux - 1 (Espada et al. 2011) and the share and width of its tail.
    snr_median, snr_scatter : float
        Log-normal distribution of the integrated signal-to-noise ratio (scatter in e-folds).
    width_median, width_scatter : float
        Log-normal distribution of W20 (km/s; e-folds).
    velocity_range : tuple of 2 floats
        Systemic velocities are uniform in it, km/s.
    channel_width : float
        km/s.
    n_channels : int
        Channels of a spectrum, centred near the line.
    ripple : float
        Amplitude of the residual baseline ripple in units of the channel noise.
    interference_fraction : float
        Share of spectra with narrow interference.

    Returns
    -------
    pandas.DataFrame
        One row a profile: ``id`` (``CIG000001`` ...), ``cig``, ``shape``, the eight parameters of
        the busy function, line measures, noiseless asymmetry indices, ``noise`` (mJy), ``snr``,
        and the parameters of the ripple and the interference.

    References
    ----------
    Espada et al. (2011), A&A 532, A117; Yu, Ho, Wang & Li (2022), ApJS 261, 21.

    Examples
    --------
    >>> import numpy as np
    >>> truth = draw_truth(3, np.random.default_rng(0))
    >>> list(truth["id"])
    ['CIG000001', 'CIG000002', 'CIG000003']
    >>> velocity, flux = observe(truth.iloc[0], np.random.default_rng(1))
    >>> velocity.shape
    (512,)
    """
    from scipy.stats import halfnorm  # slow to import

    shares = np.asarray(shape_shares) / np.sum(shape_shares)
    shape_index = rng.permutation(
        np.searchsorted(np.cumsum(shares)[:-1], (np.arange(n_profiles) + 0.5) / n_profiles)
    )
    grid = np.linspace(-3, 3, 301)
    parameters = np.empty((n_profiles, 8))
    for index, shape in enumerate(SHAPES):
        members = np.flatnonzero(shape_index == index)
        if not len(members):
            continue
        pool = _pool_of_shapes(shape, max(20 * len(members), 2000), rng)
        a_flux = np.concatenate(
            [
                np.exp(np.abs(_noiseless(np.broadcast_to(grid, (len(p), grid.size)), p)[1][:, 0]))
                for p in np.array_split(pool, int(np.ceil(len(pool) / 2000)))
            ]
        )
        excess = a_flux - 1
        wanted = (1 - tail_fraction) * halfnorm.pdf(excess, scale=a_flux_sigma)
        wanted += tail_fraction * halfnorm.pdf(excess, scale=tail_sigma)
        edges = np.concatenate([np.linspace(0, 0.8, 81), np.linspace(0.85, 3, 20), [np.inf]])
        counts = np.histogram(excess, edges)[0]
        which = np.clip(np.searchsorted(edges, excess, side="right") - 1, 0, len(counts) - 1)
        weight = wanted / (counts / np.diff(edges).clip(max=1))[which]
        parameters[members] = pool[
            rng.choice(len(pool), len(members), replace=False, p=weight / weight.sum())
        ]

    # From unit half-width to km/s.
    width = np.clip(width_median * np.exp(rng.normal(0, width_scatter, n_profiles)), 80, 650)
    measures = np.concatenate(
        [
            line_measures(np.broadcast_to(grid, (len(p), grid.size)), busy_function(grid, p))
            for p in np.array_split(parameters, int(np.ceil(n_profiles / 2000)))
        ]
    )
    scale = width / measures[:, 1]
    systemic = rng.uniform(*velocity_range, n_profiles)
    start = (
        systemic
        - (n_channels / 2 + rng.uniform(-0.1, 0.1, n_profiles) * n_channels) * channel_width
    )
    parameters[:, 1:3] /= scale[:, None]
    parameters[:, 3] /= scale ** parameters[:, 7]
    parameters[:, 4:7] *= scale[:, None]
    parameters[:, 4:6] += systemic[:, None]

    noise = 2.2 * np.exp(rng.normal(0, 0.2, n_profiles))
    snr = np.clip(snr_median * np.exp(rng.normal(0, snr_scatter, n_profiles)), 5, 400)
    measured, signed = [], []
    for rows in np.array_split(np.arange(n_profiles), int(np.ceil(n_profiles / 1000))):
        velocity = start[rows, None] + channel_width * np.arange(n_channels)
        raw = line_measures(velocity, busy_function(velocity, parameters[rows]))
        channels = raw[:, 1] / channel_width
        parameters[rows, 0] *= (
            snr[rows] * noise[rows] * np.sqrt(channels) * channel_width / raw[:, 4]
        )
        line, asymmetry = _noiseless(velocity, parameters[rows])
        measured.append(line)
        signed.append(asymmetry)
    line = np.concatenate(measured)
    middle = (line[:, 5] + line[:, 6]) / 2
    indices = folded_indices(np.concatenate(signed), middle)

    number = np.arange(1, n_profiles + 1)
    struck = rng.random(n_profiles) < interference_fraction
    table = {
        "id": [f"CIG{i:06d}" for i in number],
        "cig": number,
        "shape": np.array(SHAPES)[shape_index],
        **dict(zip(PARAMETER_NAMES, parameters.T, strict=True)),
        "w50": line[:, 0],
        "w20": line[:, 1],
        "centroid": line[:, 2],
        "peak_flux": line[:, 3],
        "integrated_flux": line[:, 4],
        "mid_velocity": middle,
        **{name: indices[name] for name in INDICES},
        "asymmetry_distance": asymmetry_distance(parameters, middle, line[:, 1]),
        "noise": noise,
        "snr": snr,
        "velocity_start": start,
        "channel_width": channel_width,
        "n_channels": n_channels,
        "ripple_amplitude": ripple * noise * np.abs(rng.normal(size=n_profiles)),
        "ripple_length": rng.uniform(600, 1500, n_profiles),
        "ripple_phase": rng.uniform(0, 2 * np.pi, n_profiles),
        "interference_channel": np.where(struck, rng.integers(0, n_channels, n_profiles), -1),
        "interference_flux": np.where(struck, noise * rng.uniform(8, 40, n_profiles), 0.0),
    }
    return pd.DataFrame(table)


def asymmetry_distance(
    parameters: np.ndarray, mid_velocity: np.ndarray, w20: np.ndarray
) -> np.ndarray:
    """Where a noiseless profile is lopsided: near its middle, or at its edges.

    None of the asymmetry indices says it, all of which are integrals over the whole line.

    Parameters
    ----------
    parameters : numpy.ndarray, shape (n, 8)
        Busy functions.
    mid_velocity, w20 : numpy.ndarray, shape (n,)
        km/s.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Mean distance from the mid-velocity in units of half of W20, weighted by the absolute
        difference of the sides.
    """
    distance = (np.arange(32) + 0.5) / 32 * 1.3
    offset = distance * w20[:, None] / 2
    high, low = (
        busy_function(mid_velocity[:, None] + sign * offset, parameters) for sign in (1, -1)
    )
    weight = np.abs(high - low)
    return (weight @ distance) / np.maximum(weight.sum(axis=1), 1e-12)


def assign_classes(
    truth: pd.DataFrame,
    *,
    by: str = "channel_asymmetry",
    shares: Sequence[float] | None = (0.5, 0.3, 0.2),
    edges: Sequence[float] | None = None,
) -> pd.Series:
    """Classes 0, 1, ... of increasing noiseless asymmetry.

    Parameters
    ----------
    truth : pandas.DataFrame
        From `draw_truth`.
    by : {"channel_asymmetry", "a_flux", "asymmetry_distance"}
        Noiseless quantity that defines the classes; the last is no function of the indices.
    shares : sequence of float, optional
        Shares of the classes; used where ``edges`` is None.
    edges : sequence of float, optional
        Increasing limits between the classes in units of the index.

    Returns
    -------
    pandas.Series of int
        Named ``class``.

    Raises
    ------
    ValueError
        If neither shares nor edges are given.

    Examples
    --------
    >>> import pandas as pd
    >>> truth = pd.DataFrame({"a_flux": [1.02, 1.30, 1.15, 1.08]})
    >>> assign_classes(truth, by="a_flux", shares=None, edges=[1.13, 1.26]).tolist()
    [0, 2, 1, 0]
    """
    if edges is None:
        if shares is None:
            msg = "classes need either shares or edges"
            raise ValueError(msg)
        edges = truth[by].quantile(np.cumsum(shares)[:-1] / np.sum(shares)).to_numpy()
    return pd.Series(np.digitize(truth[by], edges), index=truth.index, name="class")


def observe(row: pd.Series, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One noisy spectrum.

    Parameters
    ----------
    row : pandas.Series
        A row of the truth table.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    velocity, flux : numpy.ndarray, shape (n_channels,)
        km/s and mJy.
    """
    velocity = row["velocity_start"] + row["channel_width"] * np.arange(int(row["n_channels"]))
    flux = busy_function(velocity, row[list(PARAMETER_NAMES)].to_numpy(float))
    flux += row["ripple_amplitude"] * np.sin(
        2 * np.pi * velocity / row["ripple_length"] + row["ripple_phase"]
    )
    flux += rng.normal(0, row["noise"], velocity.size)
    if row["interference_channel"] >= 0:
        flux[int(row["interference_channel"])] += row["interference_flux"]
    return velocity, flux


def observe_lines(
    truth: pd.DataFrame, n_channels: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Noisy spectra of many galaxies at once, cut out around their lines; no interference.

    Parameters
    ----------
    truth : pandas.DataFrame
        From `draw_truth`.
    n_channels : int
        Of each cut-out.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    velocity_start : numpy.ndarray, shape (n,)
        km/s.
    flux : numpy.ndarray of float32, shape (n, n_channels)
        mJy.
    """
    width = truth["channel_width"].to_numpy()
    first = (truth["mid_velocity"] - truth["velocity_start"]).to_numpy() / width - n_channels / 2
    start = truth["velocity_start"].to_numpy() + np.rint(first) * width
    flux = np.empty((len(truth), n_channels), dtype=np.float32)
    parameters = truth[list(PARAMETER_NAMES)].to_numpy()
    amplitude, length, phase, noise = (
        truth[["ripple_amplitude", "ripple_length", "ripple_phase", "noise"]]
        .to_numpy()
        .T[..., None]
    )
    for i in range(0, len(truth), 1000):
        rows = slice(i, i + 1000)
        velocity = start[rows, None] + width[rows, None] * np.arange(n_channels)
        ripple = amplitude[rows] * np.sin(2 * np.pi * velocity / length[rows] + phase[rows])
        flux[rows] = busy_function(velocity, parameters[rows]) + ripple
        flux[rows] += noise[rows] * rng.standard_normal(velocity.shape)
    return start, flux


def to_hdu(row: pd.Series, rng: np.random.Generator) -> fits.PrimaryHDU:
    """One spectrum as a telescope's pipeline would write it: a (1, N) image with a velocity axis.

    Parameters
    ----------
    row : pandas.Series
        A row of the truth table.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    astropy.io.fits.PrimaryHDU
    """
    from astropy.io import fits

    velocity, flux = observe(row, rng)
    hdu = fits.PrimaryHDU(flux.astype(np.float32)[None])
    hdu.header.update(
        {
            "CTYPE1": ("VELO", "heliocentric optical velocity"),
            "CUNIT1": "km/s",
            "CRPIX1": 1.0,
            "CRVAL1": velocity[0],
            "CDELT1": row["channel_width"],
            "BUNIT": "mJy",
            "OBJECT": row["id"],
            "ORIGIN": "skyloom simulation",
        }
    )
    return hdu
