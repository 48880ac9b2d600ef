"""From a spectrum as observed to a line profile: smoothing, baseline, detection, noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre

from skyloom.raw_files import UnusableError
from skyloom.spectra.hi.spectrum import Spectrum

DEFAULT_WIDTH_RANGE = (25.0, 800.0)  # km/s
_EDGE_WIDTH = 60.0  # km/s within which the edge of a galaxy's line rises


class Profile(NamedTuple):
    """A baselined line profile, cut out around the line.

    Attributes
    ----------
    velocity_start, channel_width : float
        Velocity of the first channel and spacing, km/s (channels where the file had no axis).
    flux : numpy.ndarray, shape (m,)
        mJy; NaN where masked.
    noise : float
        Standard deviation of a channel, mJy, from line-free channels.
    snr : float
        Integrated signal-to-noise ratio F / (noise * channel width * sqrt(channels of the line)).
    line_centre, line_width : float
        Middle and width of the best matched box, km/s.
    baseline_level_error, baseline_slope_error : float
        Errors of the subtracted baseline under the line, mJy: of its level, and of its value at
        the edge of the box by its slope.
    """

    velocity_start: float
    channel_width: float
    flux: np.ndarray
    noise: float
    snr: float
    line_centre: float
    line_width: float
    baseline_level_error: float
    baseline_slope_error: float


def baseline_error_shapes(
    velocity: np.ndarray,
    line_centre: np.ndarray,
    line_width: np.ndarray,
    level_error: np.ndarray,
    slope_error: np.ndarray,
) -> np.ndarray:
    """Shapes of the two errors of the subtracted baselines.

    Parameters
    ----------
    velocity : numpy.ndarray, shape (n, m)
        km/s.
    line_centre, line_width, level_error, slope_error : numpy.ndarray, shape (n,)
        As in `Profile`.

    Returns
    -------
    numpy.ndarray, shape (n, 2, m)
        One standard deviation of level and slope at each channel, mJy.
    """
    position = (velocity - line_centre[:, None]) / (line_width[:, None] / 2)
    level = np.broadcast_to(level_error[:, None], velocity.shape)
    return np.stack([level, slope_error[:, None] * position], axis=1)


def prepare_profile(
    spectrum: Spectrum,
    *,
    resolution: float = 8.0,
    min_channels: int = 32,
    max_channels: int = 256,
    baseline_order: int = 3,
    min_snr: float = 6.5,
    max_flux: float = 1e5,
    width_range: tuple[float, float] = DEFAULT_WIDTH_RANGE,
    min_contrast: float = 6.0,
    min_edge_steepness: float = 0.25,
    masked_velocities: tuple[float, float] | None = None,
    systemic_velocity: float = np.nan,
    search_radius: float = 300.0,
) -> Profile:
    """Smooth, find the line, subtract the baseline, measure the noise and cut the line out.

    Parameters
    ----------
    spectrum : Spectrum
        As read.
    resolution : float
        Channels are averaged to about this width, km/s; averaging whole channels keeps the noise
        of neighbours independent. Not used where the file has no velocity axis.
    min_channels, max_channels : int
        Fewer channels are an error; a profile cut-out longer than the maximum is averaged further.
    baseline_order : int
        Order of the polynomial baseline.
    min_snr : float
        Smallest accepted integrated signal-to-noise ratio.
    max_flux : float
        mJy; a typical flux above it means an uncalibrated spectrum.
    width_range : tuple of 2 floats
        Widths of the matched boxes, km/s.
    min_contrast : float
        Smallest ratio of the line's flux to the scatter of boxes of equal width elsewhere in the
        spectrum: the noise on the scale of the line, with ripple and interference.
    min_edge_steepness : float
        Smallest change of flux across the line's two edges, within 60 km/s, in units of the
        line's mean flux. Galaxies' edges are sharper than a ripple of the baseline.
    masked_velocities : tuple of 2 floats, optional
        Velocities not to be used, e.g. those of Galactic hydrogen, km/s.
    systemic_velocity, search_radius : float
        If known, the line is sought only this near to it, km/s.

    Returns
    -------
    Profile

    Raises
    ------
    UnusableError
        If the spectrum has no usable line, with the reason and the value that failed.

    Notes
    -----
    A box must win twice: against the channel noise, and against what boxes of the same width find
    elsewhere in the same spectrum, which also guards against baseline ripple.
    """
    velocity, flux = spectrum.velocity, spectrum.flux
    _check(velocity, flux, min_channels, max_flux)
    step = float(np.median(np.diff(velocity)))
    has_velocity = spectrum.axis == "velocity"
    if has_velocity:
        velocity, flux = _average(velocity, flux, max(1, round(resolution / step)))
        if len(velocity) < min_channels:
            raise UnusableError("too few channels", f"{len(velocity)} of about {resolution:g} km/s")
        step = float(np.median(np.diff(velocity)))
    if masked_velocities is not None and has_velocity:
        inside = (velocity >= masked_velocities[0]) & (velocity <= masked_velocities[1])
        flux = np.where(inside, np.nan, flux)
    valid = np.isfinite(flux)
    if valid.sum() < min_channels:
        raise UnusableError("too few channels", f"{valid.sum()} not masked")

    rough = _difference_noise(flux)
    valid &= ~_spikes(flux, rough)
    if has_velocity:
        valid &= ~_bad_ends(flux, valid, rough)
    if valid.sum() < 3 * (baseline_order + 1):
        raise UnusableError("too few channels", f"{valid.sum()} without interference")
    low_width, high_width = width_range if has_velocity else (5.0, 0.75 * len(velocity))
    widths = _box_widths(low_width / step, high_width / step, len(velocity))
    allowed = np.ones(len(velocity), bool)
    if np.isfinite(systemic_velocity) and has_velocity:
        allowed = np.abs(velocity - systemic_velocity) <= search_radius
        if not allowed.any():
            raise UnusableError(
                "systemic velocity outside the spectrum", f"{systemic_velocity:.0f} km/s"
            )
    baseline, support, near = _fit_baseline(
        flux,
        valid,
        rough,
        baseline_order,
        lambda y: _best_box(y, valid, rough, widths, allowed),
        least_reach=400 / step,
        may_fill_spectrum=not has_velocity,
    )
    y = np.where(valid, flux - baseline, 0.0)

    noise = _robust_scatter(y[support])
    # A noiseless (fitted) profile still needs a finite weight.
    noise = max(noise, 1e-3 * float(np.abs(y).max()))
    if noise <= 0:
        raise UnusableError("constant", f"{np.nanmedian(flux):.4g} mJy")
    first, last, _ = _best_box(y, valid, noise, widths, allowed)
    line = _line_mask(first, last, len(velocity))
    n_line = int(valid[first:last].sum())
    line_flux = float(y[first:last].sum())
    snr = line_flux / (noise * np.sqrt(max(n_line, 1)))
    if not snr >= min_snr:
        raise UnusableError("no detection", f"S/N {snr:.1f} below {min_snr:g}")
    if n_line < 0.7 * (last - first):
        raise UnusableError("interference", f"{last - first - n_line} channels of the line masked")
    elsewhere = _scatter_elsewhere(flux, valid & ~line, last - first, baseline_order)
    if has_velocity:
        _check_line_is_whole(velocity, valid, first, last)
    if line_flux < min_contrast * elsewhere:
        raise UnusableError(
            "interference or ripple",
            f"line only {line_flux / elsewhere:.1f} times the scatter of equal boxes elsewhere",
        )
    steepness = _edge_steepness(y, valid, first, last, max(2, round(_EDGE_WIDTH / step)))
    if has_velocity and steepness < min_edge_steepness:
        raise UnusableError(
            "interference or ripple",
            f"edges too gentle for a line: {steepness:.2f} of its mean flux",
        )
    level_error, slope_error = _baseline_errors(support, baseline_order, near, first, last)
    centre, width = (first + last - 1) / 2, last - first
    reach = 0.8 * width + (max(80 / step, 4) if has_velocity else 4)
    low, high = max(0, int(centre - reach)), min(len(flux), int(centre + reach) + 1)
    velocity_cut = velocity[low:high]
    flux_cut = np.where(valid, flux - baseline, np.nan)[low:high]
    line_centre = float(np.interp(centre, np.arange(len(velocity)), velocity))
    # Ripple moves the baseline under a line as it moves equal boxes elsewhere, beyond the noise.
    excess = max(elsewhere**2 / width - noise**2, 0.0) / width
    level_error, slope_error = (
        float(np.sqrt((noise * error) ** 2 + excess)) for error in (level_error, slope_error)
    )
    k = int(np.ceil(len(flux_cut) / max_channels))
    velocity_cut, flux_cut = _average(velocity_cut, flux_cut, k)
    noise /= np.sqrt(k)
    # Velocities that are not quite even (frequency channels) are so over a line's width.
    slope, start = np.polyfit(np.arange(len(velocity_cut)), velocity_cut, 1)
    return Profile(
        velocity_start=float(start),
        channel_width=float(slope),
        flux=flux_cut,
        noise=noise,
        snr=snr,
        line_centre=line_centre,
        line_width=float(width * step),
        baseline_level_error=level_error,
        baseline_slope_error=slope_error,
    )


def _robust_scatter(values):
    from astropy.stats import mad_std  # slow to import

    return float(mad_std(values))


def _check(velocity, flux, min_channels, max_flux):
    if velocity.size < min_channels:
        raise UnusableError("too few channels", f"{velocity.size}, at least {min_channels} needed")
    finite = flux[np.isfinite(flux)]
    if finite.size < min_channels:
        raise UnusableError("too few channels", f"{finite.size} finite fluxes")
    if np.ptp(finite) == 0:
        raise UnusableError("constant", f"{finite[0]:.4g} mJy")
    typical = float(np.median(np.abs(finite)))
    if typical > max_flux:
        raise UnusableError("uncalibrated", f"typical flux {typical:.3g} mJy above {max_flux:g}")
    steps = np.diff(velocity)
    if not (steps > 0).all():
        raise UnusableError("wrong velocity axis", f"{(steps <= 0).sum()} steps not ascending")
    spread = float(np.abs(steps / np.median(steps) - 1).max())
    if spread > 0.5:
        raise UnusableError("wrong velocity axis", f"steps differ by {spread:.0%}")


def _average(velocity, flux, k):
    """Means of ``k`` neighbouring channels; NaN where more than half are masked."""
    if k == 1:
        return velocity, flux
    n = len(velocity) // k
    blocks = flux[: n * k].reshape(n, k)
    good = np.isfinite(blocks)
    count = good.sum(1)
    mean = np.where(good, blocks, 0).sum(1) / np.maximum(count, 1)
    return velocity[: n * k].reshape(n, k).mean(1), np.where(2 * count > k, mean, np.nan)


def _difference_noise(flux):
    """Noise from differences of neighbours: blind to lines and baselines."""
    difference = np.diff(flux[np.isfinite(flux)])
    return max(_robust_scatter(difference) / np.sqrt(2), 1e-30)


def _spikes(flux, noise, *, threshold=7.0):
    """Features too narrow to be a galaxy: above (or below) both neighbours by far."""
    filled = np.where(np.isfinite(flux), flux, 0.0)
    filled = filled - np.median(filled)
    found = np.zeros(len(flux), bool)
    for signed in (filled, -filled):
        for gap in (1, 2):
            padded = np.pad(signed, gap, mode="edge")
            neighbour = np.maximum(padded[: -2 * gap], padded[2 * gap :])
            found |= signed > neighbour + threshold * noise + 0.5 * np.abs(neighbour)
    return found


def _bad_ends(flux, valid, noise, *, largest=0.12):
    """Runs at both ends where the band-pass falls or rises steeply."""
    from scipy.ndimage import uniform_filter1d

    n = len(flux)
    limit = int(largest * n)
    bad = np.zeros(n, bool)
    window = 7
    smooth = uniform_filter1d(np.where(valid, flux, 0.0), window)
    inner = smooth[limit : n - limit]
    level, spread = np.median(inner), max(_robust_scatter(inner), noise / np.sqrt(window))
    off = np.abs(smooth - level) > 4 * spread
    for ends, take in ((off[:limit], slice(None)), (off[::-1][:limit], slice(None, None, -1))):
        last = np.flatnonzero(ends)
        if len(last) and off[take][:window].mean() > 0.5:
            bad[take][: min(last[-1] + window, limit)] = True
    return bad


def _polynomial(flux, support, order, around=None):
    """Legendre fit to the supported channels; extrapolated flat outside ``around``."""
    u = _baseline_abscissa(support if around is None else around)
    return legendre.legval(u, legendre.legfit(u[support], flux[support], order))


def _baseline_abscissa(inside):
    """Channels mapped to -1..1 over those used, constant beyond."""
    x = np.arange(len(inside), dtype=float)
    used = np.flatnonzero(inside)
    return np.clip(2 * (x - used[0]) / max(used[-1] - used[0], 1) - 1, -1, 1)


def _baseline_errors(support, order, around, first, last):
    """Errors of the baseline's level and slope under the line, in units of the channel noise."""
    u = _baseline_abscissa(around)
    basis = legendre.legvander(u, order)
    covariance = np.linalg.pinv(basis[support].T @ basis[support])
    line = basis[first:last]
    position = np.linspace(-1, 1, last - first)
    level = line.mean(axis=0)
    slope = position @ line / (position @ position)
    return float(np.sqrt(level @ covariance @ level)), float(np.sqrt(slope @ covariance @ slope))


def _robust_baseline(flux, valid, order, noise):
    """Polynomial over the whole spectrum, clipping extended features on both sides."""
    from scipy.ndimage import binary_dilation, uniform_filter1d

    support = valid.copy()
    window = max(3, len(flux) // 50)
    threshold = 3 * noise / np.sqrt(window)
    for _ in range(6):
        baseline = _polynomial(flux, support, order)
        smooth = uniform_filter1d(np.where(valid, flux - baseline, 0.0), window)
        spread = max(threshold, 2.5 * _robust_scatter(smooth[support]))
        updated = valid & ~binary_dilation(np.abs(smooth) > spread, iterations=window)
        if updated.sum() < max(4 * (order + 1), 0.25 * valid.sum()) or (updated == support).all():
            break
        support = updated
    return baseline


def _fit_baseline(flux, valid, noise, order, find_line, *, least_reach, may_fill_spectrum):
    """Baseline outside the line, found and fitted twice, with the channels it rests on."""
    overall = _robust_baseline(flux, valid, order, noise)
    baseline, needed = overall, 3 * (order + 1)
    for _ in range(2):
        first, last, _ = find_line(np.where(valid, flux - baseline, 0.0))
        line_free = valid & ~_line_mask(first, last, len(flux))
        reach = max(4 * (last - first), least_reach)
        near = np.abs(np.arange(len(flux)) - (first + last) / 2) < reach
        support = line_free & near
        if support.sum() < needed:
            support, near = line_free, valid
        if support.sum() < needed:
            if not may_fill_spectrum:
                raise UnusableError("line without line-free channels", f"{support.sum()} left")
            return np.zeros(len(flux)), valid, valid
        # Farther away the local fit says nothing: a box there must not win by its errors.
        baseline = np.where(near, _polynomial(flux, support, order, around=near), overall)
    return baseline, support, near


def _check_line_is_whole(velocity, valid, first, last):
    guard = max(2, (last - first) // 4)
    used = np.flatnonzero(valid)
    if first - guard < used[0] or last + guard > used[-1]:
        centre = velocity[first:last].mean()
        raise UnusableError(
            "truncated line", f"line at {centre:.0f} km/s touches the spectrum's end"
        )


def _box_widths(low, high, n):
    low, high = max(3, int(low)), max(4, min(int(high), int(0.75 * n)))
    return np.unique(np.geomspace(low, max(high, low + 1), 40).astype(int))


def _running_sums(y, valid):
    """Sums of the fluxes, and numbers of the channels, before each channel."""
    total = np.concatenate([[0.0], np.cumsum(np.where(valid, y, 0.0))])
    return total, np.concatenate([[0], np.cumsum(valid)])


def _box_sums(running, width):
    total, count = running
    return total[width:] - total[:-width], count[width:] - count[:-width]


def _best_box(y, valid, noise, widths, allowed):
    """First and last channel (exclusive) of the box with the largest signal-to-noise ratio."""
    best = (0, int(widths[0]), -np.inf)
    running = _running_sums(y, valid)
    for width in widths:
        sums, counts = _box_sums(running, width)
        score = sums / (noise * np.sqrt(np.maximum(counts, 1)))
        centres = np.arange(len(sums)) + width // 2
        score = np.where(
            (counts > 0.5 * width) & allowed[np.minimum(centres, len(y) - 1)], score, -np.inf
        )
        start = int(score.argmax())
        if score[start] > best[2]:
            best = (start, start + int(width), float(score[start]))
    return best


def _line_mask(first, last, n):
    """Channels of the line with a margin of a third of its width on either side."""
    margin = max(2, round(0.35 * (last - first)))
    mask = np.zeros(n, bool)
    mask[max(0, first - margin) : last + margin] = True
    return mask


def _scatter_elsewhere(flux, support, width, order):
    """Root mean square of the sums of boxes of the line's width outside the line."""
    if support.sum() < max(2 * width, 4 * (order + 1)):
        return 0.0
    y = np.where(support, flux - _polynomial(flux, support, order), 0.0)
    sums, counts = _box_sums(_running_sums(y, support), width)
    full = counts > 0.9 * width
    return float(np.sqrt(np.mean(sums[full] ** 2))) if full.any() else 0.0


def _edge_steepness(y, valid, first, last, reach):
    """Mean step of the flux across both edges over the mean flux of the line."""
    reach = min(reach, max(2, (last - first) // 2))

    def mean(low, high):
        low, high = max(0, low), min(len(y), high)
        return float(y[low:high].sum() / max(valid[low:high].sum(), 1))

    rise = mean(first, first + reach) - mean(first - reach, first)
    fall = mean(last - reach, last) - mean(last, last + reach)
    return (rise + fall) / 2 / mean(first, last)
