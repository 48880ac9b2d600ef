"""From a spectrum as observed to a line profile: smoothing, baseline, detection, noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre

from skyloom.raw_files import UnusableError
from skyloom.spectra.constants import REST_FREQUENCY, SPEED_OF_LIGHT
from skyloom.spectra.hi.spectrum import Spectrum

DEFAULT_WIDTH_RANGE = (25.0, 800.0)  # km/s
_EDGE_WIDTH = 60.0  # km/s within which the edge of a galaxy's line rises
_INTERFERENCE_OFFSET = 80.0  # km/s: the Earth's motion, and the error of a feature's middle
_INTERFERENCE_WIDTH = 500.0  # km/s; the satellites' codes have 1 MHz on either side
_CANDIDATES = 3  # features that are tried before a spectrum is refused
_GROWTH_STEPS = 8
_GROWTH_SNR = 3.5  # of the flux in a band beside the window that belongs to the line
_TROUGH_SNR = 3.5
_ONE_SIGMA = 0.683  # share of a Gaussian within one standard deviation
_FLUX_BESIDE = 0.1  # share of the line's flux beside its box that is worth a warning


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
    window_low, window_high : float
        Velocities between which there is flux of the line, km/s: the box and what was found
        beside it. The baseline is fitted outside.
    flux_beside : float
        Flux in the bands of the box's width on either side of the window, as a share of the
        line's: that of the side that has more, with its sign.
    baseline_level_error, baseline_slope_error : float
        Errors of the subtracted baseline under the line, mJy: of its level, and of its value at
        the edge of the box by its slope.
    warning : str
        What a user should look at, or empty.
    """

    velocity_start: float
    channel_width: float
    flux: np.ndarray
    noise: float
    snr: float
    line_centre: float
    line_width: float
    window_low: float
    window_high: float
    flux_beside: float
    baseline_level_error: float
    baseline_slope_error: float
    warning: str


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
    weak_snr: float = 6.0,
    max_flux: float = 1e5,
    width_range: tuple[float, float] = DEFAULT_WIDTH_RANGE,
    min_contrast: float = 6.0,
    min_edge_steepness: float = 0.25,
    max_trough: float = 0.25,
    masked_velocities: tuple[float, float] | None = None,
    interference_frequencies: tuple[float, ...] = (),
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
    weak_snr : float
        From it to ``min_snr`` a spectrum is refused as a weak detection, below as none.
    max_flux : float
        mJy; a typical flux above it means an uncalibrated spectrum.
    width_range : tuple of 2 floats
        Widths of the matched boxes, km/s.
    min_contrast : float
        Smallest ratio of the line's flux to the scatter of boxes of equal width in the
        neighbourhood of the line: the noise on the scale of the line, with ripple and
        interference.
    min_edge_steepness : float
        Smallest change of flux across the line's two edges, within 60 km/s, in units of the
        line's mean flux; the measured one must be above it by its error. Galaxies' edges are
        sharper than a ripple of the baseline.
    max_trough : float
        Largest negative flux beside the line, as a share of the line's flux.
    masked_velocities : tuple of 2 floats, optional
        Velocities not to be used, e.g. those of Galactic hydrogen, km/s.
    interference_frequencies : tuple of float
        Carriers of known transmitters, MHz; a feature about one of them is no line.
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
    in the neighbourhood, which also guards against baseline ripple. A feature that is refused is
    masked and the search goes on, as far as the third feature; where none is a line, the reason is
    that of the strongest.
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

    weak_snr = min(weak_snr, min_snr)
    refused, strongest, boxes = None, -np.inf, np.zeros(len(flux), bool)
    for _ in range(_CANDIDATES):
        try:
            line = _find_line(
                flux, valid, rough, widths, allowed, baseline_order, step, has_velocity
            )
        except UnusableError as error:
            raise refused or error from None
        try:
            if line.snr < weak_snr:
                raise UnusableError("no detection", f"S/N {line.snr:.1f} below {weak_snr:g}")
            if has_velocity:
                _check_neighbourhood(velocity, valid, boxes, line, max_trough)
                _check_interference(velocity, line, step, interference_frequencies)
            _check_line(
                velocity, valid, line, step, has_velocity, int(widths[-1]),
                min_snr, min_contrast, min_edge_steepness,
            )  # fmt: skip
            break
        except UnusableError as error:
            if refused is None or (line.snr > strongest and not _is_beside(line, boxes)):
                refused, strongest = error, line.snr
            boxes[line.first : line.last] |= line.snr >= weak_snr
            valid = valid & ~_line_mask(line.low, line.high, len(flux), line.last - line.first)
            if not has_velocity or valid.sum() < 3 * (baseline_order + 1):
                raise refused from None
    else:
        raise refused

    warnings = []
    if strongest > line.snr:
        warnings.append(f"a stronger feature was refused: {refused.reason}, {refused.value}")
    masked = int((~valid[line.first : line.last]).sum())
    if masked:
        warnings.append(f"{masked} of {line.last - line.first} channels of the line masked")
    shoulder = line.y[line.low : line.high].sum() / line.flux - 1
    if has_velocity and shoulder > _FLUX_BESIDE:
        warnings.append(f"{shoulder:.0%} of the line's flux in a shoulder")
    beside = max((line.y[side].sum() for side in _sides(line)), key=abs)
    flux_beside = float(beside / line.flux)
    beside_error = line.noise * np.sqrt(line.last - line.first)
    if has_velocity and abs(flux_beside) > _FLUX_BESIDE and abs(beside) > 3 * beside_error:
        warnings.append(f"{flux_beside:+.0%} of the line's flux beside it")

    y, noise, first, last = line.y, line.noise, line.first, line.last
    level_error, slope_error = _baseline_errors(
        line.support, baseline_order, line.near, first, last
    )
    centre, width = (first + last - 1) / 2, last - first
    margin = max(80 / step, 4) if has_velocity else 4
    reach = 0.8 * width + margin
    low = max(0, int(min(centre - reach, line.low - margin)))
    high = min(len(flux), int(max(centre + reach, line.high + margin)) + 1)
    velocity_cut = velocity[low:high]
    flux_cut = np.where(valid, y, np.nan)[low:high]
    channels = np.arange(len(velocity))
    line_centre, window_low, window_high = (
        float(np.interp(channel, channels, velocity)) + offset * step
        for channel, offset in ((centre, 0), (line.low, -0.5), (line.high - 1, 0.5))
    )
    # Ripple moves the baseline under a line as it moves equal boxes elsewhere, beyond the noise.
    excess = max(line.elsewhere**2 / width - noise**2, 0.0) / width
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
        snr=line.snr,
        line_centre=line_centre,
        line_width=float(width * step),
        window_low=window_low,
        window_high=window_high,
        flux_beside=flux_beside,
        baseline_level_error=level_error,
        baseline_slope_error=slope_error,
        warning="; ".join(warnings),
    )


class _Line(NamedTuple):
    """A feature of a spectrum, in channels; ends are exclusive."""

    first: int  # box with the largest signal-to-noise ratio
    last: int
    low: int  # window: the box and the flux beside it
    high: int
    y: np.ndarray  # flux without the baseline, 0 where masked
    y_overall: np.ndarray  # flux without a baseline of the whole spectrum, 0 where masked
    flux: float  # sum over the box
    support: np.ndarray  # channels the baseline rests on
    near: np.ndarray
    noise: float
    snr: float
    elsewhere: float  # scatter of sums of equal boxes


def _find_line(flux, valid, rough, widths, allowed, order, step, has_velocity):
    """The strongest feature with its window and local baseline."""
    n = len(flux)
    overall = _robust_baseline(flux, valid, order, rough)

    def fit(box, window):
        baseline, support, near = _fit_baseline(
            flux, valid, rough, order, overall, box, window,
            least_reach=400 / step, may_fill_spectrum=not has_velocity,
        )  # fmt: skip
        return np.where(valid, flux - baseline, 0.0), support, near

    y = np.where(valid, flux - overall, 0.0)
    for _ in range(2):
        box = _best_box(y, valid, rough, widths, allowed, against_flanks=has_velocity)
        y, support, near = fit(box, box)
    window = box = _best_box(y, valid, rough, widths, allowed, against_flanks=has_velocity)
    if has_velocity:
        widest, narrow = widths[-1], (y, support, near)
        for _ in range(_GROWTH_STEPS):
            y, support, near = fit(box, window)
            grown = _grown(y, valid, rough, box, window)
            if grown == window:
                break
            window = grown
            if window[1] - window[0] > widest:
                # What goes on and on is the baseline.
                window, (y, support, near) = box, narrow
                break
        # A horn may have won against the trough beside it.
        margin = (box[1] - box[0]) // 4
        low, high = max(0, window[0] - margin), min(n, window[1] + margin)
        inside = widths[widths <= high - low]
        first, last = _best_box(y[low:high], valid[low:high], rough, inside, np.ones(n, bool))
        first, last = first + low, last + low
        # A line does not end at masked channels within what was found.
        ends_at_gap = first > box[0] and not valid[first - 1]
        ends_at_gap |= last < box[1] and not valid[last]
        box = box if ends_at_gap else (first, last)
        window = (min(window[0], box[0]), max(window[1], box[1]))
    (first, last), (low, high) = box, window
    noise = _robust_scatter(y[support])
    # A noiseless (fitted) profile still needs a finite weight.
    noise = max(noise, 1e-3 * float(np.abs(y).max()))
    if noise <= 0:
        raise UnusableError("constant", f"{np.nanmedian(flux):.4g} mJy")
    n_line = int(valid[first:last].sum())
    line_flux = float(y[first:last].sum())
    snr = line_flux / (noise * np.sqrt(max(n_line, 1)))
    outside = valid & ~_line_mask(low, high, n, last - first)
    if outside.sum() > 4 * (order + 1):
        outside = _featureless(flux, outside, order, rough)
        overall = _polynomial(flux, outside, order)
    y_overall = np.where(valid, flux - overall, 0.0)
    elsewhere = _scatter_elsewhere(y_overall, outside, last - first)
    return _Line(
        first, last, low, high, y, y_overall, line_flux, support, near, noise, snr, elsewhere
    )


def _grown(y, valid, noise, box, window):
    """Window with the bands beside it that hold flux."""
    width = box[1] - box[0]
    new = list(window)
    for side, sign in ((0, -1), (1, 1)):
        edge = new[side]
        for share in (0.25, 0.5, 1.0):
            band = max(3, round(share * width))
            start, end = (edge - band, edge) if sign < 0 else (edge, edge + band)
            beyond = valid[: max(start, 0)].sum() if sign < 0 else valid[end:].sum()
            if beyond < width:
                continue
            count = valid[start:end].sum()
            if count > band / 2 and y[start:end].sum() > _GROWTH_SNR * noise * np.sqrt(count):
                new[side] = start if sign < 0 else end
                break
    return tuple(new)


def _sides(line):
    """Bands of the box's width on either side of the window."""
    width = line.last - line.first
    return slice(max(0, line.low - width), line.low), slice(line.high, line.high + width)


def _is_beside(line, boxes):
    return any(boxes[side].any() for side in _sides(line))


def _check_neighbourhood(velocity, valid, refused, line, max_trough):
    """Refuse a line at an end, and one beside which there is as much negative flux."""
    first, last = line.first, line.last
    guard = max(2, (last - first) // 4)
    used = np.flatnonzero(valid)
    centre = velocity[first:last].mean()
    if first - guard < used[0] or last + guard > used[-1]:
        raise UnusableError(
            "truncated line", f"line at {centre:.0f} km/s touches the spectrum's end"
        )
    # Where channels are missing a line may go on.
    for beside in (valid[first - guard : first], valid[last : last + guard]):
        if beside.mean() < 0.5:
            raise UnusableError(
                "interference",
                f"{(~beside).sum()} channels masked beside the line at {centre:.0f} km/s",
            )
    # What is left of a refused feature is no line.
    if _is_beside(line, refused):
        raise UnusableError("interference", f"feature at {centre:.0f} km/s beside another")
    # A local baseline follows a deep trough, and hides it. That of the whole spectrum does not,
    # but undulates itself, and counts half.
    trough = max(_trough(line.y, valid, line), _trough(line.y_overall, valid, line) / 2)
    if trough > max_trough:
        raise UnusableError(
            "trough beside the line",
            f"{trough:.2f} of the flux of the line at {centre:.0f} km/s",
        )


def _trough(y, valid, line):
    """Significant negative flux beside a line as a share of the line's flux."""
    width, deepest = line.last - line.first, 0.0
    for side in _sides(line):
        running = _running_sums(y[side], valid[side])
        for share in (1 / 3, 2 / 3, 1.0):
            sums, counts = _box_sums(running, max(2, round(share * width)))
            significant = sums < -_TROUGH_SNR * line.noise * np.sqrt(np.maximum(counts, 1))
            deepest = min(deepest, sums[significant].min(initial=0.0))
    flux = y[line.first : line.last].sum()
    return -deepest / flux if flux > 0 else np.inf


def _check_interference(velocity, line, step, frequencies):
    """Refuse a feature that is where a transmitter is known to be."""
    centre = float(velocity[line.first : line.last].mean())
    width = (line.last - line.first) * step
    for frequency in frequencies:
        carrier = SPEED_OF_LIGHT * (REST_FREQUENCY / frequency - 1)
        if abs(centre - carrier) < _INTERFERENCE_OFFSET and width < _INTERFERENCE_WIDTH:
            raise UnusableError(
                "known interference", f"feature at {centre:.0f} km/s, {frequency:g} MHz"
            )


def _check_line(
    velocity, valid, line, step, has_velocity, widest, min_snr, min_contrast, min_edge_steepness
):
    """Refuse what is too wide, masked, rippled, without edges, or weak."""
    first, last = line.first, line.last
    centre = velocity[first:last].mean()
    if has_velocity and last - first >= widest:
        raise UnusableError(
            "too wide for a line", f"{(last - first) * step:.0f} km/s at {centre:.0f} km/s"
        )
    masked = last - first - int(valid[first:last].sum())
    if masked > 0.3 * (last - first):
        raise UnusableError("interference", f"{masked} channels of the line masked")
    # A weak line cannot stand out more than its noise allows.
    contrast = line.flux / line.elsewhere if line.elsewhere else np.inf
    if contrast < min_contrast * min(1.0, line.snr / min_snr):
        raise UnusableError(
            "interference or ripple",
            f"line only {contrast:.1f} times the scatter of equal boxes beside it",
        )
    rise, fall, error = _edge_steepness(line, valid, max(2, round(_EDGE_WIDTH / step)))
    # One edge may be gentler than the other, where a line is lopsided.
    if has_velocity and (
        (rise + fall) / 2 - error < min_edge_steepness or min(rise, fall) < min_edge_steepness / 2
    ):
        raise UnusableError(
            "gentle edges",
            f"steps of {rise:.2f} and {fall:.2f}, mean +/- {error:.2f}, of the line's "
            f"mean flux within {_EDGE_WIDTH:g} km/s, at least {min_edge_steepness:g} needed",
        )
    if line.snr < min_snr:
        where = (
            f" at {centre:.0f} km/s, {(last - first) * step:.0f} km/s wide" if has_velocity else ""
        )
        raise UnusableError("weak detection", f"S/N {line.snr:.1f} below {min_snr:g}{where}")


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
    return _polynomial(flux, _featureless(flux, valid, order, noise), order)


def _featureless(flux, valid, order, noise, window=None, around=None):
    """Channels without extended features on either side of their own polynomial.

    Beside a line (``around``) only what is as strong as a line or strong interference is left
    out: a baseline that wriggles must not be taken for a trough.
    """
    from scipy.ndimage import binary_dilation, uniform_filter1d

    support = valid.copy()
    window = window or max(3, len(flux) // 50)
    threshold = 3 * noise / np.sqrt(window)
    least_share, depth = (0.25, 1.0) if around is None else (0.5, 3.0)
    least = max(4 * (order + 1), least_share * valid.sum())
    for _ in range(6):
        baseline = _polynomial(flux, support, order, around)
        smooth = uniform_filter1d(np.where(valid, flux - baseline, 0.0), window)
        spread = max(threshold, 2.5 * _robust_scatter(smooth[support]))
        features = (smooth > spread) | (smooth < -depth * spread)
        updated = valid & ~binary_dilation(features, iterations=window)
        if updated.sum() < least or (updated == support).all():
            break
        support = updated
    return support


def _fit_baseline(
    flux, valid, noise, order, overall, box, window, *, least_reach, may_fill_spectrum
):
    """Baseline outside a window near a box, and the channels it rests on."""
    (first, last), (low, high), n = box, window, len(flux)
    line_free = valid & ~_line_mask(low, high, n, last - first)
    reach = max(4 * (last - first), least_reach) + (high - low - last + first) / 2
    near = np.abs(np.arange(n) - (low + high) / 2) < reach
    support, needed = line_free & near, 3 * (order + 1)
    if support.sum() < needed:
        support, near = line_free, valid
    if support.sum() < needed:
        if not may_fill_spectrum:
            raise UnusableError("line without line-free channels", f"{support.sum()} left")
        return np.zeros(n), valid, valid
    if not may_fill_spectrum:
        # Under a line at one end of what it rests on, a polynomial says nothing.
        least = (last - first) // 2
        if min(support[:low].sum(), support[high:].sum()) < least:
            return overall, line_free, valid
        clipped = _featureless(flux, support, order, noise, max(3, least // 2), near)
        if min(clipped[:low].sum(), clipped[high:].sum()) >= least:
            support = clipped
    # Farther away the local fit says nothing: a box there must not win by its errors.
    baseline = np.where(near, _polynomial(flux, support, order, around=near), overall)
    return baseline, support, near


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


def _best_box(y, valid, noise, widths, allowed, *, against_flanks=False):
    """First and last channel (exclusive) of the box with the largest signal-to-noise ratio.

    With flanks, the level of the half of a box on one of its sides is taken off: where a baseline
    undulates, the box that wins without them is too wide, or no line at all.
    """
    best = (0, int(widths[0]), -np.inf)
    running = _running_sums(y, valid)
    total, count = running
    for width in widths:
        sums, counts = _box_sums(running, width)
        variance = np.maximum(counts, 1).astype(float)
        usable = counts > 0.5 * width
        start = np.arange(len(sums))
        if against_flanks:
            half = max(2, width // 2)
            low, high = np.maximum(start - half, 0), np.minimum(start + width + half, len(y))
            levels = []
            for first, last in ((low, start), (start + width, high)):
                n_beside = count[last] - count[first]
                level = (total[last] - total[first]) / np.maximum(n_beside, 1)
                levels.append(np.where(n_beside > 0.5 * half, level, -np.inf))
            # The higher of the two: else all that lies beside a trough were a line.
            level = np.maximum(*levels)
            usable &= np.isfinite(level)
            sums = sums - counts * np.where(usable, level, 0.0)
            variance *= 1 + counts / half
        score = sums / (noise * np.sqrt(variance))
        usable &= allowed[np.minimum(start + width // 2, len(y) - 1)]
        score = np.where(usable, score, -np.inf)
        peak = int(score.argmax())
        if score[peak] > best[2]:
            best = (peak, peak + int(width), float(score[peak]))
    return best[:2]


def _line_mask(low, high, n, width=None):
    """Channels of the line with a margin of a third of its width on either side."""
    margin = max(2, round(0.35 * (width or high - low)))
    mask = np.zeros(n, bool)
    mask[max(0, low - margin) : high + margin] = True
    return mask


def _scatter_elsewhere(y, support, width):
    """Scatter of the sums of boxes of the line's width outside the line.

    Each box is compared with the halves of a box on its two sides, as a line is with its
    baseline. A quantile, so that interference or ripple in a third of the band does not count.
    """
    half = max(2, width // 2)
    total, count = _running_sums(y, support)
    start = np.arange(max(0, len(total) - width - 2 * half))
    ends = start[:, None] + np.array([0, half, half + width, 2 * half + width])
    left, inner, right = np.diff(total[ends], axis=1).T
    n_left, n_inner, n_right = np.diff(count[ends], axis=1).T
    full = (n_inner > 0.9 * width) & (n_left > 0.9 * half) & (n_right > 0.9 * half)
    if not full.any():
        return 0.0
    step = (inner - n_inner * (left + right) / np.maximum(n_left + n_right, 1))[full]
    return float(np.quantile(np.abs(step), _ONE_SIGMA) / np.sqrt(1 + width / (2 * half)))


def _edge_steepness(line, valid, reach):
    """Steps of the flux across both edges over the mean flux, and the error of their mean."""
    first, last, y = line.first, line.last, line.y
    reach = min(reach, max(2, (last - first) // 2))

    def mean(low, high):
        low, high = max(0, low), min(len(y), high)
        return float(y[low:high].sum() / max(valid[low:high].sum(), 1))

    rise = mean(first, first + reach) - mean(first - reach, first)
    fall = mean(last - reach, last) - mean(last, last + reach)
    level = mean(first, last)
    if level <= 0:
        return 0.0, 0.0, 0.0
    return rise / level, fall / level, line.noise / np.sqrt(reach) / level
