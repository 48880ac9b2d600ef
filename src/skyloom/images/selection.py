"""Which cut-outs of radio sources can be used, and why the others cannot."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skyloom.evaluation.splits import same_objects
from skyloom.images.cutouts import label_islands
from skyloom.raw_files.labels import labels_by_id, match_ids

_DARKER = 2.0


def dark_on_white(images: np.ndarray) -> np.ndarray:
    """Find pictures whose sources are darker than their background, as printed ones are.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, height, width)
        As observed, not clipped; not finite where nothing was.

    Returns
    -------
    numpy.ndarray of bool, shape (n,)
        Whether the darkest pixel is more than twice as far from the median as the brightest. In
        images of noise alone both are as far.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((1, 9, 9))
    >>> image[0, 4, 4] = 200
    >>> dark_on_white(np.concatenate([image, 255 - image]))
    array([False,  True])
    """
    finite = np.isfinite(images)
    seen = np.where(finite, images, np.nan)
    seen[~finite.any(axis=(1, 2))] = 0.0  # else there would be a warning
    low, middle, high = np.nanpercentile(seen, [0, 50, 100], axis=(1, 2))
    return middle - low > _DARKER * (high - middle)


def inspect_cut_outs(
    images: np.ndarray,
    noise: np.ndarray,
    observed: np.ndarray | None = None,
    inverted: np.ndarray | None = None,
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
    inverted : numpy.ndarray of bool, shape (n,), optional
        From `dark_on_white`; by default none is.
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
        (
            np.zeros(n, bool) if inverted is None else inverted,
            "dark on white", "background at the maximum",
        ),
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


def mark_duplicates(sample: pd.DataFrame, radius: float) -> None:
    """Give entries of one source its group, and drop all but one that can be used.

    Of a given split the test part stays as it is: a twin in the training part would be a leak.
    Else the one stays that more is known of.

    Parameters
    ----------
    sample : pandas.DataFrame
        ``id``, ``ra``, ``dec`` (deg), ``sha256``, ``role``, ``class``, ``bending_angle``,
        ``reason`` and ``value``; the last two change, ``group`` is added.
    radius : float
        Entries that are closer are one source, arcsec.
    """
    ra, dec, contents = (sample[name].to_numpy() for name in ("ra", "dec", "sha256"))
    group = same_objects(ra, dec, radius, contents)
    sample["group"] = sample["id"].to_numpy()[group]
    rank = pd.DataFrame(
        {
            "unusable": sample["reason"] != "",
            "role": sample["role"].map({"test": 0, "validation": 1}).fillna(2),
            "no class": sample["class"] == "",
            "no angle": sample["bending_angle"].isna(),
        }
    )
    order = rank.sort_values(list(rank), kind="stable").index
    firsts = sample.loc[order].groupby("group")[["id", "class"]].transform("first")
    first = firsts.loc[sample.index]
    twin = (sample["id"] != first["id"]) & (sample["reason"] == "")
    other = twin & (sample["class"] != "") & (sample["class"] != first["class"])
    sample.loc[twin, "reason"] = "duplicate"
    sample.loc[twin, "value"] = "of " + first["id"][twin]
    sample.loc[other, "value"] += ", which has the class " + first["class"][other]


def apply_review(sample: pd.DataFrame, review: pd.DataFrame) -> None:
    """Let a reader's yes or no stand in place of the rules.

    Parameters
    ----------
    sample : pandas.DataFrame
        ``id``, ``keep``, ``reason`` and ``value``; the last three change.
    review : pandas.DataFrame
        ``id`` and ``keep``; may be empty.

    Raises
    ------
    ValueError
        If it names a source that there is not, or says neither yes nor no.
    """
    if review.empty:
        return
    verdict = labels_by_id(review, "id", ["keep"])["keep"].astype(str).str.strip().str.lower()
    id_of = {key: name for name, key in match_ids(sample["id"], verdict.index).items()}
    unknown = [key for key in verdict.index if key not in id_of]
    if unknown:
        msg = f"the review names sources that there are not: {unknown[:5]}"
        raise ValueError(msg)
    verdict.index = verdict.index.map(id_of)
    words = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    wrong = sorted(set(verdict) - set(words))
    if wrong:
        msg = f"keep is yes or no in the review, not {wrong[0]!r}"
        raise ValueError(msg)
    keep = sample["id"].map(verdict.map(words))
    dropped = (keep == False) & sample["keep"]  # noqa: E712  # missing is neither
    sample.loc[dropped, ["reason", "value"]] = ["reviewed", "not kept by the reader"]
    sample.loc[keep == True, ["reason", "value"]] = ["", ""]  # noqa: E712
    sample["keep"] = keep.where(keep.notna(), sample["keep"]).astype(bool)
