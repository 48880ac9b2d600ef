"""Node functions of the features: fits, asymmetries, ring images and their figures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from skyloom.images.rings import (
    IMAGE_MODELS,
    published_image,
    published_quadrant,
    render_rings,
)
from skyloom.pipelines.hi_profiles.parameters import (
    FeatureParameters,
    Sweep,
)
from skyloom.plots import hi_profiles as plots
from skyloom.spectra.hi.asymmetry import asymmetry_table
from skyloom.spectra.hi.lines import fit_profiles, line_geometry, published_cut

_CHUNK = 256


def measure_profiles(
    profiles: pd.DataFrame, profile_flux: np.ndarray, features: FeatureParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fit the busy function and measure the asymmetry of every profile.

    Returns
    -------
    fits : pandas.DataFrame
        From `skyloom.spectra.hi.lines.fit_profiles`.
    asymmetry : pandas.DataFrame
        ``id``, the asymmetry indices with errors and 68 % intervals; missing where not usable.
    """
    rng = np.random.default_rng(features.seed)
    fits, asymmetries = [], []
    for table, measured in fit_profiles(profiles, profile_flux, features.max_reduced_chi_square):
        *observed, baseline, window = measured
        asymmetry = asymmetry_table(
            *observed, rng, baseline, window, n_realisations=features.n_realisations
        )
        asymmetry[~table["usable"]] = np.nan
        asymmetry.insert(0, "id", table["id"].to_numpy())
        fits.append(table)
        asymmetries.append(asymmetry)
    return pd.concat(fits, ignore_index=True), pd.concat(asymmetries, ignore_index=True)


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
    """Dask array (n, 3, size, size, channels) whose blocks of rows are drawn when they are needed.

    ``draw`` returns the images of the rows it is given.
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
    """Number of channels and type of the images."""
    in_colour = parameters.rendering == "published" and not parameters.quadrant
    return (3, np.uint8) if in_colour else (1, np.float32)


def _profile_images(profiles, flux, fits, parameters, rows):
    return images_of(line_geometry(profiles, flux, fits, rows), parameters)


def images_of(line: dict[str, np.ndarray], parameters: FeatureParameters) -> np.ndarray:
    """Images of profiles in the chosen rendering.

    Parameters
    ----------
    line : dict
        From `skyloom.spectra.hi.lines.line_geometry`.
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
