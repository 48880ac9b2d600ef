"""Ring images of line profiles: a profile, or its folded difference, rotated about a centre.

Three image models exist. Model 1 is the whole profile along the radius. Model 2 is the right half
minus the mirrored left half, so that a symmetric profile gives an empty image. Model 3 is model 2
stretched to its own range. Each can be painted as published (`paint_rings`), holes and all, or
drawn from interpolated radii (`render_rings`).
"""

from __future__ import annotations

import functools

import numpy as np

IMAGE_MODELS = (1, 2, 3)


@functools.lru_cache(maxsize=256)
def painted_radius(length: int) -> np.ndarray:
    """Radius that the published painter leaves in each pixel.

    The painter walks the radii outwards. At each radius it visits ``2 * length`` angles, rounds
    to the nearest pixel and overwrites it; outer pixels between two angles stay empty.

    Parameters
    ----------
    length : int
        Number of channels painted, L.

    Returns
    -------
    numpy.ndarray of int32, shape (2L, 2L)
        Channel painted last, or -1 for a hole. Read-only.
    """
    radius = np.arange(length)
    angle = np.linspace(0, 2 * np.pi, 2 * length)
    column = np.rint(length + radius[:, None] * np.cos(angle)).astype(np.intp)
    row = np.rint(length + radius[:, None] * np.sin(angle)).astype(np.intp)
    image = np.full((2 * length, 2 * length), -1, dtype=np.int32)
    # Of repeated indices NumPy keeps the last, as the painter does.
    image[row.ravel(), column.ravel()] = np.repeat(radius, 2 * length)
    image.flags.writeable = False
    return image


def published_halves(flux: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalise a profile to 0..1 and fold it about the middle of the array.

    Parameters
    ----------
    flux : numpy.ndarray, shape (m,)
        Flux densities, all finite.

    Returns
    -------
    right, left, combined : numpy.ndarray, shape (m // 2,)
        Right half, negative mirrored left half, and their sum. With an odd number of channels
        the last one of the right half has no partner and is left out.
    """
    span = np.ptp(flux)
    normalised = (flux - flux.min()) / (span if span > 0 else 1.0)
    centre = len(flux) // 2
    right, left = normalised[centre : 2 * centre], -normalised[centre - 1 :: -1]
    return right, left, right + left


def paint_rings(flux: np.ndarray, model: int) -> np.ndarray:
    """Paint one profile exactly as published, scaled to the range of the colour map.

    Parameters
    ----------
    flux : numpy.ndarray, shape (m,)
        Flux densities, all finite.
    model : {1, 2, 3}
        Image model.

    Returns
    -------
    numpy.ndarray of float32, shape (2L, 2L)
        Values 0 to 1 of the colour map; L is m for model 1 and m // 4 for models 2 and 3 (the
        first quarter of the profile's length). Holes hold the value of zero flux.

    References
    ----------
    arXiv:2501.11657.

    Examples
    --------
    >>> import numpy as np
    >>> profile = np.exp(-0.5 * ((np.arange(64) - 32) / 8) ** 2)
    >>> image = paint_rings(profile, model=1)
    >>> image.shape, float(image.min()), float(image.max())
    ((128, 128), 0.0, 1.0)
    """
    if model == 1:
        span = np.ptp(flux)
        radial, low, high = (flux - flux.min()) / (span if span > 0 else 1.0), 0.0, 1.0
    else:
        radial = published_halves(flux)[2][: max(1, len(flux) // 4)]
        # The painted image contains zeros in its holes, which belong to its own range.
        low, high = (-1.0, 1.0) if model == 2 else (min(radial.min(), 0.0), max(radial.max(), 0.0))
    values = np.append(radial, 0.0).astype(np.float32)  # index -1 is the hole
    image = values[painted_radius(len(radial))]
    span = np.float32(high - low if high > low else 1.0)
    return np.clip((image - np.float32(low)) / span, 0.0, 1.0)


def published_image(flux: np.ndarray, model: int, size: int | None = None) -> np.ndarray:
    """The published picture: painted rings in the RdBu colour map.

    Parameters
    ----------
    flux : numpy.ndarray, shape (m,)
        Flux densities, all finite.
    model : {1, 2, 3}
        Image model.
    size : int, optional
        Pixels on a side after bilinear resizing; the painter's own size by default.

    Returns
    -------
    numpy.ndarray of uint8, shape (size, size, 3)
    """
    from matplotlib import colormaps
    from PIL import Image

    coloured = colormaps["RdBu"](paint_rings(flux, model), bytes=True)[..., :3]
    if size is None:
        return coloured
    picture = Image.fromarray(coloured).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def published_quadrant(flux: np.ndarray, model: int, size: int) -> np.ndarray:
    """Lower right quadrant of the published picture, without its colours.

    The painter is symmetric but for the rounding of its angles, and the colours are a function of
    one number: the quadrant holds what the whole picture does in a twelfth of the values.

    Parameters
    ----------
    flux : numpy.ndarray, shape (m,)
        Flux densities, all finite.
    model : {1, 2, 3}
        Image model.
    size : int
        Pixels on a side of the quadrant, after bilinear resizing.

    Returns
    -------
    numpy.ndarray of float32, shape (size, size)
        0 to 1.
    """
    from PIL import Image

    whole = paint_rings(flux, model)
    half = whole.shape[0] // 2
    picture = Image.fromarray(whole[half:, half:])
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))


_SAMPLES_PER_PIXEL = 4


@functools.lru_cache(maxsize=16)
def _radii(size: int, quadrant: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sampled radii, 1 at the image's edge, and the index of each pixel's own in them.

    The radii are spaced by a quarter of a pixel, over the whole of which fluxes are averaged
    anyway; the last index stands for the corners, beyond the edge.
    """
    half = size if quadrant else size / 2
    axis = np.arange(size) + 0.5 - (0 if quadrant else size / 2)
    distance = np.hypot(axis[:, None], axis[None, :])
    count = int(_SAMPLES_PER_PIXEL * half)
    index = np.minimum(np.floor(_SAMPLES_PER_PIXEL * distance), count).astype(np.int32)
    return (np.arange(count) + 0.5) / count, index


def sample_radii(
    flux: np.ndarray,
    velocity_start: np.ndarray,
    channel_width: np.ndarray,
    centre: np.ndarray,
    extent: np.ndarray,
    radii: np.ndarray,
    smoothing: float,
) -> np.ndarray:
    """Image models 1 and 2 along the radius.

    Parameters
    ----------
    flux : numpy.ndarray, shape (n, m)
        Flux densities, all finite, in units of each profile's peak.
    velocity_start, channel_width, centre, extent : numpy.ndarray, shape (n,)
        First channel, spacing, fold velocity and velocity of the image's edge from it, km/s.
    radii : numpy.ndarray, shape (k,)
        Radii in units of the image's half-width.
    smoothing : float
        Width of a pixel in the same units: fluxes are averaged over it, so that narrow pixels do
        not alias and wide ones do not skip channels.

    Returns
    -------
    numpy.ndarray of float32, shape (n, 2, k)
        Model 1: the profile from ``centre - extent`` (centre of the image) to ``centre + extent``
        (edge). Model 2: flux at ``centre + r * extent`` minus flux at ``centre - r * extent``.
    """
    n, m = flux.shape
    cumulative = np.zeros((n, m + 1), dtype=np.float64)
    np.cumsum(flux, axis=1, out=cumulative[:, 1:])
    rows = np.arange(n)[:, None]
    step = channel_width[:, None]

    def mean_around(velocity, half_width):
        """Mean flux within ``half_width`` of each velocity."""
        half_width = np.maximum(half_width, 0.5 * step)
        position = (velocity - velocity_start[:, None]) / step + 0.5
        reach = half_width / step
        below, above = np.clip(position - reach, 0, m), np.clip(position + reach, 0, m)
        below_i, above_i = (np.minimum(p.astype(np.int32), m - 1) for p in (below, above))
        total = cumulative[rows, above_i] + (above - above_i) * flux[rows, above_i]
        total -= cumulative[rows, below_i] + (below - below_i) * flux[rows, below_i]
        return total / (2 * reach)

    offset = radii[None] * extent[:, None]
    half = 0.5 * smoothing * extent[:, None]
    out = np.empty((n, 2, len(radii)), dtype=np.float32)
    whole = centre[:, None] + (2 * radii[None] - 1) * extent[:, None]
    out[:, 0] = mean_around(whole, 2 * half)
    out[:, 1] = mean_around(centre[:, None] + offset, half)
    out[:, 1] -= mean_around(centre[:, None] - offset, half)
    return out


def render_rings(
    flux: np.ndarray,
    velocity_start: np.ndarray,
    channel_width: np.ndarray,
    centre: np.ndarray,
    extent: np.ndarray,
    *,
    size: int,
    quadrant: bool = False,
) -> np.ndarray:
    """Draw the three image models of many profiles, without holes.

    Each pixel takes the value at its own radius, interpolated in the profile. The fold is about
    the given velocity, and the image's edge at the given velocity from it, so that all lines fill
    their images alike.

    Parameters
    ----------
    flux, velocity_start, channel_width, centre, extent
        As in `sample_radii`.
    size : int
        Pixels on a side.
    quadrant : bool
        Draw only the lower right quadrant at this size; the other three are its mirror images.

    Returns
    -------
    numpy.ndarray of float32, shape (n, 3, size, size)
        Image models 1, 2 and 3. Models 1 and 2 are in units of the peak flux; model 3 is
        stretched to -1..1.

    Examples
    --------
    >>> import numpy as np
    >>> velocity = np.arange(-250.0, 251.0, 5.0)
    >>> symmetric = np.exp(-0.5 * (velocity / 60) ** 2)
    >>> width, fold, edge = np.array([5.0]), np.array([0.0]), np.array([150.0])
    >>> images = render_rings(symmetric[None], velocity[:1], width, fold, edge, size=32)
    >>> images.shape
    (1, 3, 32, 32)
    >>> bool(np.abs(images[0, 1]).max() < 1e-6)  # model 2 of a symmetric profile is empty
    True
    """
    radii, index = _radii(size, quadrant)
    smoothing = 1 / size if quadrant else 2 / size
    sampled = sample_radii(flux, velocity_start, channel_width, centre, extent, radii, smoothing)
    fold = sampled[:, 1]
    low, high = fold.min(1, keepdims=True), fold.max(1, keepdims=True)
    radial = np.zeros((len(flux), 3, len(radii) + 1), dtype=np.float32)
    radial[:, :2, :-1] = sampled
    radial[:, 2, :-1] = 2 * (fold - low) / np.maximum(high - low, np.float32(1e-12)) - 1
    # mode="clip" skips the bounds check, which would cost as much as the copy itself
    return np.take(radial, index, axis=2, mode="clip")
