"""From spectra as read to arrays that can be compared: one grid, rest frame, continuum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skyloom.raw_files import UnusableError
from skyloom.spectra.constants import SPEED_OF_LIGHT
from skyloom.spectra.optical.spectrum import OpticalSpectrum, vacuum_wavelength

PUBLISHED_WINDOW = (3700.0, 8671.6)  # Angstrom
PUBLISHED_PIXELS = 3500
LAMOST_STEP = 1e-4  # of log10(wavelength)


def log_grid(low: float, high: float, step: float = LAMOST_STEP) -> np.ndarray:
    """Wavelengths equally spaced in their logarithm.

    Parameters
    ----------
    low, high : float
        First and about the last wavelength, Angstrom.
    step : float
        Of log10.

    Returns
    -------
    numpy.ndarray, shape (m,)
        Angstrom.

    Examples
    --------
    >>> grid = log_grid(3850.0, 7300.0)
    >>> print(len(grid), grid[[0, -1]].round(2))
    2779 [3850.   7298.96]
    """
    n = int(np.floor(np.log10(high / low) / step + 1e-9)) + 1
    return low * 10 ** (step * np.arange(n))


def pixel_edges(wavelength: np.ndarray) -> np.ndarray:
    """Edges of pixels: half way between their middles.

    Parameters
    ----------
    wavelength : numpy.ndarray, shape (n,)
        Of the middles, increasing.

    Returns
    -------
    numpy.ndarray, shape (n + 1,)
    """
    half = np.diff(wavelength) / 2
    return np.concatenate(
        [[wavelength[0] - half[0]], wavelength[:-1] + half, [wavelength[-1] + half[-1]]]
    )


def rebin(
    wavelength: np.ndarray,
    flux: np.ndarray,
    variance: np.ndarray,
    good: np.ndarray,
    grid: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means over the pixels of another grid, so that the flux in any interval stays what it is.

    Parameters
    ----------
    wavelength, flux, variance : numpy.ndarray, shape (n,)
        Flux per wavelength in pixels, and its variance.
    good : numpy.ndarray of bool, shape (n,)
        Which pixels count.
    grid : numpy.ndarray, shape (m,)
        Middles of the new pixels.

    Returns
    -------
    flux : numpy.ndarray, shape (m,)
        NaN where no good pixel is.
    variance : numpy.ndarray, shape (m,)
        As if the noise were spread evenly over each old pixel: finer pixels have more of it, and
        sums over many keep theirs, though new neighbours are correlated.
    coverage : numpy.ndarray, shape (m,)
        Share of each new pixel that good pixels cover, 0 to 1.

    References
    ----------
    Carnall (2017), arXiv:1705.05165, who distributes flux alike.

    Examples
    --------
    >>> import numpy as np
    >>> wavelength = np.arange(4000.0, 4100.0)
    >>> grid = np.arange(4000.5, 4099.0, 2.0)
    >>> flux, variance, coverage = rebin(
    ...     wavelength, np.ones(100), np.full(100, 0.04), np.ones(100, bool), grid
    ... )
    >>> # Two pixels in one: the mean stays, the variance is halved.
    >>> print(flux[0], variance[0], coverage[0])
    1.0 0.02 1.0
    """
    edges, new = pixel_edges(wavelength), pixel_edges(grid)
    width = np.diff(edges) * good
    value = np.where(good, flux, 0)
    noise = np.where(good, variance, 0) * width
    sums = np.zeros((3, len(edges)))
    np.cumsum(np.stack([width, value * width, noise * width]), axis=1, out=sums[:, 1:])
    covered, total, spread = (np.diff(np.interp(new, edges, each)) for each in sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(covered > 0, total / covered, np.nan)
        error = np.where(covered > 0, spread / covered**2, np.inf)
    return mean, error, covered / np.diff(new)


def on_common_grid(
    spectrum: OpticalSpectrum, grid: np.ndarray, velocity: float | None = None
) -> tuple[np.ndarray, np.ndarray, float]:
    """A spectrum in vacuum, at rest, on a grid.

    Parameters
    ----------
    spectrum : OpticalSpectrum
        As read.
    grid : numpy.ndarray, shape (m,)
        Wavelengths in vacuum, Angstrom.
    velocity : float, optional
        Radial velocity, km/s; by default that of the file, and 0 where that knows none.

    Returns
    -------
    flux : numpy.ndarray, shape (m,)
        In the unit of the spectrum; interpolated where nothing good is.
    inverse_variance : numpy.ndarray, shape (m,)
        0 where less than half of a pixel is covered by good ones; where the file gives no noise,
        1 elsewhere.
    coverage : float
        Share of the pixels of the grid that can be used.
    """
    if velocity is None:
        velocity = spectrum.radial_velocity
    shift = 1 + (velocity if np.isfinite(velocity) else 0.0) / SPEED_OF_LIGHT
    given = np.isfinite(spectrum.inverse_variance).any()
    weight = spectrum.inverse_variance if given else np.ones_like(spectrum.flux)
    good = ~spectrum.mask & (weight > 0)
    variance = np.divide(1.0, weight, out=np.zeros_like(weight), where=good)
    flux, variance, covered = rebin(
        vacuum_wavelength(spectrum) / shift, spectrum.flux, variance, good, grid
    )
    usable = covered >= 0.5
    if not usable.any():
        return np.zeros_like(grid), np.zeros_like(grid), 0.0
    flux = np.where(usable, flux, np.interp(grid, grid[usable], flux[usable]))
    inverse_variance = np.divide(1.0, variance, out=np.zeros_like(grid), where=usable)
    return flux, inverse_variance if given else usable.astype(float), float(usable.mean())


def pseudo_continuum(flux: np.ndarray, weight: np.ndarray, width: float) -> np.ndarray:
    """Continuum as a weighted mean over a Gaussian around each pixel.

    Parameters
    ----------
    flux : numpy.ndarray, shape (..., m)
        Fluxes on a common grid.
    weight : numpy.ndarray, shape (..., m)
        0 where a pixel must not count, such as the inverse variance.
    width : float
        Standard deviation of the Gaussian, pixels.

    Returns
    -------
    numpy.ndarray, shape (..., m)

    References
    ----------
    Ness et al. (2015), ApJ 808, 16, section 2.3 (width 50 Angstrom).
    """
    from scipy.signal import fftconvolve

    reach = int(np.ceil(3 * width))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    kernel = kernel.reshape((1,) * (flux.ndim - 1) + (-1,))
    # One inverse variance for all: a bright end must not decide over the whole width.
    scale = weight / np.maximum(weight.mean(axis=-1, keepdims=True), 1e-300)
    near = fftconvolve(scale, kernel, mode="same", axes=-1)
    mean = fftconvolve(scale * flux, kernel, mode="same", axes=-1)
    # Where no pixel near counts: the mean of all that do.
    overall = (scale * flux).mean(axis=-1, keepdims=True) / np.maximum(
        scale.mean(axis=-1, keepdims=True), 1e-300
    )
    alone = near < 1e-6 * near.max(axis=-1, keepdims=True)
    return np.where(alone, overall, mean / np.where(alone, 1, near))


def normalise(
    flux: np.ndarray, inverse_variance: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Spectra in units of their pseudo-continuum.

    Parameters
    ----------
    flux, inverse_variance : numpy.ndarray, shape (n, m)
        From `on_common_grid`.
    width : float
        As in `pseudo_continuum`.

    Returns
    -------
    flux : numpy.ndarray, shape (n, m)
        1 where nothing is known, and where the continuum is not above zero.
    inverse_variance : numpy.ndarray, shape (n, m)
        Of it; 0 there.
    """
    continuum = pseudo_continuum(flux, inverse_variance, width)
    usable = (inverse_variance > 0) & (continuum > 0)
    divisor = np.where(usable, continuum, 1.0)
    return (
        np.where(usable, flux / divisor, 1.0),
        np.where(usable, inverse_variance * divisor**2, 0.0),
    )


def corrected_spectra(
    spectra: Sequence[OpticalSpectrum],
    grid: np.ndarray,
    *,
    velocities: Sequence[float] | None = None,
    width: float = 200.0,
    min_coverage: float = 0.9,
) -> tuple[np.ndarray, np.ndarray, list[UnusableError | None]]:
    """Spectra at rest on a common grid in units of their pseudo-continuum.

    Parameters
    ----------
    spectra : sequence of OpticalSpectrum
        As read.
    grid : numpy.ndarray, shape (m,)
        Wavelengths in vacuum, Angstrom.
    velocities : sequence of float, optional
        Of a catalogue, km/s; NaN where it has none, and then the file's own is taken.
    width : float
        Of the pseudo-continuum, pixels.
    min_coverage : float
        Least share of the grid that a spectrum must cover with good pixels.

    Returns
    -------
    flux : numpy.ndarray of float32, shape (n, m)
        1 is the continuum; 1 everywhere where a spectrum cannot be used.
    inverse_variance : numpy.ndarray of float32, shape (n, m)
        Of it.
    errors : list of UnusableError or None
        Why a spectrum cannot be used; None where it can.
    """
    flux, weight = np.ones((2, len(spectra), len(grid)))
    errors: list[UnusableError | None] = [None] * len(spectra)
    given = [np.nan] * len(spectra) if velocities is None else velocities
    for k, (spectrum, velocity) in enumerate(zip(spectra, given, strict=True)):
        own = velocity if np.isfinite(velocity) else None
        flux[k], weight[k], coverage = on_common_grid(spectrum, grid, own)
        if coverage < min_coverage:
            errors[k] = UnusableError("covers too little", f"{coverage:.2f} of the window")
        elif not np.average(flux[k], weights=weight[k]) > 0:
            errors[k] = UnusableError("no light", f"mean flux {flux[k].mean():.3g}")
        if errors[k] is not None:
            flux[k], weight[k] = 1.0, 0.0
    usable = np.array([error is None for error in errors], bool)
    if usable.any():
        flux[usable], weight[usable] = normalise(flux[usable], weight[usable], width)
    return flux.astype(np.float32), weight.astype(np.float32), errors


def stack_spectra(spectra: Sequence[OpticalSpectrum]) -> np.ndarray:
    """Spectra of different lengths in one array, from which `unstack_spectra` makes them again.

    Parameters
    ----------
    spectra : sequence of OpticalSpectrum
        As read.

    Returns
    -------
    numpy.ndarray of float32, shape (pixels of all, 4)
        Wavelength in vacuum (Angstrom), flux in units of the median of its absolute values,
        inverse variance of that (NaN where none is given), and mask (1 where a pixel must not be
        used), one spectrum after the other.
    """
    parts = [np.zeros((0, 4), np.float32)]
    for spectrum in spectra:
        # Else the inverse variance of fluxes in erg/s/cm^2/A would not fit into 32 bits.
        unit = float(np.median(np.abs(spectrum.flux[~spectrum.mask]))) or 1.0
        columns = (
            vacuum_wavelength(spectrum), spectrum.flux / unit,
            spectrum.inverse_variance * unit**2, spectrum.mask,
        )  # fmt: skip
        parts.append(np.stack(columns, axis=1).astype(np.float32))
    return np.concatenate(parts)


def unstack_spectra(
    stack: np.ndarray, lengths: Sequence[int], velocities: Sequence[float]
) -> list[OpticalSpectrum]:
    """Spectra out of an array of `stack_spectra`.

    Parameters
    ----------
    stack : numpy.ndarray, shape (sum of lengths, 4)
        Of that function.
    lengths : sequence of int
        Pixels of each spectrum.
    velocities : sequence of float
        Radial velocities, km/s; NaN where none is known.

    Returns
    -------
    list of OpticalSpectrum
        In vacuum, in relative units.
    """
    parts = np.split(np.asarray(stack, float), np.cumsum(lengths)[:-1])
    spectra = []
    for part, velocity in zip(parts, velocities, strict=True):
        masked = part[:, 3] > 0
        spectra.append(
            OpticalSpectrum(
                *part[:, :3].T, masked, "stack", medium="vacuum", radial_velocity=float(velocity)
            )
        )
    return spectra


def published_spectrum(spectrum: OpticalSpectrum) -> np.ndarray:
    """A spectrum as the published recipe prepares it, on its own pixels.

    Parameters
    ----------
    spectrum : OpticalSpectrum
        As read; masks and noise are not looked at.

    Returns
    -------
    numpy.ndarray of float32, shape (3500,)
        Rolling mean of 3 pixels, cut to the window, the first two dropped, the next 3500 kept
        (zeros where there are fewer) and scaled from 0 to 1. On LAMOST's grid they end at 8287
        Angstrom, not at the end of the window.

    Raises
    ------
    UnusableError
        If no pixel is in the window, or all have the same flux.
    """
    # The mean stands at the last of its pixels, so the first two have none.
    smooth = np.convolve(spectrum.flux, np.full(3, 1 / 3))[: len(spectrum.flux)]
    wavelength = spectrum.wavelength
    low, high = PUBLISHED_WINDOW
    cut = smooth[(wavelength >= low) & (wavelength <= high)][2 : 2 + PUBLISHED_PIXELS]
    if not len(cut) or not np.isfinite(cut).all():
        value = f"{spectrum.wavelength[0]:.0f} to {spectrum.wavelength[-1]:.0f} Angstrom"
        raise UnusableError("no flux in the window", value)
    span = np.ptp(cut)
    if span == 0:
        raise UnusableError("constant flux", f"{cut[0]:g}")
    whole = np.zeros(PUBLISHED_PIXELS, np.float32)
    whole[: len(cut)] = (cut - cut.min()) / span
    return whole


# --- spectra as images ----------------------------------------------------------------------------


def wrapped(flux: np.ndarray, height: int) -> np.ndarray:
    """Spectra as images: a row after the other, each going on where the one before ends.

    Parameters
    ----------
    flux : numpy.ndarray, shape (n, m)
        Spectra.
    height : int
        Rows; what does not fill the last column of all rows is cut off at the red end.

    Returns
    -------
    numpy.ndarray, shape (n, height, m // height)
    """
    columns = flux.shape[1] // height
    return flux[:, : height * columns].reshape(len(flux), height, columns)


def scalogram(flux: np.ndarray, height: int, columns: int) -> np.ndarray:
    """Spectra as images: wavelet coefficients by scale and wavelength.

    Parameters
    ----------
    flux : numpy.ndarray, shape (n, m)
        Spectra in units of their continuum.
    height : int
        Scales, from 2 pixels to an eighth of the spectrum, equally spaced in their logarithm.
    columns : int
        Along the wavelength; each is the mean of equally many pixels, at most ``m``.

    Returns
    -------
    numpy.ndarray of float32, shape (n, height, columns)
        Of the Ricker wavelet; absorption lines are negative.
    """
    import pywt

    m = flux.shape[1]
    scales = np.geomspace(2, m / 8, height)
    coefficients, _ = pywt.cwt(flux - 1, scales, "mexh", method="fft", axis=-1)
    each = m // columns
    cut = coefficients[..., : each * columns]
    means = cut.reshape(height, len(flux), columns, each).mean(axis=-1)
    return np.moveaxis(means, 0, 1).astype(np.float32)
