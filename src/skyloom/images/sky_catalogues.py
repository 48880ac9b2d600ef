"""How the catalogue of a field fits its image: offset, depth, and the rate of chance matches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from skyloom.images.stars import NormalisedImage, inner_places, match_detections, pixels_of

_SHIFTS = ((23.0, 7.0), (-19.0, 13.0), (11.0, -29.0), (-9.0, -21.0))  # pixels: no star is itself
_OUTLINE = 50  # stars that tell where a catalogue ends
_FEWEST = 5  # matches that an offset is measured from
_STEP = 0.5  # mag


class Offset(NamedTuple):
    """By how much the catalogue lies off the image.

    Attributes
    ----------
    dx, dy : float
        From the catalogue to the image, pixels; NaN where too few stars tell it.
    error : float
        Of each, pixels.
    n_stars : int
        That tell it.
    """

    dx: float
    dy: float
    error: float
    n_stars: int


def measure_offset(
    detections: pd.DataFrame, stars: pd.DataFrame, *, reach: float = 10.0, radius: float = 2.0
) -> Offset:
    """Find by how much a catalogue lies off the image.

    Parameters
    ----------
    detections : pandas.DataFrame
        ``x``, ``y`` and ``score``; the brightest first.
    stars : pandas.DataFrame
        ``x`` and ``y`` by the WCS; the brightest first.
    reach : float
        Largest offset that is looked for in x and in y, pixels.
    radius : float
        Within which pairs agree, pixels.

    Returns
    -------
    Offset

    Notes
    -----
    All pairs within reach are counted by their difference. The true ones pile up at one place. The
    median of these is taken, twice, and its error is 1.25 times that of a mean.
    """
    from scipy.spatial import KDTree

    nothing = Offset(np.nan, np.nan, np.nan, 0)
    if len(detections) < _FEWEST or len(stars) < _FEWEST:
        return nothing
    # As many of each as there can be pairs of.
    number = 2 * min(len(detections), len(stars), 2000)
    found = detections[["x", "y"]].to_numpy()[:number]
    known = stars[["x", "y"]].to_numpy()[:number]
    pairs = KDTree(known).query_ball_tree(KDTree(found), reach * np.sqrt(2))
    apart = [found[near] - known[k] for k, near in enumerate(pairs) if near]
    if not apart:
        return nothing
    apart = np.concatenate(apart)
    bins = np.arange(-reach - 0.5, reach + 1)
    counts, _, _ = np.histogram2d(*apart.T, bins=[bins, bins])
    row, column = np.unravel_index(counts.argmax(), counts.shape)
    middle = np.array([bins[row] + 0.5, bins[column] + 0.5])
    for _ in range(2):
        near = apart[np.hypot(*(apart - middle).T) <= radius]
        if len(near) < _FEWEST:
            return nothing
        middle = np.median(near, axis=0)
    scatter = 1.4826 * np.median(np.abs(near - middle), axis=0)
    error = 1.25 * float(np.hypot(*scatter) / np.sqrt(2 * len(near)))
    return Offset(float(middle[0]), float(middle[1]), error, len(near))


def match_rates(
    detections: pd.DataFrame,
    stars: pd.DataFrame,
    shape: tuple[int, int],
    *,
    radius: float = 2.0,
) -> pd.DataFrame:
    """Which part of a catalogue is in the image, by magnitude, and which would be by chance.

    Parameters
    ----------
    detections : pandas.DataFrame
        ``x``, ``y`` and ``score``.
    stars : pandas.DataFrame
        ``x``, ``y`` (the offset applied) and ``magnitude``.
    shape : tuple of int
        Of the image.
    radius : float
        Pixels.

    Returns
    -------
    pandas.DataFrame
        ``magnitude`` (middle of a bin), ``n_stars``, ``rate`` and ``chance``: the rate where the
        catalogue is shifted, mean of four shifts.
    """

    def rate(shifted):
        inside = inner_places(shifted, shape, 0)
        star, _ = match_detections(detections, shifted[inside], radius)
        matched = np.zeros(inside.sum(), bool)
        matched[star[star >= 0]] = True
        magnitude = shifted.loc[inside, "magnitude"]
        if magnitude.isna().all():  # then they are all in one bin
            magnitude = magnitude.fillna(0.0)
        bins = np.floor(magnitude / _STEP)
        return pd.Series(matched, index=bins.index).groupby(bins).agg(["size", "mean"])

    true = rate(stars)
    by_chance = [rate(stars.assign(x=stars["x"] + dx, y=stars["y"] + dy)) for dx, dy in _SHIFTS]
    chance = pd.concat([each["mean"] for each in by_chance], axis=1).mean(axis=1)
    return pd.DataFrame(
        {
            "magnitude": (true.index + 0.5) * _STEP,
            "n_stars": true["size"].to_numpy(),
            "rate": true["mean"].to_numpy(),
            "chance": chance.reindex(true.index).fillna(0.0).to_numpy(),
        }
    )


def belongs(rates: pd.DataFrame, *, min_excess: float, max_chance: float) -> bool:
    """Tell whether a catalogue belongs to an image, by its bright end, however deep it is.

    Parameters
    ----------
    rates : pandas.DataFrame
        From `match_rates`.
    min_excess : float
        Rate of matches, less that by chance.
    max_chance : float
        Probability of as many matches by chance.

    Returns
    -------
    bool
        Whether both hold of the stars down to some magnitude. The probability is that of all the
        magnitudes that are tried: one chance match of one bright star tells nothing.
    """
    number = rates["n_stars"].to_numpy()
    total = number.cumsum()
    rate, chance = (
        (rates[name].to_numpy() * number).cumsum() / total for name in ("rate", "chance")
    )
    excess, _, by_chance = _beyond_chance(rate, chance, total)
    return bool(((excess >= min_excess) & (len(rates) * by_chance <= max_chance)).any())


def _beyond_chance(rate, chance, total):
    """Rate of matches less that by chance; that; the probability of as many by chance."""
    from scipy.stats import binom

    # Of a sparse field, four shifts may not meet one star.
    chance = np.maximum(chance, 1 / (4 * total + 4))
    return rate - chance, chance, binom.sf(np.round(rate * total) - 1, total, chance)


def matching_depth(rates: pd.DataFrame, *, least: float = 0.5) -> float:
    """Magnitude to which a catalogue and an image show the same stars.

    Parameters
    ----------
    rates : pandas.DataFrame
        From `match_rates`.
    least : float
        Rate of a bin, less that by chance, as a part of what it can be.

    Returns
    -------
    float
        Faint end of the last bin from the bright end on of which that holds, where bins of fewer
        than 5 stars are passed over; NaN where it holds of none.
    """
    depth = np.nan
    counted = rates[rates["n_stars"] >= _FEWEST]
    better = (counted["rate"] - counted["chance"]) / (1 - counted["chance"]).clip(lower=0.05)
    for magnitude, value in zip(counted["magnitude"], better, strict=True):
        if value < least:
            break
        depth = magnitude + _STEP / 2
    return float(depth)


def noise_correlation(normalised: NormalisedImage) -> float:
    """Correlation of the noise of neighbouring pixels.

    Parameters
    ----------
    normalised : NormalisedImage
        Of the field.

    Returns
    -------
    float
        Of pixels beside and above each other, without stars; NaN where there are too few.
    """
    image = np.where(normalised.observed, normalised.image, np.nan)
    sky = np.where(np.abs(image) < 2.5, image, np.nan)
    values = []
    for one, other in ((sky[:, 1:], sky[:, :-1]), (sky[1:], sky[:-1])):
        both = np.isfinite(one) & np.isfinite(other)
        if both.sum() > 100 and np.std(one[both]) > 0:
            values.append(np.corrcoef(one[both], other[both])[0, 1])
    return float(np.mean(values)) if values else np.nan


def catalogue_cover(
    stars: pd.DataFrame, shape: tuple[int, int], *, least: float = 0.8
) -> np.ndarray:
    """Where an image has a catalogue at all.

    Parameters
    ----------
    stars : pandas.DataFrame
        ``x`` and ``y`` of the stars of the catalogue that are in the image.
    shape : tuple of int
        Of the image.
    least : float
        A catalogue that goes over this part of the image goes over all of it.

    Returns
    -------
    numpy.ndarray of bool, shape (height, width)
        The convex hull of the stars, wider by half their usual distance, where that is the smaller
        part: catalogues are asked for in circles and boxes. Everywhere where fewer than 50 stars
        tell it.
    """
    from scipy import ndimage
    from scipy.spatial import ConvexHull, QhullError

    everywhere = np.ones(shape, bool)
    if len(stars) < _OUTLINE:
        return everywhere
    places = stars[["x", "y"]].to_numpy(float)
    try:
        hull = ConvexHull(places)
    except QhullError:  # all in a line
        return everywhere
    x, y = np.arange(shape[1])[None, :], np.arange(shape[0])[:, None]
    inside = everywhere.copy()
    for to_x, to_y, offset in hull.equations:  # of its sides; outside is positive
        inside &= to_x * x + to_y * y + offset <= 0
    spacing = np.sqrt(hull.volume / len(stars))  # the volume of a hull in a plane is its area
    covered = ndimage.distance_transform_edt(~inside) <= 0.5 * spacing
    return covered if covered.mean() < least else everywhere


class MatchedCatalogue(NamedTuple):
    """A catalogue laid on an image.

    Attributes
    ----------
    stars : pandas.DataFrame
        ``x``, ``y`` (pixels; the offset applied), ``snr`` that the star should have, ``magnitude``,
        ``ra``, ``dec``; and what is in the image and not in the catalogue where that is shallower,
        with the S/N of a doubtful star and no magnitude.
    offset : Offset
    rates : pandas.DataFrame
        From `match_rates`.
    excess : float
        Rate of matches of the stars that must be seen, less that by chance; NaN without any.
    chance_rate : float
        That by chance, of a shifted catalogue.
    by_chance : float
        Probability of as many matches by chance.
    zero_point : float
        Magnitude of a star of S/N 1; NaN where magnitudes do not tell it.
    scatter : float
        Of the magnitudes about those that the image tells; infinite where it tells none.
    depth : float
        From `matching_depth`.
    """

    stars: pd.DataFrame
    offset: Offset
    rates: pd.DataFrame
    excess: float
    chance_rate: float
    by_chance: float
    zero_point: float
    scatter: float
    depth: float


def lay_catalogue(
    normalised: NormalisedImage,
    snr: np.ndarray,
    detections: pd.DataFrame,
    stars: pd.DataFrame,
    *,
    reach: float,
    radius: float,
    limit: float,
    doubtful: float,
) -> MatchedCatalogue:
    """Lay a catalogue on its image, and say which of its stars must be seen.

    Parameters
    ----------
    normalised : NormalisedImage
        Of the field.
    snr : numpy.ndarray, shape (height, width)
        From `skyloom.images.stars.matched_filter`.
    detections : pandas.DataFrame
        Of a classical finder, with ``snr`` of the filter.
    stars : pandas.DataFrame
        ``x``, ``y`` by the WCS, ``magnitude``, ``ra``, ``dec``.
    reach, radius : float
        As in `measure_offset`.
    limit, doubtful : float
        S/N of stars that must be seen, and of those that may be.

    Returns
    -------
    MatchedCatalogue

    Notes
    -----
    The S/N of a star follows from its magnitude and the zero point, which is the median over the
    matched stars, so that a star in another's glare keeps its own. Where magnitudes are of another
    colour, and scatter by more than 0.7 mag, it is what the filter says at its place; then stars
    beyond the depth of the image are doubtful, since a nebula is bright at any place.
    """
    stars = stars.sort_values("magnitude", kind="stable", ignore_index=True)
    inside = inner_places(stars, snr.shape, -0.5)
    offset = measure_offset(detections, stars[inside], reach=reach, radius=radius)
    moved = np.nan_to_num([offset.dx, offset.dy])
    stars = stars.assign(x=stars["x"] + moved[0], y=stars["y"] + moved[1])
    stars = stars[inner_places(stars, snr.shape, -0.5)].reset_index(drop=True)
    stars = stars[normalised.observed[pixels_of(stars, snr.shape)]].reset_index(drop=True)
    # The brightest pixel near the place, since a position has an error.
    around = _highest_near(snr)[pixels_of(stars, snr.shape)]
    matched, _ = match_detections(detections, stars, radius)
    is_matched = np.zeros(len(stars), bool)
    is_matched[matched[matched >= 0]] = True
    zero_point, scatter = _zero_point(stars["magnitude"].to_numpy(), around, is_matched)
    predicted = 10 ** (-0.4 * (stars["magnitude"].to_numpy() - zero_point))
    usable = np.isfinite(predicted) & (scatter < 0.7)
    stars["snr"] = np.where(usable, predicted, np.maximum(around, 0))
    rates = match_rates(detections, stars, snr.shape, radius=radius)
    depth = matching_depth(rates) if len(rates) else np.nan
    if not usable.any() and np.isfinite(depth):
        beyond = stars["magnitude"] > depth
        between = (limit + doubtful) / 2
        stars["snr"] = stars["snr"].mask(beyond, stars["snr"].clip(upper=between))
    belonging = _excess(rates, stars, limit, depth)
    # What a catalogue that ends before the image does cannot tell is neither star nor none.
    faintest = stars["magnitude"].quantile(0.95) if len(stars) else np.nan
    end = 10 ** (-0.4 * (faintest - zero_point)) if usable.any() else np.nan
    if np.isnan(end) and is_matched.any():
        end = float(np.min(around[is_matched]))
    unknown = (matched < 0) & (end > limit) & (detections["snr"] < 2 * end).to_numpy()
    extra = detections[unknown][["x", "y"]].assign(
        snr=(limit + doubtful) / 2, magnitude=np.nan, ra=np.nan, dec=np.nan
    )
    stars = pd.concat([part for part in (stars, extra) if len(part)] or [stars], ignore_index=True)
    return MatchedCatalogue(stars, offset, rates, *belonging, zero_point, scatter, depth)


def _highest_near(snr):
    from scipy import ndimage

    return ndimage.maximum_filter(snr, size=3)


def median_and_scatter(values: np.ndarray) -> tuple[float, float]:
    """Middle of values and their spread, whatever a few of them are.

    Parameters
    ----------
    values : numpy.ndarray, shape (n,)
        At least one.

    Returns
    -------
    median, scatter : float
        The latter is the median distance from the former, and that of a Gaussian its sigma.
    """
    median = np.median(values)
    return float(median), float(1.4826 * np.median(np.abs(values - median)))


def _zero_point(magnitude, snr, matched):
    """Magnitude of a star of S/N 1, and the scatter of the stars about it."""
    known = matched & np.isfinite(magnitude) & (snr > 8)
    # Bright stars are saturated, faint ones found where noise helps them.
    chosen = known & (snr < 100)
    if chosen.sum() < _FEWEST:
        chosen = known
    if chosen.sum() < 3:
        return np.nan, np.inf
    apart = magnitude[chosen] + 2.5 * np.log10(snr[chosen])
    return median_and_scatter(apart)


def _excess(rates, stars, limit, depth):
    """Rate of matches of stars that must be seen, less that by chance; that; its probability."""
    seen = stars.loc[stars["snr"] > 2 * limit, "magnitude"]
    seen = seen.fillna(0.0) if stars["magnitude"].isna().all() else seen.dropna()
    if not len(seen):
        return np.nan, np.nan, np.nan
    # The brighter half, or what is bright enough for the image where that is less.
    end = np.nanmin([seen.median() + _STEP / 2, depth])
    counted = rates[rates["magnitude"] <= end]
    if not len(counted):
        return np.nan, np.nan, np.nan
    n_stars = counted["n_stars"]
    rate, chance = (np.average(counted[name], weights=n_stars) for name in ("rate", "chance"))
    return tuple(map(float, _beyond_chance(rate, chance, int(n_stars.sum()))))
