"""Which cut-outs of radio sources can be used, and why the others cannot."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skyloom.images.cutouts import label_islands


def inspect_cut_outs(
    images: np.ndarray,
    noise: np.ndarray,
    observed: np.ndarray | None = None,
    *,
    min_snr: float = 10.0,
    radius: float = 40.0,
    max_neighbour_share: float = 0.5,
    reject_at_edge: bool = True,
) -> pd.DataFrame:
    """Look for what makes a cut-out useless.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, height, width)
        Clipped, without specks: zero outside the sources.
    noise : numpy.ndarray, shape (n,)
        In the unit of the images; 0 where it is not known, and then no image is too faint.
    observed : numpy.ndarray of bool, shape (n, height, width), optional
        Where there are data; the edge of an image is that of these. By default everywhere.
    min_snr : float
        Peak of the source by noise.
    radius : float
        An island of light that comes nowhere closer to the middle than this belongs to another
        source, pixels.
    max_neighbour_share : float
        Largest share of the light that other sources may have.
    reject_at_edge : bool
        Whether a source that touches the edge is useless.

    Returns
    -------
    pandas.DataFrame
        One row an image: ``snr``, ``at_edge`` (whether the source touches the edge of the data),
        ``neighbour_share``, and ``reason`` and ``value`` of the first thing that is wrong, empty
        where nothing is.
    """
    from scipy import ndimage

    n, height, width = images.shape
    islands, n_islands = label_islands(images)
    y, x = np.ogrid[:height, :width]
    distance = np.hypot(y - height // 2, x - width // 2)
    numbers = np.arange(1, n_islands + 1)
    nearest = ndimage.minimum(np.broadcast_to(distance, images.shape), islands, numbers)
    belongs = np.concatenate([[False], np.atleast_1d(nearest) < radius])[islands]
    own = np.where(belongs, images, 0)
    light, total = own.sum(axis=(1, 2)), images.sum(axis=(1, 2))
    peak = own.max(axis=(1, 2))
    edge = np.ones((n, height, width), bool)
    edge[:, 1:-1, 1:-1] = False
    if observed is not None:
        beside = np.ones((1, 3, 3), bool)
        edge |= ndimage.binary_dilation(~observed, beside)
    table = pd.DataFrame(
        {
            "snr": np.divide(peak, noise, out=np.full(n, np.nan), where=noise > 0),
            "at_edge": ((own > 0) & edge).any(axis=(1, 2)),
            "neighbour_share": np.divide(
                total - light, total, out=np.zeros(n), where=total > 0, casting="unsafe"
            ),
        }
    )
    wrong = (
        (total == 0, "no source", "no pixel above the noise"),
        (light == 0, "no source in the middle", f"nothing within {radius:g} pixels"),
        (table["snr"] < min_snr, "too faint", table["snr"].map("S/N {:.1f}".format)),
        (table["at_edge"] & reject_at_edge, "touches the edge", "cut off"),
        (
            table["neighbour_share"] > max_neighbour_share, "several sources",
            table["neighbour_share"].map("{:.0%} of the light in others".format),
        ),
    )  # fmt: skip
    table["reason"], table["value"] = "", ""
    for is_wrong, reason, value in reversed(wrong):
        table.loc[is_wrong, "reason"] = reason
        table.loc[is_wrong, "value"] = value if isinstance(value, str) else value[is_wrong]
    return table
