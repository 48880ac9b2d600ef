"""The busy function: evaluation and batched least-squares fits to 21-cm line profiles.

References
----------
Westmeier, Jurek, Obreschkow, Koribalski & Staveley-Smith (2014), MNRAS 438, 1176.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

PARAMETER_NAMES = (
    "amplitude",
    "left_steepness",
    "right_steepness",
    "trough_depth",
    "edge_centre",
    "trough_centre",
    "half_width",
    "trough_power",
)
"""Order of the eight parameters (A, B1, B2, C, XE0, XP0, W, N) everywhere in Skyloom."""

DERIVED_NAMES = (
    "w50",
    "w20",
    "centroid",
    "peak_flux",
    "integrated_flux",
    "low_edge",
    "high_edge",
)
"""Order of the derived quantities; the two edges are the velocities at 20 % of each side's peak."""

# Bounds of the fitted form of the parameters, with velocities in units of half the window and
# fluxes in units of the brightest channel: ln A, ln B1, ln B2, C W^N, XE0, XP0, ln W, N.
_LOWER = np.array([-7.0, -1.5, -1.5, 0.0, -1.2, -3.0, -4.5, 1.5])
_UPPER = np.array([5.0, 6.5, 6.5, 60.0, 1.2, 3.0, 0.7, 8.0])
_TWO_OVER_SQRT_PI = 2.0 / np.sqrt(np.pi)
_TINY = 1e-12
_LEAST_GAIN = 30.0  # a detection of S/N 6.5 gains 42; the best of many noise peaks about 20


class BusyFit(NamedTuple):
    """Fits of ``n`` profiles of ``m`` channels.

    Attributes
    ----------
    parameters, parameter_errors : numpy.ndarray, shape (n, 8)
        See `PARAMETER_NAMES`; velocities in km/s, amplitude in the unit of the flux.
    derived, derived_errors : numpy.ndarray, shape (n, 7)
        See `DERIVED_NAMES`; km/s, flux unit, and flux unit times km/s.
    model : numpy.ndarray, shape (n, m)
        The fitted function at the channels' velocities.
    edge_influence : numpy.ndarray, shape (n, 2, m)
        First-order response of the two edges (km/s) to a change of each channel's flux.
    mode_influence, model_modes : numpy.ndarray, shape (n, 8, m)
        First-order response of eight independent combinations of the parameters, each of unit
        variance, to the fluxes, and of the model to them. Noise ``e`` moves the model by
        ``(e @ mode_influence.T) @ model_modes``.
    chi_square, degrees_of_freedom : numpy.ndarray, shape (n,)
    status : numpy.ndarray of str, shape (n,)
        ``"good"``, or why the fit is not to be used.
    """

    parameters: np.ndarray
    parameter_errors: np.ndarray
    derived: np.ndarray
    derived_errors: np.ndarray
    model: np.ndarray
    edge_influence: np.ndarray
    mode_influence: np.ndarray
    model_modes: np.ndarray
    chi_square: np.ndarray
    degrees_of_freedom: np.ndarray
    status: np.ndarray


def busy_function(velocity: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Evaluate the busy function.

    Parameters
    ----------
    velocity : numpy.ndarray, shape (m,) or (n, m)
        Velocities in km/s.
    parameters : numpy.ndarray, shape (8,) or (n, 8)
        See `PARAMETER_NAMES`.

    Returns
    -------
    numpy.ndarray, shape (m,) or (n, m)
        Flux density in the unit of the amplitude.

    Examples
    --------
    >>> import numpy as np
    >>> velocity = np.linspace(-200, 200, 5)
    >>> # Steep on both sides, with hardly a trough, 200 km/s wide.
    >>> symmetric = np.array([10.0, 0.1, 0.1, 1e-4, 0.0, 0.0, 100.0, 2.0])
    >>> busy_function(velocity, symmetric).round(2)
    array([ 0., 10., 10., 10.,  0.])
    """
    from scipy.special import erf

    a, b1, b2, c, xe, xp, w, n = np.moveaxis(np.asarray(parameters, float)[..., None], -2, 0)
    left = erf(b1 * (w + velocity - xe)) + 1.0
    right = erf(b2 * (w - velocity + xe)) + 1.0
    return a / 4.0 * left * right * (c * np.abs(velocity - xp) ** n + 1.0)


def _model_and_jacobian(x: np.ndarray, theta: np.ndarray):
    """Model (n, m) and its derivatives (n, 8, m) in the fitted form of the parameters."""
    from scipy.special import erf

    ln_a, ln_b1, ln_b2, depth, xe, xp, ln_w, power = (column[:, None] for column in theta.T)
    b1, b2, w = np.exp(ln_b1), np.exp(ln_b2), np.exp(ln_w)
    offset = x - xe
    u1, u2 = b1 * (w + offset), b2 * (w - offset)
    left, right = erf(u1) + 1.0, erf(u2) + 1.0
    distance = x - xp
    log_ratio = np.log(np.abs(distance) + _TINY) - ln_w
    rise = np.exp(power * log_ratio)
    trough = depth * rise + 1.0
    quarter = np.exp(ln_a) / 4.0
    edges = quarter * left * right
    model = edges * trough
    slope1 = (quarter * _TWO_OVER_SQRT_PI) * np.exp(-u1 * u1) * right * trough
    slope2 = (quarter * _TWO_OVER_SQRT_PI) * np.exp(-u2 * u2) * left * trough
    depth_rise = edges * depth * rise
    out = np.empty((len(x), 8, x.shape[1]))
    out[:, 0] = model
    out[:, 1] = slope1 * u1
    out[:, 2] = slope2 * u2
    out[:, 3] = edges * rise
    out[:, 4] = b2 * slope2 - b1 * slope1
    out[:, 5] = (
        -power
        * depth_rise
        / np.where(np.abs(distance) < _TINY, np.copysign(_TINY, distance), distance)
    )
    out[:, 6] = w * (b1 * slope1 + b2 * slope2) - power * depth_rise
    out[:, 7] = depth_rise * log_ratio
    return model, out


def _levenberg_marquardt(x, y, weight, theta, *, max_iterations, tolerance):
    """Minimise chi-square for all profiles at once; finished ones leave the batch."""
    theta = np.clip(theta, _LOWER, _UPPER)
    chi_square = np.full(len(x), np.inf)
    converged = np.zeros(len(x), bool)
    active = np.arange(len(x))
    damping = np.full(len(x), 0.2)
    model, jac = _model_and_jacobian(x, theta)
    residual = weight * (y - model)
    jac *= weight[:, None, :]
    chi_square = np.einsum("ij,ij->i", residual, residual)
    gradient = np.matmul(jac, residual[..., None])[..., 0]
    hessian = np.matmul(jac, jac.transpose(0, 2, 1))
    diagonal = np.arange(8)
    for _ in range(max_iterations):
        here = theta[active]
        curvature = hessian[:, diagonal, diagonal]
        damped = hessian.copy()
        damped[:, diagonal, diagonal] += damping[active, None] * curvature + 1e-9
        # A parameter that sits on a bound and is pushed beyond it stays out of the step.
        stuck = ((here <= _LOWER) & (gradient < 0)) | ((here >= _UPPER) & (gradient > 0))
        free = ~stuck
        damped *= free[:, :, None] & free[:, None, :]
        damped[:, diagonal, diagonal] += stuck
        step = np.linalg.solve(damped, (gradient * free)[..., None])[..., 0]
        trial = np.clip(here + np.clip(step, -1.0, 1.0), _LOWER, _UPPER)
        xa, ya, wa = x[active], y[active], weight[active]
        model, jac = _model_and_jacobian(xa, trial)
        residual = wa * (ya - model)
        chi_trial = np.einsum("ij,ij->i", residual, residual)
        better = chi_trial < chi_square[active]
        gain = chi_square[active] - chi_trial
        accepted = active[better]
        theta[accepted], chi_square[accepted] = trial[better], chi_trial[better]
        jac = jac[better]
        jac *= wa[better][:, None, :]
        gradient[better] = np.matmul(jac, residual[better][..., None])[..., 0]
        hessian[better] = np.matmul(jac, jac.transpose(0, 2, 1))
        damping[active] = np.clip(
            np.where(better, damping[active] / 8, damping[active] * 6), 1e-7, 1e9
        )
        done = (better & (gain < tolerance * (1.0 + chi_trial))) | (damping[active] > 1e6)
        converged[active[done]] = True
        active, gradient, hessian = active[~done], gradient[~done], hessian[~done]
        if not len(active):
            break
    return theta, chi_square, converged


def _starting_points(x, y, valid):
    """Two first guesses per profile, horned and rounded, from the smoothed profile."""
    from scipy.ndimage import uniform_filter1d

    width = max(3, x.shape[1] // 24)
    filled = np.where(valid, y, 0.0)
    smooth = uniform_filter1d(filled, width, axis=1, mode="constant")
    peak = np.maximum(smooth.max(1), 1e-3)
    above = smooth > 0.5 * peak[:, None]
    # The run of channels around the peak; gaps up to the trough of a double horn are bridged.
    position = np.arange(x.shape[1])
    flux_above = np.where(smooth > 0.3 * peak[:, None], smooth, 0.0)
    mean = (flux_above * position).sum(1) / flux_above.sum(1)
    spread = np.sqrt((flux_above * (position - mean[:, None]) ** 2).sum(1) / flux_above.sum(1))
    near = above & (np.abs(position - mean[:, None]) < 2.5 * spread[:, None] + 2)
    first = near.argmax(1)
    last = x.shape[1] - 1 - near[:, ::-1].argmax(1)
    rows = np.arange(len(x))
    low, high = x[rows, first], x[rows, last]
    channel = np.abs(x[:, 1] - x[:, 0])
    centre, half = (low + high) / 2, np.maximum((high - low) / 2, channel)
    inside = np.abs(x - centre[:, None]) < 0.5 * half[:, None]
    middle = np.maximum((filled * inside).sum(1) / np.maximum(inside.sum(1), 1), 0.2 * peak)
    zero = np.zeros_like(centre)
    horned = np.stack(
        [np.log(middle * 0.9), np.log(3 / half), np.log(3 / half), zero + 0.4, centre, centre]
        + [np.log(half), zero + 4.0],
        axis=1,
    )
    rounded = np.stack(
        [np.log(peak * 1.3), np.log(1 / half), np.log(1 / half), zero + 0.05, centre, centre]
        + [np.log(half), zero + 2.5],
        axis=1,
    )
    return horned, rounded


def _crossings(x, model, level):
    """First and last crossing of ``level`` (columns left and right), by linear interpolation."""
    rows = np.arange(len(x))
    m = x.shape[1]

    def cross(index, other, value):
        inner, outer = model[rows, index], model[rows, other]
        rise = np.where(inner == outer, 1.0, inner - outer)
        fraction = np.clip((inner - value) / rise, 0.0, 1.0)
        return x[rows, index] + fraction * (x[rows, other] - x[rows, index])

    first = (model >= level[:, :1]).argmax(1)
    last = m - 1 - (model[:, ::-1] >= level[:, 1:]).argmax(1)
    return (
        cross(first, np.maximum(first - 1, 0), level[:, 0]),
        cross(last, np.minimum(last + 1, m - 1), level[:, 1]),
    )


def line_measures(velocity: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Widths, centroid, fluxes and 20 % edges of noiseless profiles.

    Parameters
    ----------
    velocity : numpy.ndarray, shape (n, m)
        Evenly spaced velocities in km/s, ascending.
    model : numpy.ndarray, shape (n, m)
        Non-negative flux densities.

    Returns
    -------
    numpy.ndarray, shape (n, 7)
        See `DERIVED_NAMES`. W50 lies between the outermost velocities at which each side has 50 %
        of its own peak (Springob et al. 2005), the edges are where it has 20 % of it (Watts et
        al. 2020). W20 is the full width at 20 % of the higher peak. Where a horn of less than
        half of the flux is more than twice as high as all else, W20 lies between the edges.

    Examples
    --------
    >>> import numpy as np
    >>> velocity = np.arange(-300.0, 301.0)
    >>> gaussian = np.exp(-0.5 * (velocity / 50) ** 2)
    >>> measures = line_measures(velocity[None], gaussian[None])[0]
    >>> w50 = measures[DERIVED_NAMES.index("w50")]
    >>> print(f"{w50:.1f} km/s; the full width at half maximum is {2.3548 * 50:.1f}")
    117.7 km/s; the full width at half maximum is 117.7
    """
    peak = model.max(1)
    step = velocity[:, 1] - velocity[:, 0]
    flux = model.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):  # no flux has no centroid
        centroid = (model * velocity).sum(1) / flux
    both = np.stack([peak, peak], 1)
    low20, high20 = _crossings(velocity, model, 0.2 * both)
    low50, high50 = _crossings(velocity, model, 0.5 * both)
    split = (low50 + high50) / 2
    # One horn may outshine the rest: the middle of the line is then where half of its flux is.
    running = np.cumsum(model, axis=1)
    above = (velocity >= low50[:, None]) & (velocity <= high50[:, None])
    one_horn = np.where(above, model, 0.0).sum(1) < 0.5 * flux
    half_way = velocity[np.arange(len(model)), (running >= 0.5 * flux[:, None]).argmax(1)]
    split = np.where(one_horn, half_way, split)[:, None]
    peaks = np.stack(
        [
            np.where(velocity <= split, model, 0.0).max(1),
            np.where(velocity >= split, model, 0.0).max(1),
        ],
        axis=1,
    )
    low, high = _crossings(velocity, model, 0.2 * peaks)
    low50, high50 = _crossings(velocity, model, 0.5 * peaks)
    w20 = np.where(one_horn, high - low, high20 - low20)
    return np.stack([high50 - low50, w20, centroid, peak, flux * step, low, high], 1)


def fit_busy_function(
    velocity: np.ndarray,
    flux: np.ndarray,
    noise: np.ndarray,
    baseline_errors: np.ndarray | None = None,
    *,
    max_iterations: int = 100,
    tolerance: float = 2e-5,
    max_reduced_chi_square: float = 2.5,
    chunk: int = 256,
) -> BusyFit:
    """Fit the busy function to many profiles at once.

    A vectorised Levenberg-Marquardt with the analytic Jacobian, two starting points for each
    profile. Profiles are fitted ``chunk`` at a time, so that the working memory does not grow
    with their number.

    Parameters
    ----------
    velocity : numpy.ndarray, shape (n, m)
        Evenly spaced velocities in km/s, ascending.
    flux : numpy.ndarray, shape (n, m)
        Flux densities; NaN marks a channel that is not used.
    noise : numpy.ndarray, shape (n,)
        Standard deviation of one channel, in the unit of ``flux``.
    baseline_errors : numpy.ndarray, shape (n, k, m), optional
        One-sigma shapes of errors that all channels share, such as level and slope of the
        subtracted baseline. They do not weigh the fit, but are in the errors of what is derived.
    max_iterations : int
        Upper limit for each starting point.
    tolerance : float
        Relative decrease of chi-square below which a fit has converged.
    max_reduced_chi_square : float
        Above it a fit is not ``"good"``.
    chunk : int
        Profiles fitted together.

    Returns
    -------
    BusyFit

    Raises
    ------
    ValueError
        If the shapes do not agree or a noise is not positive.

    References
    ----------
    Westmeier et al. (2014), MNRAS 438, 1176, equation 4.
    """
    velocity, flux = np.asarray(velocity, float), np.asarray(flux, float)
    noise = np.asarray(noise, float)
    if velocity.shape != flux.shape or flux.ndim != 2 or noise.shape != flux.shape[:1]:
        msg = f"shapes differ: velocity {velocity.shape}, flux {flux.shape}, noise {noise.shape}"
        raise ValueError(msg)
    if not (noise > 0).all():
        msg = f"noise must be positive, got {noise[~(noise > 0)][0]}"
        raise ValueError(msg)
    parts = [
        _fit_chunk(
            velocity[i : i + chunk],
            flux[i : i + chunk],
            noise[i : i + chunk],
            None if baseline_errors is None else baseline_errors[i : i + chunk],
            max_iterations,
            tolerance,
            max_reduced_chi_square,
        )
        for i in range(0, max(len(flux), 1), chunk)
    ]
    return BusyFit(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _fit_chunk(
    velocity, flux, noise, baseline_errors, max_iterations, tolerance, max_reduced_chi_square
):
    n = len(flux)
    valid = np.isfinite(flux)
    middle = (velocity[:, :1] + velocity[:, -1:]) / 2
    half = (velocity[:, -1:] - velocity[:, :1]) / 2
    unit = np.maximum(np.where(valid, flux, -np.inf).max(1), noise)[:, None]
    x, y = (velocity - middle) / half, np.where(valid, flux, 0.0) / unit
    weight = np.where(valid, unit / noise[:, None], 0.0)

    starts = _starting_points(x, y, valid)
    # A few steps from both starting points, then only the better one to the end.
    short = [
        _levenberg_marquardt(x, y, weight, s, max_iterations=4, tolerance=tolerance) for s in starts
    ]
    second = short[1][1] < short[0][1]
    theta = np.where(second[:, None], short[1][0], short[0][0])
    theta, chi_square, converged = _levenberg_marquardt(
        x, y, weight, theta, max_iterations=max_iterations, tolerance=tolerance
    )

    # What still fits badly gets a second chance from the other start and from tilted troughs.
    expected = np.maximum(valid.sum(1) - 8, 1)
    poor = np.flatnonzero(~converged | (chi_square > expected + 4 * np.sqrt(2 * expected)))
    if len(poor):
        horned = starts[0][poor]
        tilt = np.zeros_like(horned)
        tilt[:, 3], tilt[:, 5] = 1.0, 0.6 * np.exp(horned[:, 6])
        other = np.where(second[poor, None], short[0][0][poor], short[1][0][poor])
        for start in (other, horned + tilt, horned - tilt, theta[poor]):
            again = _levenberg_marquardt(
                x[poor], y[poor], weight[poor], start,
                max_iterations=2 * max_iterations, tolerance=tolerance,
            )  # fmt: skip
            improved = (again[1] < chi_square[poor]) | (again[2] & ~converged[poor])
            improved &= again[1] <= chi_square[poor] * (1 + 1e-9)
            rows = poor[improved]
            theta[rows], chi_square[rows] = again[0][improved], again[1][improved]
            converged[rows] = again[2][improved]

    model, plain = _model_and_jacobian(x, theta)
    jac = plain * weight[:, None, :]
    # Parameters that no channel constrains are held for the covariance. Those on a bound are not:
    # the truth may lie inside, and holding them would make the errors too small.
    hessian = np.matmul(jac, jac.transpose(0, 2, 1))
    diagonal = np.arange(8)
    scale = np.sqrt(np.maximum(hessian[:, diagonal, diagonal], _TINY))
    free = scale > 1e-4
    normal = hessian / (scale[:, :, None] * scale[:, None, :])
    normal *= free[:, :, None] & free[:, None, :]
    # Independent combinations of the parameters with unit variance. However badly parameters are
    # known, a combination changes the model by no more than the noise allows.
    eigenvalue, direction = np.linalg.eigh(normal)
    known = eigenvalue > 1e-10
    length = np.where(known, 1 / np.sqrt(np.where(known, eigenvalue, 1.0)), 0.0)
    combination = direction * length[:, None, :] / scale[:, :, None]
    covariance = combination @ combination.transpose(0, 2, 1)
    deviation = np.sqrt(covariance[:, diagonal, diagonal])
    change = combination.transpose(0, 2, 1) @ plain

    # Line measures have no derivatives in closed form: small steps along each combination.
    derived_x = line_measures(x, model)
    gradient = np.empty((n, len(DERIVED_NAMES), 8))
    step = 0.3
    for k in range(8):
        up, down = model + step * change[:, k], model - step * change[:, k]
        gradient[:, :, k] = (line_measures(x, up) - line_measures(x, down)) / (2 * step)
    response = change * (weight**2)[:, None, :] / unit[:, :, None]
    influence = gradient @ response
    one = np.ones_like(half)
    derived_scale = np.concatenate([half, half, half, unit, unit * half, half, half], axis=1)
    derived_offset = np.concatenate([0 * one, 0 * one, middle, 0 * one, 0 * one, middle, middle], 1)
    influence *= derived_scale[:, :, None]
    derived = derived_x * derived_scale + derived_offset
    variance = (influence**2).sum(2) * noise[:, None] ** 2
    if baseline_errors is not None:
        variance += ((influence @ baseline_errors.transpose(0, 2, 1)) ** 2).sum(2)
    derived_errors = np.sqrt(variance)

    ln_a, ln_b1, ln_b2, depth, xe, xp, ln_w, power = theta.T
    unit_, half_, middle_ = unit[:, 0], half[:, 0], middle[:, 0]
    w = np.exp(ln_w) * half_
    a, b1, b2 = np.exp(ln_a) * unit_, np.exp(ln_b1) / half_, np.exp(ln_b2) / half_
    c = depth * w**-power
    parameters = np.stack(
        [a, b1, b2, c, xe * half_ + middle_, xp * half_ + middle_, w, power], axis=1
    )
    # C = depth * W^-N: its error follows from those of depth, W and N together.
    c_gradient = np.zeros((n, 8))
    c_gradient[:, 3] = w**-power
    c_gradient[:, 6] = -power * c
    c_gradient[:, 7] = -np.log(w) * c
    c_error = np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", c_gradient, covariance, c_gradient), 0))
    factor = np.stack([a, b1, b2, np.ones(n), half_, half_, w, np.ones(n)], axis=1)
    parameter_errors = deviation * factor
    parameter_errors[:, 3] = c_error

    degrees_of_freedom = valid.sum(1) - 8
    reduced = chi_square / np.maximum(degrees_of_freedom, 1)
    edge = np.maximum(model[:, 0], model[:, -1]) > 0.5 * model.max(1)
    # What a line takes off the chi-square of no line at all: noise alone can look like a weak one.
    gain = ((weight * y) ** 2).sum(1) - chi_square
    reasons = [
        (degrees_of_freedom < 1, "too few channels"),
        (~np.isfinite(derived).all(1) | ~np.isfinite(derived_errors).all(1), "not finite"),
        (~converged, "not converged"),
        (reduced > max_reduced_chi_square, "chi-square too large"),
        (edge, "line reaches the window's edge"),
        (gain < _LEAST_GAIN, "no line"),
    ]
    status = np.select([r[0] for r in reasons], [r[1] for r in reasons], default="good")
    return (
        parameters, parameter_errors, derived, derived_errors, model * unit, influence[:, 5:],
        response, change * unit[:, :, None],
        chi_square, degrees_of_freedom, status.astype("<U32"),
    )  # fmt: skip
