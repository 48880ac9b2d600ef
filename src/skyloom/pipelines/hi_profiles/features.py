"""Node functions of the features: fits, asymmetries, ring images and their figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom.images.rings import (
    IMAGE_MODELS,
    published_image,
    published_quadrant,
    render_rings,
)
from skyloom.pipelines.hi_profiles.parameters import FeatureParameters, Sweep
from skyloom.plots import hi_profiles as plots
from skyloom.spectra.hi.asymmetry import asymmetry_table
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


def measure_profiles(
    profiles: pd.DataFrame, profile_flux: np.ndarray, features: FeatureParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fit the busy function and measure the asymmetry of every profile.

    Returns
    -------
    fits : pandas.DataFrame
        ``id``, the eight parameters and the derived quantities with ``_error``, ``chi_square``,
        ``degrees_of_freedom``, ``status`` (``good`` or why not) and ``usable`` (whether the line's
        edges can be trusted; a line the busy function cannot describe still has edges).
    asymmetry : pandas.DataFrame
        ``id``, the asymmetry indices with errors and 68 % intervals; missing where not usable.
    """
    rng = np.random.default_rng(features.seed)
    fits, asymmetries = [], []
    for table, measured in fit_profiles(profiles, profile_flux, features.max_reduced_chi_square):
        *observed, baseline = measured
        asymmetry = asymmetry_table(
            *observed, rng, baseline, n_realisations=features.n_realisations
        )
        asymmetry[~table["usable"]] = np.nan
        asymmetry.insert(0, "id", table["id"].to_numpy())
        fits.append(table)
        asymmetries.append(asymmetry)
    return pd.concat(fits, ignore_index=True), pd.concat(asymmetries, ignore_index=True)


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
        ``fits`` of `measure_profiles` for the chunk.
    measured : tuple
        Velocity, flux, noise, fit and baseline errors, as the asymmetry needs them.
    """
    has_baseline = set(_BASELINE) <= set(profiles.columns)
    for start in tqdm(range(0, len(profiles), _CHUNK), desc="fitting profiles", unit="chunk"):
        rows = slice(start, start + _CHUNK)
        part = profiles.iloc[rows]
        noise = part["noise"].to_numpy()
        data = np.asarray(flux[rows], dtype=float)
        velocity = _velocity(part, data.shape[1])
        baseline = None
        if has_baseline:
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
        table["chi_square"], table["degrees_of_freedom"] = fit.chi_square, fit.degrees_of_freedom
        table["status"] = fit.status
        table["usable"] = np.isin(fit.status, _USABLE)
        yield pd.DataFrame(table), (velocity, data, noise, fit, baseline)


def _velocity(profiles: pd.DataFrame, n_channels: int) -> np.ndarray:
    """Velocities of all channels, (n, m), km/s."""
    start, width = profiles[["velocity_start", "channel_width"]].to_numpy().T
    return start[:, None] + width[:, None] * np.arange(n_channels)


def draw_images(
    profiles: pd.DataFrame, profile_flux: np.ndarray, fits: pd.DataFrame, sweep: Sweep
) -> dict[str, Any]:
    """Ring images of all profiles, computed only as they are saved.

    Returns
    -------
    dict of str to dask.array.Array, shape (n, 3, size, size, channels)
        The three image models, for every variant of images in the sweep; one channel of float32,
        or the three colours in uint8 of whole published images. Images of profiles without usable
        edges are zero.
    """
    return {
        variant: lazy_images(
            len(profiles),
            member.features,
            partial(_profile_images, profiles, profile_flux, fits, member.features),
        )
        for variant, member in sweep.input_variants.items()
    }


def lazy_images(
    n_images: int, parameters: FeatureParameters, draw: Callable[[np.ndarray], np.ndarray]
) -> Any:
    """Array of images whose blocks of rows are drawn when they are needed.

    Parameters
    ----------
    n_images : int
        Rows.
    parameters : FeatureParameters
        ``hi_profiles.features``.
    draw : callable
        Returns the images of the rows it is given.

    Returns
    -------
    dask.array.Array, shape (n_images, 3, size, size, channels)
    """
    import dask.array as da

    channels, dtype = image_format(parameters)
    size = parameters.size
    rows = da.arange(n_images, chunks=_CHUNK)
    return rows.map_blocks(
        draw,
        dtype=dtype,
        chunks=(rows.chunks[0], (len(IMAGE_MODELS),), (size,), (size,), (channels,)),
        new_axis=[1, 2, 3, 4],
        meta=np.empty((0, 0, 0, 0, 0), dtype),
    )


def image_format(parameters: FeatureParameters) -> tuple[int, type]:
    """Channels and type of the images.

    Parameters
    ----------
    parameters : FeatureParameters
        ``hi_profiles.features``.

    Returns
    -------
    channels : int
    dtype : type
    """
    in_colour = parameters.rendering == "published" and not parameters.quadrant
    return (3, np.uint8) if in_colour else (1, np.float32)


def _profile_images(profiles, flux, fits, parameters, rows):
    return images_of(line_geometry(profiles, flux, fits, rows), parameters)


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


def images_of(line: dict[str, np.ndarray], parameters: FeatureParameters) -> np.ndarray:
    """Images of profiles in the chosen rendering.

    Parameters
    ----------
    line : dict
        From `line_geometry`.
    parameters : FeatureParameters
        ``hi_profiles.features``.

    Returns
    -------
    numpy.ndarray, shape (n, 3, size, size, channels)
    """
    usable = line["usable"]
    n, size = len(usable), parameters.size
    channels, dtype = image_format(parameters)
    images = np.zeros((n, len(IMAGE_MODELS), size, size, channels), dtype=dtype)
    if parameters.rendering == "published":
        draw = published_quadrant if parameters.quadrant else published_image
        for i in np.flatnonzero(usable):
            cut = published_cut(line, i)
            for k, model in enumerate(IMAGE_MODELS):
                images[i, k] = draw(cut, model, size).reshape(size, size, channels)
    elif usable.any():
        images[usable, ..., 0] = render_rings(
            line["flux"][usable] / line["peak"][usable, None],
            line["velocity_start"][usable],
            line["channel_width"][usable],
            line["centre"][usable],
            parameters.extent * line["half_width"][usable],
            size=size,
            quadrant=parameters.quadrant,
        )
    return images


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


def paint_jpegs(
    profiles: pd.DataFrame,
    profile_flux: np.ndarray,
    fits: pd.DataFrame,
    features: FeatureParameters,
) -> dict[str, Callable[[], object]]:
    """The published JPEGs under their published names, painted one at a time as they are saved.

    Returns
    -------
    dict of str to callable
        ``CIG000123_rot_im_1.jpeg`` and so on to functions that return pictures; empty where
        ``published_jpegs`` is false.
    """
    if not features.published_jpegs:
        return {}

    def paint(row, model):
        from PIL import Image

        line = line_geometry(profiles, profile_flux, fits, [row])
        return Image.fromarray(published_image(published_cut(line, 0), model))

    return {
        f"{profiles['id'].iloc[row]}_rot_im_{model}.jpeg": partial(paint, row, model)
        for row in np.flatnonzero(fits["usable"])
        for model in IMAGE_MODELS
    }


def draw_galaxy_figures(
    profiles: pd.DataFrame,
    profile_flux: np.ndarray,
    fits: pd.DataFrame,
    asymmetry: pd.DataFrame,
    features: FeatureParameters,
) -> tuple[dict[str, Callable[[], Any]], list[Any], Any]:
    """Figures of single galaxies and of the whole sample.

    Returns
    -------
    halves : dict of str to callable
        For the first ``n_halves_figures`` galaxies: normalised profile with its halves.
    pages : list of 4 matplotlib.figure.Figure
        All spectra; image models 1, 2 and 3 of all galaxies.
    panel : matplotlib.figure.Figure
        The chosen galaxy's spectrum, fit, fold and images.

    Raises
    ------
    ValueError
        If ``panel_id`` is not among the accepted galaxies.
    """
    ids = profiles["id"].tolist()
    if features.panel_id is not None and features.panel_id not in ids:
        msg = f"features.panel_id {features.panel_id!r} is not an accepted galaxy"
        raise ValueError(msg)
    chosen = 0 if features.panel_id is None else ids.index(features.panel_id)
    usable = np.flatnonzero(fits["usable"])

    def halves(row):
        line = line_geometry(profiles, profile_flux, fits, [row])
        return plots.halves_figure(ids[row], published_cut(line, 0))

    shown = usable if features.n_halves_figures is None else usable[: features.n_halves_figures]
    page_rows = usable[: features.figure_galaxies]
    page_ids = [ids[row] for row in page_rows]
    line = line_geometry(profiles, profile_flux, fits, page_rows)
    whole = features.model_copy(update={"size": 64, "quadrant": False})
    images = images_of(line, whole) if len(page_rows) else np.zeros((0, 3, 64, 64, 1))
    left_out = len(usable) - len(page_rows)
    pages = [plots.spectra_page(page_ids, line, left_out)]
    pages += [
        plots.images_page(page_ids, images[:, k], model, left_out)
        for k, model in enumerate(IMAGE_MODELS)
    ]
    chosen_line = line_geometry(profiles, profile_flux, fits, [chosen])
    panel = plots.galaxy_panel(
        profiles.iloc[chosen],
        chosen_line,
        fits.iloc[chosen],
        asymmetry.iloc[chosen],
        images_of(chosen_line, whole)[0],
        extent=features.extent,
        rendering=features.rendering,
    )
    return {f"{ids[row]}.png": partial(halves, row) for row in shown}, pages, panel


# --- indices as classifiers take them -------------------------------------------------------------


def baseline_features(
    profiles: pd.DataFrame, fits: pd.DataFrame, asymmetry: pd.DataFrame
) -> pd.DataFrame:
    """Asymmetry indices and S/N, as the logistic regressions take them.

    Parameters
    ----------
    profiles, fits, asymmetry : pandas.DataFrame
        Tables of the accepted galaxies.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``id``. Ratios are logarithms, the velocity of equality is its distance from
        V_m in units of W20.
    """
    offset = (asymmetry["equality_velocity"] - asymmetry["mid_velocity"]).abs()
    indices = pd.DataFrame(
        {
            "a_flux": np.log(asymmetry["a_flux"]),
            "lopsidedness": asymmetry["lopsidedness"],
            "channel_asymmetry": asymmetry["channel_asymmetry"],
            "a_f": np.log(asymmetry["a_f"]),
            "a_c": np.log(asymmetry["a_c"]),
            "c_v": asymmetry["c_v"],
            "equality_offset": offset / fits["w20"],
            "snr": np.log(profiles["snr"]),
        }
    )
    indices.index = pd.Index(profiles["id"], name="id")
    return indices


def sample_features(
    profiles: pd.DataFrame, fits: pd.DataFrame, asymmetry: pd.DataFrame
) -> pd.DataFrame:
    """What decides whether a profile is like those of the training sample.

    Parameters
    ----------
    profiles, fits, asymmetry : pandas.DataFrame
        Tables of the accepted galaxies.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``id``: `baseline_features` and the logarithm of W20 in km/s.
    """
    features = baseline_features(profiles, fits, asymmetry)
    return features.assign(w20=np.log(fits["w20"].to_numpy()))
