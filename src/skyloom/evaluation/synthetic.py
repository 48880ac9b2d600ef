"""How good made images and spectra are: like the real, unlike each other, and not copied."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pandas as pd

logger = logging.getLogger(__name__)

_BRIGHT = 0.1  # of the brightest pixel: what of an image is counted as source


def image_statistics(images: np.ndarray) -> pd.DataFrame:
    """What the histograms of `histogram_error` are of.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, height, width) or (n, height, width, 1)
        From 0 to 1.

    Returns
    -------
    pandas.DataFrame
        One row an image: ``flux`` (sum over pixels), ``area`` (pixels above a tenth of the
        brightest) and ``spread`` (distance of the light from the middle, pixels).
    """
    images = images.reshape(len(images), *images.shape[1:3])
    flux, peak = images.sum(axis=(1, 2)), images.max(axis=(1, 2))
    y, x = np.mgrid[: images.shape[1], : images.shape[2]]
    distance = np.hypot(y - images.shape[1] // 2, x - images.shape[2] // 2)
    with np.errstate(invalid="ignore"):
        spread = (images * distance).sum(axis=(1, 2)) / flux
    area = (images > _BRIGHT * peak[:, None, None]).sum(axis=(1, 2))
    return pd.DataFrame({"flux": flux, "area": area, "spread": np.nan_to_num(spread)})


def histogram_error(real: np.ndarray, made: np.ndarray, *, n_bins: int = 20) -> dict[str, float]:
    """Relative mean absolute error of the histograms of made images.

    Parameters
    ----------
    real, made : numpy.ndarray, shape (n, height, width, 1) and (k, height, width, 1)
        From 0 to 1.
    n_bins : int
        Each holds the same share of the real values.

    Returns
    -------
    dict of str to float
        For ``pixel`` (values of the pixels that are not dark), each column of `image_statistics`
        and their ``mean``: the sum of the differences of the shares of the bins, 0 where the
        histograms agree, 2 where they have nothing in common.

    References
    ----------
    Rustige et al. (2023), RASTI 2, 264: checkpoints are chosen by such errors.
    """
    first, other = _values(real), _values(made)
    errors = {}
    for name, ours in first.items():
        theirs = other[name]
        if not len(ours) or not len(theirs):
            errors[name] = 2.0
            continue
        edges = np.unique(np.quantile(ours, np.linspace(0, 1, n_bins + 1)))[1:-1]
        bins = [
            np.bincount(np.searchsorted(edges, v, "right"), minlength=len(edges) + 1) / len(v)
            for v in (ours, theirs)
        ]
        errors[name] = float(np.abs(bins[0] - bins[1]).sum())
    return errors | {"mean": float(np.mean(list(errors.values())))}


def image_histograms(groups: dict[str, np.ndarray], *, n_bins: int = 20) -> pd.DataFrame:
    """Histograms of what `histogram_error` compares, to be looked at.

    Parameters
    ----------
    groups : dict of str to numpy.ndarray, shape (n, height, width, 1)
        Images from 0 to 1; the first group gives the bins, which hold 99 % of its values.
    n_bins : int
        Equally wide; values beyond them are counted in the outermost.

    Returns
    -------
    pandas.DataFrame
        ``images`` (name of the group), ``quantity``, ``low`` and ``high`` (edges of the bin) and
        ``share`` of the values.
    """
    tables, edges = [], {}
    for name, images in groups.items():
        for quantity, values in _values(images).items():
            if quantity not in edges:
                ends = np.percentile(values, [0.5, 99.5]) if len(values) else (0, 1)
                edges[quantity] = np.linspace(*ends, n_bins + 1)
            bins = edges[quantity]
            counts, _ = np.histogram(np.clip(values, bins[0], bins[-1]), bins)
            tables.append(
                pd.DataFrame({"low": bins[:-1], "high": bins[1:]}).assign(
                    images=name, quantity=quantity, share=counts / max(1, len(values))
                )
            )
    return pd.concat(tables, ignore_index=True)[["images", "quantity", "low", "high", "share"]]


def _values(images):
    """Values of the pixels that are not dark, and each column of `image_statistics`."""
    table = image_statistics(images)
    return {"pixel": images[images > _BRIGHT]} | {name: table[name].to_numpy() for name in table}


def spectrum_error(real: np.ndarray, made: np.ndarray) -> float:
    """How far the mean and the scatter of made spectra are from those of real ones.

    Parameters
    ----------
    real, made : numpy.ndarray, shape (n, m) and (k, m)
        Spectra on one grid.

    Returns
    -------
    float
        Root mean square over the pixels of the difference of the means, plus that of the
        difference of the standard deviations, in units of the scatter of the real ones: 0 where
        both agree, 1 or more where the made ones are all alike.
    """
    scatter = real.std(axis=0)
    apart = [real.mean(axis=0) - made.mean(axis=0), scatter - made.std(axis=0)]
    unit = max(float(np.sqrt(np.mean(scatter**2))), 1e-12)
    return float(sum(np.sqrt(np.mean(each**2)) for each in apart) / unit)


def diversity(images: np.ndarray) -> float:
    """Median distance between two of some images.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, ...)
        Images or features.

    Returns
    -------
    float
        0 where all are the same; NaN of fewer than two.
    """
    from scipy.spatial.distance import pdist

    if len(images) < 2:
        return float("nan")
    return float(np.median(pdist(images.reshape(len(images), -1))))


def kernel_distance(real: np.ndarray, made: np.ndarray) -> float:
    """Squared maximum mean discrepancy of two samples in the space of a classifier's features.

    Parameters
    ----------
    real, made : numpy.ndarray, shape (n, k) and (m, k)
        Features; two or more of each.

    Returns
    -------
    float
        Unbiased: about 0, also below, where both are drawn from one distribution; at most 2.

    References
    ----------
    Gretton et al. (2012), JMLR 13, 723, with a Gaussian kernel as wide as the median distance of
    the real ones.
    """
    from scipy.spatial.distance import pdist
    from sklearn.metrics.pairwise import rbf_kernel

    gamma = 1 / max(2 * float(np.median(pdist(real))) ** 2, 1e-12)
    own, theirs, between = (
        rbf_kernel(*pair, gamma=gamma) for pair in ((real, real), (made, made), (real, made))
    )
    n, m = len(real), len(made)
    return float(
        (own.sum() - n) / (n * (n - 1)) + (theirs.sum() - m) / (m * (m - 1)) - 2 * between.mean()
    )


def share_of_copies(made: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> float:
    """Share of made images that lie nearer to a training image than real ones ever do.

    Parameters
    ----------
    made, train, held_out : numpy.ndarray, shape (n, k)
        Features of made images, of those that the generator was trained on, and of real ones that
        it was not.

    Returns
    -------
    float
        Share whose nearest training image is nearer than that of 95 % of the held-out images;
        about 0.05 where nothing is memorised, 1 where everything is.
    """
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=1).fit(train)
    (near, _), (usual, _) = search.kneighbors(made), search.kneighbors(held_out)
    return float((near < np.quantile(usual, 0.05)).mean())


def rows_with_shares(
    classes: np.ndarray, shares: pd.Series, rng: np.random.Generator
) -> np.ndarray:
    """As many rows as there are with given shares of the classes, each at most once.

    A class of which there are none is left out.

    Parameters
    ----------
    classes : numpy.ndarray of int, shape (n,)
        Classes.
    shares : pandas.Series
        Wanted, by class.
    rng : numpy.random.Generator
        Chooses them.

    Returns
    -------
    numpy.ndarray of int
    """
    members = {label: rng.permutation(np.flatnonzero(classes == label)) for label in shares.index}
    members = {label: rows for label, rows in members.items() if len(rows)}
    if not members:
        return np.zeros(0, int)
    total = min(len(rows) / shares[label] for label, rows in members.items())
    return np.concatenate([rows[: round(total * shares[k])] for k, rows in members.items()])


def judge_images(
    train: tuple[np.ndarray, np.ndarray],
    groups: dict[str, tuple[np.ndarray, np.ndarray]],
    seen: Callable[[np.ndarray], np.ndarray],
    orientations: Callable[[np.ndarray], list[np.ndarray]],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare groups of images with those of a training part, in a space of features.

    Parameters
    ----------
    train : tuple of (images, classes)
        Images (n, height, width, 1) from 0 to 1.
    groups : dict of str to (images, classes)
        Likewise; held-out observed ones come first, with which the others are to be compared.
    seen : callable
        Images to features, shape (n, k).
    orientations : callable
        Images to the same turned and mirrored; nearest neighbours are looked for in all of them.

    Returns
    -------
    quality : pandas.DataFrame
        ``images`` (name of the group), ``n_images``, errors of the histograms,
        ``kernel_distance``, ``diversity`` in units of that of the training images, and
        ``share_of_copies``. All groups are drawn with the shares of the classes in the training
        part.
    histograms : pandas.DataFrame
        From `image_histograms`, the training images first; empty without any.
    """
    pictures, classes = train
    shares = pd.Series(classes).value_counts(normalize=True)
    rng = np.random.default_rng(0)
    ours, usual = seen(pictures), seen(next(iter(groups.values()))[0])
    around = np.concatenate([seen(turned) for turned in orientations(pictures)])
    drawn = {
        name: images[rows_with_shares(labels, shares, rng)]
        for name, (images, labels) in groups.items()
    }
    rows = []
    for name, images in drawn.items():
        if min(len(images), len(pictures)) < 2:
            logger.warning("of %s there are too few images to judge them", name)
            continue
        theirs = seen(images)
        errors = histogram_error(pictures, images)
        rows.append(
            {
                "images": name,
                "n_images": len(images),
                **{f"{key}_error": value for key, value in errors.items()},
                "kernel_distance": kernel_distance(ours, theirs),
                "diversity": diversity(theirs) / diversity(ours),
                "share_of_copies": share_of_copies(theirs, around, usual),
            }
        )
    histograms = image_histograms({"training": pictures} | drawn) if len(pictures) else ()
    return pd.DataFrame(rows), pd.DataFrame(histograms)


def judge_spectra(
    train: np.ndarray,
    groups: dict[str, np.ndarray],
    seen: Callable[[np.ndarray], np.ndarray],
    widths_of: Callable[[np.ndarray], pd.DataFrame],
) -> pd.DataFrame:
    """Compare groups of spectra with those of a training part, and in a space of features.

    Parameters
    ----------
    train : numpy.ndarray, shape (n, m)
        Spectra on one grid.
    groups : dict of str to numpy.ndarray, shape (k, m)
        Likewise; held-out observed ones come first, with which the others are to be compared.
    seen : callable
        Spectra to features, shape (k, l).
    widths_of : callable
        Spectra to equivalent widths, a column a line.

    Returns
    -------
    pandas.DataFrame
        ``spectra`` (name of the group), ``n_spectra``, ``n_held_out``, ``spectrum_error``,
        ``line_error`` (median over the lines of `distribution_distances`), ``kernel_distance``,
        ``diversity`` in units of that of the training spectra, and ``share_of_copies``.
    """
    held = next(iter(groups.values()))
    ours, usual, widths = seen(train), seen(held), widths_of(train)
    rows = []
    for name, made in groups.items():
        theirs = seen(made)
        apart = list(distribution_distances(widths, widths_of(made)).values())
        rows.append(
            {
                "spectra": name,
                "n_spectra": len(made),
                "n_held_out": len(held),
                "spectrum_error": spectrum_error(train, made),
                "line_error": float(np.median(apart)) if apart else np.nan,
                "kernel_distance": kernel_distance(ours, theirs),
                "diversity": diversity(theirs) / diversity(ours),
                "share_of_copies": share_of_copies(theirs, ours, usual),
            }
        )
    return pd.DataFrame(rows)


def compare_lines(groups: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Equivalent widths of some groups of spectra beside those of the first.

    Parameters
    ----------
    groups : dict of str to pandas.DataFrame
        A column a line, NaN where it could not be measured.

    Returns
    -------
    pandas.DataFrame
        ``spectra`` (name of the group), ``line``, ``n_spectra``, ``median``, ``quarter``,
        ``three_quarters`` and ``ks_distance``, see `distribution_distances`.
    """
    observed, rows = next(iter(groups.values())), []
    for name, table in groups.items():
        apart = distribution_distances(observed, table)
        for line in table:
            widths = table[line].dropna()
            if len(widths):
                quartiles = np.percentile(widths, [50, 25, 75])
                rows.append((name, line, len(widths), *quartiles, apart.get(line, np.nan)))
    columns = ["spectra", "line", "n_spectra", "median", "quarter", "three_quarters", "ks_distance"]
    return pd.DataFrame(rows, columns=columns)


def distribution_distances(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, float]:
    """Kolmogorov-Smirnov distance of each column of two tables.

    Parameters
    ----------
    ours, theirs : pandas.DataFrame
        With the same columns.

    Returns
    -------
    dict of str to float
        0 to 1, of the columns in which both have two values or more. There is no p-value: many
        copies of a few objects are no sample of so many.
    """
    from scipy.stats import ks_2samp

    pairs = {name: (ours[name].dropna(), theirs[name].dropna()) for name in ours}
    return {
        name: float(ks_2samp(*pair).statistic)
        for name, pair in pairs.items()
        if min(map(len, pair)) > 1
    }
