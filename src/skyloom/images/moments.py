"""Sizes, shapes and bending angles of sources from the moments of their brightness."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skyloom.images.cutouts import clip_background, remove_specks

_CHUNK = 32  # images measured at a time


def measure_sources(images: np.ndarray, *, pixel_scale: float = 1.8) -> pd.DataFrame:
    """Measure the source in the middle of each image.

    The long axis is that of the second moments about the centroid. A line across it through the
    middle of the image, where the host is, parts the two arms. The bending angle is what the
    directions from the host to the centroids of the arms lack of 180 deg.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, side, side)
        Brightness about a background of zero: clipped, cut to the source, its host in the middle.
    pixel_scale : float
        arcsec.

    Returns
    -------
    pandas.DataFrame
        One row an image: ``peak_flux`` (brightness), ``total`` (sum over pixels), ``major`` and
        ``minor`` (root of the second moments, arcsec), ``position_angle`` of the long axis (deg,
        0 to 180 from columns towards rows), ``length_1`` and ``length_2`` (arcsec, the brighter
        arm first: distance of its centroid from the host), ``flux_ratio`` (fainter by brighter
        arm) and ``bending_angle`` (deg). NaN where nothing is bright; the angle is NaN too where
        all light is on one side.

    Examples
    --------
    >>> import numpy as np
    >>> row, column = np.indices((65, 65)) - 32.0
    >>> def blob(x, y):
    ...     return np.exp(-0.5 * ((column - x) ** 2 + (row - y) ** 2) / 4)
    ...
    >>> # The host and two bright spots; the second arm is bent by 0.5 rad, which are 28.6 deg.
    >>> bent = blob(0, 0) + blob(20, 0) + blob(-20 * np.cos(0.5), 20 * np.sin(0.5))
    >>> measured = measure_sources(bent[None], pixel_scale=1.8)
    >>> measured[["major", "minor", "bending_angle"]].round(1)
       major  minor  bending_angle
    0   28.7    5.5           27.6
    """
    light = np.clip(np.asarray(images, float), 0, None)
    n, *shape = light.shape
    y, x = ((np.arange(side) - side // 2) * pixel_scale for side in shape)
    rows, columns = light.sum(axis=2), light.sum(axis=1)
    total = rows.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_x, mean_y = columns @ x / total, rows @ y / total
        xx = columns @ x**2 / total - mean_x**2
        yy = rows @ y**2 / total - mean_y**2
        xy = np.einsum("nij,i,j->n", light, y, x, optimize=True) / total - mean_x * mean_y
        angle = np.arctan2(2 * xy, xx - yy) / 2
        spread = np.hypot((xx - yy) / 2, xy)
        along = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y[:, None]
        arms = []
        for side in (along > 0, along < 0):
            arm = light * side
            flux = arm.sum(axis=(1, 2))
            place = np.stack([arm.sum(axis=1) @ x, arm.sum(axis=2) @ y]) / flux
            arms.append((flux, *place))
        (flux, *first), (other_flux, *second) = arms
        lengths = np.stack([np.hypot(*first), np.hypot(*second)])
        cosine = (first[0] * second[0] + first[1] * second[1]) / lengths.prod(axis=0)
        ratio = np.minimum(flux, other_flux) / np.maximum(flux, other_flux)
    brighter = (other_flux > flux).astype(int)
    each = np.arange(n)
    table = pd.DataFrame(
        {
            "peak_flux": light.max(axis=(1, 2)),
            "total": total,
            "major": np.sqrt(np.maximum((xx + yy) / 2 + spread, 0)),
            "minor": np.sqrt(np.maximum((xx + yy) / 2 - spread, 0)),
            "position_angle": np.degrees(angle) % 180,
            "length_1": lengths[brighter, each],
            "length_2": lengths[1 - brighter, each],
            "flux_ratio": ratio,
            "bending_angle": 180 - np.degrees(np.arccos(np.clip(cosine, -1, 1))),
        }
    )
    table.loc[total == 0, :] = np.nan
    return table


def measure_images(images: np.ndarray, *, pixel_scale: float = 1.8) -> pd.DataFrame:
    """Sizes, signal-to-noise ratios and ratios of the arms of sources as observed.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, size, size)
        As observed, the source in the middle.
    pixel_scale : float
        arcsec.

    Returns
    -------
    pandas.DataFrame
        That of `measure_sources` with ``snr`` and ``length_ratio``; NaN
        where an image has no noise, or no source.
    """
    parts = []
    for first in range(0, max(1, len(images)), _CHUNK):  # what stays in a processor's cache
        clipped, noise = clip_background(images[first : first + _CHUNK])
        table = measure_sources(remove_specks(clipped), pixel_scale=pixel_scale)
        parts.append(table.assign(noise=noise))
    table = pd.concat(parts, ignore_index=True)
    noise = table.pop("noise")
    return table.assign(
        snr=table["peak_flux"] / np.where(noise > 0, noise, np.nan),
        length_ratio=table["length_1"] / table["length_2"],
    )


def moment_features(measurements: pd.DataFrame) -> pd.DataFrame:
    """Image moments as the classical classifiers take them.

    Parameters
    ----------
    measurements : pandas.DataFrame
        ``id``, the columns of `measure_images`, and ``concentration``: peak by total brightness.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``id``; lengths and ratios as logarithms, NaN where nothing was measured.
    """
    table = measurements.set_index("id")
    with np.errstate(divide="ignore", invalid="ignore"):
        features = pd.DataFrame(
            {name: np.log(table[name]) for name in ("major", "minor", "concentration")}
            | {
                "elongation": np.log(table["major"] / table["minor"]),
                "reach": np.log(table["length_1"] / table["major"]),
                "length_ratio": np.log(table["length_ratio"]),
                "flux_ratio": table["flux_ratio"],
                "bending_angle": table["bending_angle"],
            }
        )
    return features.replace([np.inf, -np.inf], np.nan)
