"""Made-up radio galaxies: a core and two arms, bent or straight, with every parameter known."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from skyloom.images.moments import measure_images

if TYPE_CHECKING:
    from astropy.io import fits

CLASSES = ("FRI", "FRII", "bent", "compact")
"""Classes, in the order of their numbers."""

N_NEIGHBOURS = 3
"""Unrelated sources of an image at most."""

PIXEL_SCALE, BEAM_FWHM = 1.8, 5.4  # arcsec, of FIRST
_N_ALONG = 16  # Gaussians along an arm: closer to each other than they are wide
_FWHM = np.sqrt(8 * np.log(2))


def draw_truth(
    n_sources: int,
    rng: np.random.Generator,
    *,
    class_shares: Sequence[float] = (0.25, 0.25, 0.25, 0.25),
    straight_scale: float = 7.0,
    bent_range: tuple[float, float] = (35.0, 130.0),
    length_median: float = 26.0,
    length_scatter: float = 0.4,
    length_asymmetry: float = 0.15,
    flux_ratio_scatter: float = 0.35,
    width_median: float = 2.5,
    width_scatter: float = 0.3,
    snr_median: float = 60.0,
    snr_scatter: float = 0.8,
    noise: float = 0.15,
    offset: float = 1.5,
    neighbour_rate: float = 0.3,
    field: float = 270.0,
    beam_fwhm: float = BEAM_FWHM,
) -> pd.DataFrame:
    """Draw the true parameters of a sample of radio galaxies.

    A source is a core and two arms. An arm is a quadratic Bezier curve from the host to its end;
    along it the brightness peaks near the host (FRI) or near the end (FRII), with a fainter jet.
    The bending angle is what the two lines from the host to the ends lack of 180 deg.

    Parameters
    ----------
    n_sources : int
        Size of the sample.
    rng : numpy.random.Generator
        Source of randomness.
    class_shares : sequence of 4 floats
        Shares of `CLASSES`; a bent source is of either Fanaroff-Riley type.
    straight_scale : float
        Half-Gaussian of the bending angles of straight sources (deg), cut at half of where bent
        ones begin.
    bent_range : tuple of 2 floats
        Uniform bending angles of bent sources, deg.
    length_median, length_scatter : float
        Log-normal length of an arm (arcsec; e-folds).
    length_asymmetry : float
        Standard deviation of a in the lengths L (1 + a) and L (1 - a) of the two arms.
    flux_ratio_scatter : float
        Log-normal ratio of the arms' fluxes, e-folds.
    width_median, width_scatter : float
        Log-normal width of an arm at its end, a Gaussian's sigma (arcsec; e-folds).
    snr_median, snr_scatter : float
        Log-normal ratio of the peak brightness to the noise (e-folds); none is below 10.
    noise : float
        mJy/beam; that of FIRST.
    offset : float
        Standard deviation of the host from the image's centre in x and in y, arcsec.
    neighbour_rate : float
        Mean number of unrelated sources in an image; `N_NEIGHBOURS` at most.
    field : float
        Side of the square in which they lie, arcsec.
    beam_fwhm : float
        arcsec.

    Returns
    -------
    pandas.DataFrame
        One row a source: ``id``, ``class``, ``fr_type`` (empty where compact), angles in deg
        (``position_angle`` of the unbent axis from x towards y, ``bending_angle``, and
        ``peak_bending_angle`` between the arms' brightest points), lengths, widths and positions
        in arcsec, fluxes in mJy, ``peak_flux`` and ``noise`` in mJy/beam.

    References
    ----------
    Fanaroff & Riley (1974), MNRAS 167, 31P; Becker, White & Helfand (1995), ApJ 450, 559 (FIRST);
    Garon et al. (2019), AJ 157, 126 (bending angles).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> truth = draw_truth(4, rng)
    >>> sorted(truth["class"])
    ['FRI', 'FRII', 'bent', 'compact']
    >>> observe(truth, rng).shape
    (4, 150, 150)
    """
    shares = np.cumsum(class_shares)[:-1] / np.sum(class_shares)
    kind = rng.permutation(np.searchsorted(shares, (np.arange(n_sources) + 0.5) / n_sources))
    bent, compact = kind == CLASSES.index("bent"), kind == CLASSES.index("compact")
    second = np.where(bent, rng.random(n_sources) < 0.5, kind == CLASSES.index("FRII"))

    limit = bent_range[0] / 2
    straight = straight_scale * _half_normal(limit / straight_scale, n_sources, rng)
    bending = np.where(bent, rng.uniform(*bent_range, n_sources), straight)
    length = length_median * np.exp(rng.normal(0, length_scatter, n_sources))
    asymmetry = np.clip(rng.normal(0, length_asymmetry, n_sources), -0.6, 0.6)
    ratio = np.exp(rng.normal(0, flux_ratio_scatter, n_sources))
    core = np.where(second, rng.uniform(0, 0.15, n_sources), rng.uniform(0.02, 0.3, n_sources))
    width = width_median * np.exp(rng.normal(0, width_scatter, n_sources))
    inner = np.where(second, width * rng.uniform(0.1, 0.5, n_sources), 0.3 * width)
    peak = np.where(second, rng.uniform(0.75, 0.98, n_sources), rng.uniform(0.12, 0.4, n_sources))
    spread = np.where(
        second, rng.uniform(0.05, 0.15, n_sources), rng.uniform(0.15, 0.35, n_sources)
    )
    snr = np.maximum(10, snr_median * np.exp(rng.normal(0, snr_scatter, n_sources)))
    number = np.minimum(rng.poisson(neighbour_rate, n_sources), N_NEIGHBOURS)
    table = pd.DataFrame(
        {
            "id": [f"SIM{i:06d}" for i in range(1, n_sources + 1)],
            "class": np.array(CLASSES)[kind],
            "fr_type": np.where(compact, "", np.where(second, "FRII", "FRI")),
            "bending_angle": bending,
            "position_angle": rng.uniform(0, 360, n_sources),
            "curvature": rng.uniform(0, 1, n_sources),
            "length_1": length * (1 + asymmetry),
            "length_2": length * (1 - asymmetry),
            "flux_1": (1 - core) * ratio / (1 + ratio),
            "flux_2": (1 - core) / (1 + ratio),
            "core_flux": core,
            "peak_position": peak,
            "peak_spread": spread,
            "jet_fraction": rng.uniform(0, 0.15, n_sources),
            "width_inner": inner,
            "width_outer": width,
            "x": rng.normal(0, offset, n_sources),
            "y": rng.normal(0, offset, n_sources),
            "noise": noise,
            "peak_flux": snr * noise,
            "stripe_amplitude": noise * np.abs(rng.normal(0, 0.3, n_sources)),
            "stripe_length": rng.uniform(15, 60, n_sources),
            "stripe_angle": rng.uniform(0, 180, n_sources),
            "stripe_phase": rng.uniform(0, 360, n_sources),
        }
    )
    table.loc[compact, ["bending_angle", "length_1", "length_2", "flux_1", "flux_2"]] = 0.0
    table.loc[compact, ["core_flux", "peak_position", "width_inner", "width_outer"]] = [1, 0, 0, 0]
    for k in range(1, N_NEIGHBOURS + 1):
        there = number >= k
        for axis in "xy":
            table[f"neighbour_{axis}_{k}"] = rng.uniform(-field / 2, field / 2, n_sources)
        bright = noise * rng.uniform(6, 60, n_sources)
        table[f"neighbour_flux_{k}"] = np.where(there, bright, 0.0)

    # The brightness was relative; now its peak is what was drawn.
    total = table["peak_flux"] / _peak(table, beam_fwhm)
    for column in ("core_flux", "flux_1", "flux_2"):
        table[column] *= total
    first, other = (np.moveaxis(_arm(table, side, peak[:, None]), 0, -1) for side in (1, -1))
    table["peak_bending_angle"] = np.where(compact, 0.0, _bending(first[:, 0], other[:, 0]))
    return table


def _half_normal(limit, n, rng):
    """Half-Gaussian of unit scale below a limit."""
    from scipy.stats import truncnorm  # slow to import

    return truncnorm.rvs(0, limit, size=n, random_state=rng)


def _bending(first, second):
    """180 deg minus the angle between vectors from the host, deg."""
    cosine = (first * second).sum(-1) / np.maximum(
        np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1), 1e-12
    )
    return 180 - np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _arm(truth, side, along):
    """Points (2, n, k) of an arm, arcsec from the host; ``along`` is 0 there and 1 at its end."""
    axis = np.radians(truth["position_angle"].to_numpy())[:, None]
    half = np.radians(truth["bending_angle"].to_numpy())[:, None] / 2
    length = truth["length_1" if side > 0 else "length_2"].to_numpy()[:, None]
    curvature = truth["curvature"].to_numpy()[:, None]
    forward = np.stack([np.cos(axis), np.sin(axis)]) * side
    across = np.stack([-np.sin(axis), np.cos(axis)])
    direction = np.cos(half) * forward + np.sin(half) * across
    # The jet leaves along the unbent axis where the curvature is 1.
    middle = length / 2 * ((1 - curvature) * direction + curvature * forward)
    return 2 * along * (1 - along) * middle + along**2 * length * direction


def components(truth: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The round Gaussians that a source is made of, before the beam.

    Parameters
    ----------
    truth : pandas.DataFrame
        From `draw_truth`.

    Returns
    -------
    x, y : numpy.ndarray, shape (n, k)
        From the image's centre, arcsec.
    flux : numpy.ndarray, shape (n, k)
        mJy.
    sigma : numpy.ndarray, shape (n, k)
        arcsec. The core comes first, the unrelated sources last.
    """
    column = {name: truth[name].to_numpy()[:, None] for name in truth if name not in _WORDS}
    along = (np.arange(_N_ALONG) + 0.5) / _N_ALONG
    distance = along - column["peak_position"]
    # Brightness falls steeply outside a hot spot and slowly towards the host.
    spread = column["peak_spread"] * np.where(distance < 0, 2, 1)
    shape = np.exp(-0.5 * (distance / spread) ** 2)
    jet = column["jet_fraction"]
    profile = (1 - jet) * shape / shape.sum(axis=1, keepdims=True) + jet / _N_ALONG
    width = column["width_inner"] + (column["width_outer"] - column["width_inner"]) * along
    first, second = (_arm(truth, side, along[None, :]) for side in (1, -1))
    place = np.concatenate([np.zeros((2, len(truth), 1)), first, second], axis=2)
    zero = np.zeros((len(truth), N_NEIGHBOURS))

    def neighbour(name):
        return truth[[f"neighbour_{name}_{k}" for k in range(1, N_NEIGHBOURS + 1)]].to_numpy()

    return (
        np.concatenate([column["x"] + place[0], neighbour("x")], axis=1),
        np.concatenate([column["y"] + place[1], neighbour("y")], axis=1),
        np.concatenate(
            [column["core_flux"], column["flux_1"] * profile, column["flux_2"] * profile,
             neighbour("flux")], axis=1,
        ),
        np.concatenate([zero[:, :1], width, width, zero], axis=1),
    )  # fmt: skip


_WORDS = ("id", "class", "fr_type")


def _peak(truth, beam_fwhm):
    """Peak brightness of the source itself: the largest at the centres of its Gaussians."""
    x, y, flux, sigma = (part[:, :-N_NEIGHBOURS] for part in components(truth))
    beam = (beam_fwhm / _FWHM) ** 2
    variance = (sigma**2 + beam)[:, None]
    squared = (x[:, :, None] - x[:, None]) ** 2 + (y[:, :, None] - y[:, None]) ** 2
    return (flux[:, None] * beam / variance * np.exp(-squared / (2 * variance))).sum(-1).max(-1)


def observe(
    truth: pd.DataFrame,
    rng: np.random.Generator,
    *,
    size: int = 150,
    pixel_scale: float = PIXEL_SCALE,
    beam_fwhm: float = BEAM_FWHM,
    chunk: int = 64,
) -> np.ndarray:
    """Images of radio galaxies through a round beam, with noise and sidelobe stripes.

    A round Gaussian is the product of one in x and one in y, so that a sum of them is a product
    of two small matrices; convolution with the beam adds variances.

    Parameters
    ----------
    truth : pandas.DataFrame
        From `draw_truth`.
    rng : numpy.random.Generator
        Source of the noise, which is as smooth as the beam.
    size : int
        Pixels on a side.
    pixel_scale, beam_fwhm : float
        arcsec.
    chunk : int
        Images made at a time.

    Returns
    -------
    numpy.ndarray of float32, shape (n, size, size)
        mJy/beam; rows are y and columns x, the middle of the image is (0, 0).
    """
    pixel = ((np.arange(size) - (size - 1) / 2) * pixel_scale).astype(np.float32)
    beam = (beam_fwhm / _FWHM) ** 2
    smooth = np.exp(-((pixel[:, None] - pixel) ** 2) / (2 * beam))
    smooth /= np.linalg.norm(smooth, axis=1, keepdims=True)  # unit variance in every pixel
    images = np.empty((len(truth), size, size), np.float32)
    parts = [array.astype(np.float32)[..., None] for array in components(truth)]
    with _one_thread():
        for first in range(0, len(truth), chunk):
            part = truth.iloc[first : first + chunk]
            x, y, flux, sigma = (array[first : first + chunk] for array in parts)
            variance = sigma**2 + np.float32(beam)
            column = np.exp(-((pixel - x) ** 2) / (2 * variance))
            row = np.exp(-((pixel - y) ** 2) / (2 * variance)) * (flux * beam / variance)
            stripes = _stripes(part, pixel)
            image = np.swapaxes(np.concatenate([row, stripes[0]], 1), 1, 2) @ np.concatenate(
                [column, stripes[1]], 1
            )
            white = rng.standard_normal(image.shape, np.float32)
            level = part["noise"].to_numpy(np.float32)[:, None, None]
            images[first : first + chunk] = image + level * (smooth @ white @ smooth.T)
    return images


def _one_thread():
    """Small matrices: where other processes run, their threads wait for each other."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")


def _stripes(truth, pixel):
    """Plane waves as two products of a function of y and one of x: (n, 2, size) each."""
    column = {name: truth[name].to_numpy(np.float32)[:, None] for name in truth if "stripe" in name}
    angle = np.radians(column["stripe_angle"])
    number = np.float32(2 * np.pi) / column["stripe_length"]
    along_x = number * np.cos(angle) * pixel
    along_y = number * np.sin(angle) * pixel + np.radians(column["stripe_phase"])
    height = column["stripe_amplitude"]
    return (
        np.stack([height * np.cos(along_y), -height * np.sin(along_y)], axis=1),
        np.stack([np.cos(along_x), np.sin(along_x)], axis=1),
    )


# What is measured of an image, and the median and scatter of the simulation that it decides.
_MATCHED = {
    "major": ("length_median", "length_scatter"),
    "minor": ("width_median", "width_scatter"),
    "snr": ("snr_median", "snr_scatter"),
    "flux_ratio": (None, "flux_ratio_scatter"),
    "length_ratio": (None, "length_asymmetry"),
}


def fit_distributions(
    measured: pd.DataFrame,
    rng: np.random.Generator,
    *,
    n_simulated: int = 800,
    n_iterations: int = 6,
    size: int = 80,
    pixel_scale: float = PIXEL_SCALE,
    **fixed: Any,
) -> dict[str, float]:
    """Parameters of `draw_truth` whose images are like some observed ones.

    Simulated images are measured as the observed ones were; the medians and scatters of the
    simulation are changed until those of the measurements agree (method of simulated moments).

    Parameters
    ----------
    measured : pandas.DataFrame
        From `skyloom.images.moments.measure_images`, of extended sources; a quantity that is NaN
        throughout is not fitted.
    rng : numpy.random.Generator
        Source of the simulations.
    n_simulated, n_iterations : int
        Images of an iteration, and iterations.
    size : int
        Pixels on a side, those of the observed images.
    pixel_scale : float
        arcsec.
    **fixed
        Parameters of `draw_truth`; of those that are fitted, where to begin. Of ``class_shares``
        that of compact sources is left out, as they are left out of what was measured.

    Returns
    -------
    dict
        Keyword arguments for `draw_truth`: those that are fitted.

    Raises
    ------
    ValueError
        If fewer than 10 sources were measured in full.

    References
    ----------
    McFadden (1989), Econometrica 57, 995.
    """
    fitted = {column: names for column, names in _MATCHED.items() if measured[column].notna().any()}
    known = measured[list(fitted)].dropna()
    if len(known) < 10:
        msg = f"distributions need 10 measured sources at least, not {len(known)}"
        raise ValueError(msg)
    defaults = inspect.signature(draw_truth).parameters
    shares = fixed.get("class_shares", defaults["class_shares"].default)
    fixed = fixed | {"class_shares": (*shares[:-1], 0.0)}
    values = {
        name: fixed.get(name, defaults[name].default)
        for names in fitted.values()
        for name in names
        if name
    }
    beam_fwhm = fixed.get("beam_fwhm", BEAM_FWHM)
    wanted_middle, wanted_spread = _middle_and_spread(known)
    with _one_thread():
        for _ in range(n_iterations):
            truth = draw_truth(n_simulated, rng, **(fixed | values))
            images = observe(truth, rng, size=size, pixel_scale=pixel_scale, beam_fwhm=beam_fwhm)
            simulated = measure_images(images, pixel_scale=pixel_scale)[list(fitted)].dropna()
            middle, spread = _middle_and_spread(simulated)
            for column, (median, scatter) in fitted.items():
                if median:
                    values[median] *= float(np.exp(wanted_middle[column] - middle[column]))
                variance = values[scatter] ** 2 + wanted_spread[column] ** 2 - spread[column] ** 2
                values[scatter] = float(np.sqrt(np.clip(variance, 1e-4, 4.0)))
    return values


def _middle_and_spread(table):
    """Median and scaled median absolute deviation of the logarithms."""
    logarithm = np.log(table[(table > 0).all(axis=1)])
    middle = logarithm.median()
    return middle, (logarithm - middle).abs().median() * 1.4826


def to_hdu(
    row: pd.Series, image: np.ndarray, *, pixel_scale: float = PIXEL_SCALE
) -> fits.PrimaryHDU:
    """A cut-out as the survey's service gives it: Jy/beam, with a celestial WCS.

    Parameters
    ----------
    row : pandas.Series
        A row of the truth table; ``ra`` and ``dec`` (deg) are those of the centre if it has them.
    image : numpy.ndarray, shape (size, size)
        mJy/beam, from `observe`.
    pixel_scale : float
        arcsec.

    Returns
    -------
    astropy.io.fits.PrimaryHDU
    """
    from astropy.io import fits
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval = [row.get("ra", 180.0), row.get("dec", 30.0)]
    wcs.wcs.crpix = [(side + 1) / 2 for side in image.shape[::-1]]
    wcs.wcs.cdelt = [-pixel_scale / 3600, pixel_scale / 3600]
    header = wcs.to_header()
    header.update({"BUNIT": "JY/BEAM", "OBJECT": row["id"], "ORIGIN": "skyloom simulation"})
    return fits.PrimaryHDU((image / 1000).astype(np.float32), header)
