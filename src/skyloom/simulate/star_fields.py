"""Made-up sky images with every star known: electronic detectors and photographic plates.

Density of stars, artefacts and kind of noise are drawn independently of one another, so that no
network can tell the one from the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from astropy.io import fits

DETECTORS = ("electronic", "photographic")
"""Kinds of detector."""

LIMIT = 5.0
"""S/N above which a star counts as one that can be found."""

_FAINTEST = 0.5  # S/N of the faintest stars: below they are a part of the sky
_BRIGHTEST = 3e4  # S/N
_STAMPS = (5, 10, 20, 40, 90)  # half sizes of what is drawn of a star, by how bright it is
_FOG = 0.2  # density at which an unexposed plate has its grain
_FWHM = np.sqrt(8 * np.log(2))


class SkyField(NamedTuple):
    """A made-up image and what is in it.

    Attributes
    ----------
    image : numpy.ndarray of float32, shape (height, width)
        Counts of the detector, or density of the plate in its units of scanning.
    stars : pandas.DataFrame
        ``x``, ``y`` (pixels, the middle of the first one is 0), ``flux`` (electrons), ``snr`` by
        the matched filter against the sky, ``magnitude``, ``saturated``.
    galaxies : pandas.DataFrame
        ``x``, ``y``, ``flux``: what looks like a star and is none.
    saturation : float
        In the unit of the image.
    """

    image: np.ndarray
    stars: pd.DataFrame
    galaxies: pd.DataFrame
    saturation: float


def draw_fields(
    n_fields: int,
    rng: np.random.Generator,
    *,
    photographic_share: float = 0.5,
    artefact_share: float = 0.5,
    density_range: tuple[float, float] = (0.5, 12.0),
    fwhm_range: tuple[float, float] = (1.8, 5.0),
    beta_range: tuple[float, float] = (2.5, 4.5),
    count_slope_range: tuple[float, float] = (0.22, 0.4),
    cluster_share: float = 0.3,
    sky_range: tuple[float, float] = (30.0, 3000.0),
    nebulosity_share: float = 0.25,
    galaxy_density: float = 0.25,
) -> pd.DataFrame:
    """Draw the true parameters of fields.

    Parameters
    ----------
    n_fields : int
        Size of the sample.
    rng : numpy.random.Generator
        Source of randomness.
    photographic_share : float
        Of plates among the fields.
    artefact_share : float
        Of fields with artefacts: ghosts, trails, cosmic rays and hot columns, or scratches and
        dust on plates.
    density_range : tuple of 2 floats
        Stars of S/N above 5 in 1000 pixels, log-uniform.
    fwhm_range : tuple of 2 floats
        Of faint stars, pixels, log-uniform.
    beta_range : tuple of 2 floats
        Exponent of Moffat's profile.
    count_slope_range : tuple of 2 floats
        d log N / d m of the number of stars brighter than m.
    cluster_share : float
        Of fields with a star cluster.
    sky_range : tuple of 2 floats
        Electrons in a pixel, log-uniform.
    nebulosity_share : float
        Of fields with nebulae.
    galaxy_density : float
        Of the galaxies, in the number of the stars that can be found.

    Returns
    -------
    pandas.DataFrame
        One row a field: ``id``, ``detector`` (of `DETECTORS`), and what `observe_field` needs.

    References
    ----------
    Moffat (1969), A&A 3, 455 (profile); Hurter & Driffield (1890) (density of plates).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> fields = draw_fields(2, rng)
    >>> field = observe_field(fields.iloc[0], rng, size=64)
    >>> field.image.shape, bool((field.stars["snr"] > 0).all())
    ((64, 64), True)
    """

    def log_uniform(low, high):
        return np.exp(rng.uniform(np.log(low), np.log(high), n_fields))

    def share(probability):
        return rng.random(n_fields) < probability

    plates, artefacts = share(photographic_share), share(artefact_share)

    def number(mean):
        return np.where(artefacts, rng.poisson(mean, n_fields), 0)

    fwhm = log_uniform(*fwhm_range)
    return pd.DataFrame(
        {
            "id": [f"F{i:05d}" for i in range(1, n_fields + 1)],
            "detector": np.array(DETECTORS)[plates.astype(int)],
            "density": log_uniform(*density_range),
            "count_slope": rng.uniform(*count_slope_range, n_fields),
            "cluster_share": np.where(share(cluster_share), rng.uniform(0.2, 0.7, n_fields), 0.0),
            "cluster_radius": rng.uniform(0.05, 0.2, n_fields),
            "fwhm": fwhm,
            "fwhm_gradient": rng.normal(0, 0.08, n_fields),
            "ellipticity": np.abs(rng.normal(0, 0.06, n_fields)),
            "angle": rng.uniform(0, np.pi, n_fields),
            "beta": rng.uniform(*beta_range, n_fields),
            "halo": 10 ** rng.uniform(-3.5, -1.7, n_fields),
            "halo_radius": rng.uniform(3, 8, n_fields),
            "spikes": np.where(share(0.5), 10 ** rng.uniform(-3, -2, n_fields), 0.0),
            "spike_angle": rng.uniform(0, np.pi / 2, n_fields),
            "sky": log_uniform(*sky_range),
            "gradient": rng.normal(0, 0.1, n_fields),
            "gradient_angle": rng.uniform(0, 2 * np.pi, n_fields),
            "nebulosity": np.where(share(nebulosity_share), rng.uniform(0.1, 1.0, n_fields), 0.0),
            "galaxy_share": rng.uniform(0, 2 * galaxy_density, n_fields),
            "gain": rng.uniform(1, 4, n_fields),
            "read_noise": rng.uniform(2, 12, n_fields),
            "full_well": log_uniform(3e4, 2e5),
            "bleeding": share(0.5),
            "grain": log_uniform(0.015, 0.06),
            "grain_width": rng.uniform(0.5, 0.9, n_fields),
            "plate_exposure": log_uniform(0.1, 0.5),
            "n_ghosts": number(0.7),
            "n_trails": number(0.7),
            "n_cosmic_rays": np.where(plates, 0, number(12)),
            "n_hot_columns": np.where(plates, 0, number(0.7)),
            "n_scratches": np.where(plates, number(1.0), 0),
            "n_dust": np.where(plates, number(10), 0),
        }
    )


def observe_field(
    field: Mapping[str, Any] | pd.Series,
    rng: np.random.Generator,
    *,
    size: int = 256,
    zero_point: float = 25.0,
    star: np.ndarray | None = None,
) -> SkyField:
    """Take an image of a field.

    Parameters
    ----------
    field : mapping
        A row of `draw_fields`.
    rng : numpy.random.Generator
        Source of randomness.
    size : int
        Pixels on a side.
    zero_point : float
        Magnitude of a star of one electron.
    star : numpy.ndarray, shape (side, side), optional
        A measured star in place of Moffat's profile, such as a template of
        `skyloom.images.injection.measure_templates`; the side is odd, the star in the middle, of
        the width that the field tells.

    Returns
    -------
    SkyField
    """
    noise = sky_noise(field)
    if star is None:
        unit = flux_of_unit_snr(field["fwhm"], field["beta"], noise)
    else:
        star = star / star.sum()
        unit = float(noise / np.sqrt((star**2).sum()))
    stars = _draw_stars(field, unit, rng, size)
    galaxies = _draw_galaxies(field, stars, rng, size)
    light = np.full((size, size), float(field["sky"]))
    light *= _gradient(field, size) * _nebulosity(field, rng, size)
    add_stars(light, stars, field, star)
    _add_galaxies(light, galaxies, field)
    _add_ghosts_and_trails(light, stars, field, noise, rng)
    develop = _expose_plate if field["detector"] == "photographic" else _read_out
    image, saturation = develop(light, field, rng)
    x, y = (stars[name].round().astype(int).clip(0, size - 1) for name in "xy")
    stars = stars.assign(
        snr=stars["flux"] / unit,
        magnitude=zero_point - 2.5 * np.log10(stars["flux"]),
        saturated=image[y, x] >= 0.98 * saturation,
    )
    return SkyField(image.astype(np.float32), stars, galaxies, float(saturation))


def sky_noise(field: Mapping[str, Any] | pd.Series) -> float:
    """Noise of the sky, as a filter of a star's width meets it.

    Parameters
    ----------
    field : mapping
        A row of `draw_fields`.

    Returns
    -------
    float
        Electrons in a pixel.

    Notes
    -----
    The grain of a plate is correlated. Smoothed with a Gaussian of width w, noise keeps its power
    at low frequencies and loses it at others, so that a wide filter meets 2 sqrt(pi) w times as
    much of it as of white noise of the same scatter.
    """
    if field["detector"] != "photographic":
        return float(np.sqrt(field["sky"] + field["read_noise"] ** 2))
    exposure = field["plate_exposure"]
    density, slope = exposure / (1 + exposure), 1 / (1 + exposure) ** 2
    grain = field["grain"] * np.sqrt(_FOG + density)
    wide = max(1.0, 2 * np.sqrt(np.pi) * field["grain_width"])
    return float(grain * wide / slope * field["sky"] / exposure)


def flux_of_unit_snr(fwhm: float, beta: float, noise: float) -> float:
    """Flux of a star that the matched filter finds at S/N 1.

    Parameters
    ----------
    fwhm : float
        Pixels.
    beta : float
        Exponent of Moffat's profile.
    noise : float
        Standard deviation of a pixel of the sky.

    Returns
    -------
    float
        In the unit of ``noise``.

    Notes
    -----
    The sum of the squared profile is (beta - 1)^2 / (pi alpha^2 (2 beta - 1)), where alpha is the
    width of the profile.
    """
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    return float(noise * np.sqrt(np.pi * alpha**2 * (2 * beta - 1)) / (beta - 1))


def moffat(
    dx: np.ndarray, dy: np.ndarray, fwhm: Any, beta: float, ellipticity: float = 0.0, angle=0.0
) -> np.ndarray:
    """Moffat's profile of total 1.

    Parameters
    ----------
    dx, dy : numpy.ndarray
        From the middle, pixels.
    fwhm : float or numpy.ndarray
        Of the geometric mean of the axes, pixels.
    beta : float
        Exponent; above 1.
    ellipticity : float
        1 - b / a.
    angle : float
        Of the long axis from x towards y, rad.

    Returns
    -------
    numpy.ndarray

    References
    ----------
    Moffat (1969), A&A 3, 455.
    """
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    along = dx * np.cos(angle) + dy * np.sin(angle)
    across = dy * np.cos(angle) - dx * np.sin(angle)
    axis_ratio = 1 - ellipticity
    radius2 = (along**2 * axis_ratio + across**2 / axis_ratio) / alpha**2
    return (beta - 1) / (np.pi * alpha**2) * (1 + radius2) ** -beta


def add_stars(
    light: np.ndarray,
    stars: pd.DataFrame,
    field: Mapping[str, Any] | pd.Series,
    star: np.ndarray | None = None,
) -> None:
    """Add the light of stars to an image.

    Parameters
    ----------
    light : numpy.ndarray, shape (height, width)
        Changes.
    stars : pandas.DataFrame
        ``x``, ``y``, ``flux``; may lie beyond the edge.
    field : mapping
        What `draw_fields` says of the profile, its halo and its spikes.
    star : numpy.ndarray, shape (side, side), optional
        A measured star of total 1 in place of the profile.
    """
    height, width = light.shape
    x, y, flux = (stars[name].to_numpy(float) for name in ("x", "y", "flux"))
    # Faint stars are drawn as far as they show against the noise of the sky.
    reach = field["fwhm"] * np.clip((flux / sky_noise(field)) ** 0.4, 2.0, None)
    bins = np.minimum(np.searchsorted(_STAMPS, reach), len(_STAMPS) - 1)
    for number, half in enumerate(_STAMPS):
        chosen = np.flatnonzero(bins == number)
        each = max(1, 4_000_000 // (2 * half + 1) ** 2)  # memory stays flat
        for first in range(0, len(chosen), each):
            part = chosen[first : first + each]
            column, row = np.rint(x[part]).astype(int), np.rint(y[part]).astype(int)
            grid = np.arange(-half, half + 1)
            dx = (column - x[part])[:, None, None] + grid[None, None, :]
            dy = (row - y[part])[:, None, None] + grid[None, :, None]
            # The focus changes from one edge to the other.
            place = (x[part] / width - 0.5)[:, None, None]
            fwhm = field["fwhm"] * (1 + field["fwhm_gradient"] * place)
            stamp = _profile(dx, dy, fwhm, field, star, spikes=half >= 20)
            stamp = stamp * flux[part, None, None]
            rows, columns = row[:, None] + grid, column[:, None] + grid
            inside = ((rows >= 0) & (rows < height))[:, :, None]
            inside = inside & ((columns >= 0) & (columns < width))[:, None, :]
            rows = np.broadcast_to(rows[:, :, None], stamp.shape)[inside]
            columns = np.broadcast_to(columns[:, None, :], stamp.shape)[inside]
            np.add.at(light, (rows, columns), stamp[inside])


def _profile(dx, dy, fwhm, field, star, *, spikes):
    shape = field["beta"], field["ellipticity"], field["angle"]
    core = moffat(dx, dy, fwhm, *shape) if star is None else _measured(dx, dy, star)
    if (
        star is None and fwhm.max() < 2.5
    ):  # a narrow star changes within a pixel, so its mean there is drawn
        offsets = np.array([-1, 0, 1]) / 3
        core = sum(moffat(dx + a, dy + b, fwhm, *shape) for a in offsets for b in offsets) / 9
    halo = moffat(dx, dy, fwhm * field["halo_radius"], 1.6)
    total = (1 - field["halo"]) * core + field["halo"] * halo
    if spikes and field["spikes"]:
        for angle in (field["spike_angle"], field["spike_angle"] + np.pi / 2):
            along = np.abs(dx * np.cos(angle) + dy * np.sin(angle))
            across = dy * np.cos(angle) - dx * np.sin(angle)
            width = fwhm / _FWHM
            line = np.exp(-0.5 * (across / width) ** 2) / (width * np.sqrt(2 * np.pi))
            total = total + field["spikes"] * line * np.exp(-along / (8 * fwhm)) / (16 * fwhm)
    return total


def _measured(dx, dy, star):
    """A measured star at places about its middle."""
    from scipy import ndimage

    half = len(star) // 2
    return ndimage.map_coordinates(star, np.broadcast_arrays(dy + half, dx + half), order=1)


def _draw_stars(field, unit, rng, size):
    """Stars of a power law of fluxes, also beyond the edge, since their light reaches in."""
    margin = 12
    side = size + 2 * margin
    slope = 2.5 * field["count_slope"]
    mean = field["density"] * side**2 / 1000 * (LIMIT / _FAINTEST) ** slope
    n = rng.poisson(mean)
    snr = np.minimum(_FAINTEST * rng.random(n) ** (-1 / slope), _BRIGHTEST)
    x, y = rng.uniform(-margin - 0.5, size + margin - 0.5, (2, n))
    in_cluster = rng.random(n) < field["cluster_share"]
    # Plummer's projected density.
    radius = field["cluster_radius"] * size * np.sqrt(1 / (1 - rng.random(n) * 0.98) - 1)
    angle, centre = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.2, 0.8, 2) * size
    x = np.where(in_cluster, centre[0] + radius * np.cos(angle), x)
    y = np.where(in_cluster, centre[1] + radius * np.sin(angle), y)
    stars = pd.DataFrame({"x": x, "y": y, "flux": snr * unit})
    inside = stars["x"].between(-margin, size + margin) & stars["y"].between(-margin, size + margin)
    return stars[inside].sort_values("flux", ascending=False, ignore_index=True)


def _draw_galaxies(field, stars, rng, size):
    """Galaxies of the fluxes of the stars that can be found, but not of the brightest."""
    n = rng.poisson(field["galaxy_share"] * field["density"] * size**2 / 1000)
    faint = stars["flux"].to_numpy()[int(0.02 * len(stars)) :]
    flux = rng.choice(faint, n) * rng.uniform(3, 20, n) if len(faint) else np.zeros(0)
    n = len(flux)
    return pd.DataFrame(
        {
            "x": rng.uniform(0, size, n),
            "y": rng.uniform(0, size, n),
            "flux": flux,
            "radius": field["fwhm"] * np.exp(rng.normal(0.5, 0.5, n)),
            "axis_ratio": rng.uniform(0.2, 1, n),
            "position_angle": rng.uniform(0, np.pi, n),
        }
    )


def _add_galaxies(light, galaxies, field):
    """Exponential discs, widened as stars are."""
    size = len(light)
    for galaxy in galaxies.itertuples():
        half = int(np.clip(6 * galaxy.radius, 5, 60))
        row, column = int(galaxy.y), int(galaxy.x)
        rows = np.arange(max(0, row - half), min(size, row + half + 1))
        columns = np.arange(max(0, column - half), min(size, column + half + 1))
        dx, dy = columns[None, :] - galaxy.x, rows[:, None] - galaxy.y
        angle = galaxy.position_angle
        along = dx * np.cos(angle) + dy * np.sin(angle)
        across = (dy * np.cos(angle) - dx * np.sin(angle)) / galaxy.axis_ratio
        soft = (field["fwhm"] / _FWHM) ** 2  # no galaxy is sharper than a star
        disc = np.exp(-np.sqrt(along**2 + across**2 + soft) / galaxy.radius)
        light[np.ix_(rows, columns)] += galaxy.flux * disc / disc.sum()


def _gradient(field, size):
    y, x = np.mgrid[:size, :size] / size - 0.5
    angle = field["gradient_angle"]
    return 1 + field["gradient"] * (x * np.cos(angle) + y * np.sin(angle))


def _nebulosity(field, rng, size):
    """Smooth structure of all scales, as of clouds; 1 where there is none."""
    if not field["nebulosity"]:
        return 1.0
    from scipy import fft

    frequency = np.hypot(fft.fftfreq(size)[:, None], fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf
    # Nothing of it is as small as a star.
    power = frequency**-1.7 * np.exp(-((frequency * 3 * field["fwhm"]) ** 2))
    cloud = fft.irfft2(power * fft.rfft2(rng.normal(size=(size, size))), (size, size))
    cloud = (cloud - cloud.min()) / np.ptp(cloud)
    return 1 + field["nebulosity"] * cloud**2


def _add_ghosts_and_trails(light, stars, field, noise, rng):
    """Out-of-focus reflections of bright stars, and satellites that cross the field."""
    size = len(light)
    y, x = np.mgrid[:size, :size]
    for k in range(int(field["n_ghosts"])):
        bright = stars.iloc[min(k, len(stars) - 1)] if len(stars) else {"x": 0.0, "y": 0.0}
        # Mirrored about the optical axis.
        middle = size - bright["x"] + rng.normal(0, 0.05 * size)
        height = size - bright["y"] + rng.normal(0, 0.05 * size)
        outer = rng.uniform(0.04, 0.15) * size
        distance = np.hypot(x - middle, y - height)
        ring = (distance < outer) & (distance > rng.uniform(0, 0.6) * outer)
        light += ring * noise * rng.uniform(0.5, 4)
    for _ in range(int(field["n_trails"])):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.4, 0.4) * size
        across = (x - size / 2) * np.cos(angle) + (y - size / 2) * np.sin(angle) - offset
        width = field["fwhm"] / _FWHM * rng.uniform(1, 1.5)
        light += noise * rng.uniform(1, 20) * np.exp(-0.5 * (across / width) ** 2)


def _read_out(light, field, rng):
    """Electrons as counts, with shot and read noise, full wells, particles and bad columns."""
    electrons = rng.poisson(np.maximum(light, 0)).astype(float)
    size, full = len(light), float(field["full_well"])
    if field["bleeding"]:
        _bleed(electrons, full)
    electrons = np.minimum(electrons, full)
    electrons += rng.normal(0, field["read_noise"], light.shape)
    for _ in range(int(field["n_cosmic_rays"])):
        length = rng.exponential(4) + 0.5
        t = np.linspace(0, length, int(3 * length) + 2)
        angle, (x, y) = rng.uniform(0, 2 * np.pi), rng.uniform(0, size, 2)
        rows, columns = (y + t * np.sin(angle)).astype(int), (x + t * np.cos(angle)).astype(int)
        inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
        electrons[rows[inside], columns[inside]] += rng.uniform(300, 10_000)
    for column in rng.integers(0, size, int(field["n_hot_columns"])):
        first = rng.integers(0, size)
        electrons[first:, column] += rng.uniform(5, 60) * field["read_noise"]
    gain = field["gain"]
    return np.rint(np.minimum(electrons, full) / gain), full / gain


def _bleed(electrons, full):
    """What does not fit into a pixel goes up and down its column."""
    for column in np.flatnonzero((electrons > full).any(axis=0)):
        charge = electrons[:, column]
        for step in (1, -1):
            excess = 0.0
            for row in range(len(charge))[::step]:
                over = max(charge[row] - full, 0.0)
                # Half of it goes the other way.
                excess += over / 2 if step == 1 else over
                charge[row] -= over / 2 if step == 1 else over
                room = max(full - charge[row], 0.0)
                moved = min(room, excess) if over == 0 else 0.0
                charge[row] += moved
                excess -= moved


def _expose_plate(light, field, rng):
    """Density of an emulsion: bright stars grow, as their cores saturate and their wings do not."""
    from scipy import ndimage

    exposure = light / field["sky"] * field["plate_exposure"]
    density = exposure / (1 + exposure)  # of what the emulsion can reach
    grain = ndimage.gaussian_filter(rng.normal(size=light.shape), field["grain_width"])
    grain /= 1 / (2 * np.sqrt(np.pi) * field["grain_width"])
    density = density + field["grain"] * grain * np.sqrt(_FOG + density)
    size = len(light)
    y, x = np.mgrid[:size, :size]
    for _ in range(int(field["n_scratches"])):
        angle, middle = rng.uniform(0, np.pi), rng.uniform(0, size, 2)
        dx, dy = x - middle[0], y - middle[1]
        along, across = (
            dx * np.cos(angle) + dy * np.sin(angle),
            dy * np.cos(angle) - dx * np.sin(angle),
        )
        line = (np.abs(across) < rng.uniform(0.5, 1.2)) & (
            np.abs(along) < rng.uniform(0.1, 0.5) * size
        )
        density = np.where(line, rng.choice([0.02, 0.95]), density)
    for _ in range(int(field["n_dust"])):
        middle, radius = rng.uniform(0, size, 2), rng.uniform(0.6, 2.5)
        speck = np.hypot(x - middle[0], y - middle[1]) < radius
        density = np.where(speck, rng.choice([0.03, 0.9]), density)
    scale = 2e4  # of a scanner with 16 bits
    return np.rint(np.clip(density, 0, 1) * scale), 0.97 * scale


def to_hdus(
    field: SkyField,
    rng: np.random.Generator,
    *,
    ra: float,
    dec: float,
    pixel_scale: float = 1.0,
    faintest: float = 2.0,
    position_error: float = 0.1,
    offset: float = 1.0,
    epoch: str = "1990-01-01",
) -> fits.HDUList:
    """A field as a telescope would write it, with its catalogue, as published.

    Parameters
    ----------
    field : SkyField
        From `observe_field`.
    rng : numpy.random.Generator
        Of the errors of the catalogue.
    ra, dec : float
        Of the middle, deg.
    pixel_scale : float
        arcsec.
    faintest : float
        S/N of the faintest stars of the catalogue.
    position_error : float
        Of each star of the catalogue, pixels.
    offset : float
        Standard deviation of the error of the WCS, pixels.
    epoch : str
        Of the observation.

    Returns
    -------
    astropy.io.fits.HDUList
        The image, and ``STAR_CATALOG`` with ``ra``, ``dec`` (deg), ``magnitude``.
    """
    from astropy.io import fits
    from astropy.table import Table
    from astropy.wcs import WCS

    height, width = field.image.shape
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [(width + 1) / 2, (height + 1) / 2]
    wcs.wcs.cdelt = [-pixel_scale / 3600, pixel_scale / 3600]
    stars = field.stars[(field.stars["snr"] > faintest)]
    inside = stars["x"].between(-0.5, width - 0.5) & stars["y"].between(-0.5, height - 0.5)
    stars = stars[inside]
    dx, dy = rng.normal(0, offset, 2)
    error = rng.normal(0, position_error, (2, len(stars)))
    x, y = (stars[name].to_numpy() for name in "xy")
    places = wcs.pixel_to_world(x + dx + error[0], y + dy + error[1])
    catalogue = Table(
        {
            "ra": np.atleast_1d(places.ra.deg),
            "dec": np.atleast_1d(places.dec.deg),
            "magnitude": stars["magnitude"].to_numpy(),
        }
    )
    header = wcs.to_header()
    header["SATURATE"], header["DATE-OBS"] = field.saturation, epoch
    return fits.HDUList(
        [
            fits.PrimaryHDU(field.image, header),
            fits.BinTableHDU(catalogue, name="STAR_CATALOG"),
        ]
    )
