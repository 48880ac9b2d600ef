"""Made-up spectra of stars as a survey like LAMOST would observe them, with known truth."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from skyloom.spectra.constants import SPEED_OF_LIGHT
from skyloom.spectra.optical.spectral_types import CLASSES
from skyloom.spectra.optical.spectrum import OpticalSpectrum

if TYPE_CHECKING:
    from astropy.io import fits

RESOLUTION = 1800.0
LOG_START, LOG_STEP, N_PIXELS = 3.5682, 1e-4, 3909  # LAMOST: 3700 to 9099 Angstrom
# Effective temperatures of the subtypes 0 and 10, K.
TEMPERATURES = {
    "O": (46e3, 30e3), "B": (30e3, 10e3), "A": (10e3, 7500.0), "F": (7500.0, 6000.0),
    "G": (6000.0, 5200.0), "K": (5200.0, 3800.0), "M": (3800.0, 2500.0),
}  # fmt: skip
_SPLICE = (5700.0, 5900.0)  # Angstrom, where the arms overlap
_SKY = (5578.9, 6302.0, 6365.5)  # Angstrom, in vacuum: residuals of the brightest lines
_TELLURIC = ((6869.0, 6945.0, 0.15), (7596.0, 7700.0, 0.4))  # bands of oxygen and their depths
_CHUNK = 1000

# Lines (Angstrom in vacuum): temperature at which they are strongest (K), width of that in
# ln(T) to the hot and to the cool side, and optical depth in the middle at this resolution.
_HYDROGEN = ((6564.6, 0.9), (4862.7, 0.9), (4341.7, 0.85), (4102.9, 0.8), (3971.2, 0.75),
             (3890.2, 0.7), (3836.5, 0.65), (3798.9, 0.6), (3771.7, 0.5), (3751.2, 0.4),
             (3735.4, 0.35), (3722.9, 0.3))  # fmt: skip
_LINES = (
    # He II: O stars only
    *((wavelength, 48e3, 9.0, 0.22, depth)
      for wavelength, depth in ((4201.0, 0.2), (4542.8, 0.25), (4687.0, 0.3), (5413.0, 0.3))),
    # He I: strongest in early B
    *((wavelength, 21e3, 0.45, 0.30, depth)
      for wavelength, depth in ((4027.3, 0.25), (4144.9, 0.1), (4389.2, 0.15), (4472.7, 0.3),
                                (4923.3, 0.18), (5017.1, 0.15), (5877.2, 0.3), (6680.0, 0.2),
                                (7067.2, 0.15))),
    # Si III, C III and the like of O9 to B2
    *((wavelength, 26e3, 0.2, 0.2, 0.1) for wavelength in (4553.9, 4569.1, 4648.7, 4071.0)),
    # Mg II of late B and A
    (4482.4, 9500.0, 0.3, 0.3, 0.15),
    # Ca II K and H, the infrared triplet
    (3934.8, 4300.0, 0.33, 9.0, 2.2), (3969.6, 4300.0, 0.33, 9.0, 1.8),
    (8500.4, 4500.0, 0.45, 0.9, 0.35), (8544.4, 4500.0, 0.45, 0.9, 0.6),
    (8664.5, 4500.0, 0.45, 0.9, 0.5),
    # Ca I, Mg b, Na D
    (4227.9, 3700.0, 0.25, 9.0, 1.1), (5168.8, 4100.0, 0.24, 0.5, 0.45),
    (5174.1, 4100.0, 0.24, 0.5, 0.6), (5185.0, 4100.0, 0.24, 0.5, 0.7),
    (5891.6, 3600.0, 0.32, 9.0, 0.8), (5897.6, 3600.0, 0.32, 9.0, 0.7),
    # Fe I and other metals
    *((wavelength, 4500.0, 0.22, 0.6, depth)
      for wavelength, depth in (
          (3738.2, 0.4), (3759.3, 0.4), (3821.5, 0.4), (3861.0, 0.4), (4046.9, 0.35),
          (4064.7, 0.3), (4072.9, 0.25), (4133.2, 0.25), (4144.6, 0.25), (4261.7, 0.25),
          (4273.0, 0.3), (4326.9, 0.35), (4384.8, 0.45), (4405.9, 0.3), (4416.3, 0.2),
          (4529.9, 0.2), (4669.4, 0.15), (4872.6, 0.15), (4892.1, 0.2), (4921.9, 0.2),
          (4958.7, 0.25), (5008.0, 0.15), (5042.2, 0.15), (5112.0, 0.12), (5229.0, 0.25),
          (5271.7, 0.35), (5329.9, 0.3), (5372.9, 0.2), (5398.6, 0.2), (5407.3, 0.2),
          (5431.2, 0.2), (5448.4, 0.2), (5588.3, 0.15), (5617.2, 0.12), (6104.4, 0.1),
          (6123.9, 0.12), (6163.9, 0.15), (6232.4, 0.1), (6395.4, 0.1), (6496.6, 0.15),
          (8690.9, 0.12))),
)  # fmt: skip
# Bands: blue and red end, temperature where they are strongest, widths, optical depth at the head.
# The G band is flat, molecules of M stars step down at the head and recover redward.
_G_BAND = (4290.0, 4316.0, 4900.0, 0.17, 0.35, 0.6)
_TIO = ((4762.0, 4955.0, 0.5), (4955.5, 5165.0, 0.8), (5168.5, 5445.0, 1.0), (5449.0, 5595.0, 0.5),
        (5847.0, 6155.0, 0.8), (6160.5, 6510.0, 0.9), (6653.0, 6780.0, 0.6), (7055.0, 7580.0, 1.3),
        (7591.0, 7900.0, 0.8), (8433.0, 8700.0, 0.5))  # fmt: skip
_CAH = (6750.0, 7050.0, 0.5)


def wavelength_grid() -> np.ndarray:
    """Wavelengths of a LAMOST spectrum.

    Returns
    -------
    numpy.ndarray, shape (3909,)
        Angstrom, in vacuum.
    """
    return 10 ** (LOG_START + LOG_STEP * np.arange(N_PIXELS))


def draw_truth(
    n: int,
    rng: np.random.Generator,
    *,
    class_shares: tuple[float, ...] = (1.0,) * 7,
    snr: tuple[float, float] = (8.0, 100.0),
    velocity: float = 60.0,
    reddening: float = 0.2,
    calibration: float = 0.05,
    scatter: float = 0.15,
) -> pd.DataFrame:
    """Draw stars and how they are observed.

    Parameters
    ----------
    n : int
        Stars.
    rng : numpy.random.Generator
        Draws them.
    class_shares : tuple of 7 float
        Of O, B, A, F, G, K, M; as nearly as integers can have them, in random order.
    snr : tuple of 2 float
        Least and largest signal-to-noise ratio of a pixel in the g band, log-uniform.
    velocity : float
        Standard deviation of radial velocities, km/s.
    reddening : float
        Mean E(B-V), mag, exponentially distributed.
    calibration : float
        Standard deviation of the relative step between the arms, and of the tilt of each.
    scatter : float
        Standard deviation of the natural logarithm of line strengths from star to star.

    Returns
    -------
    pandas.DataFrame
        ``id``, ``class``, ``subtype`` (0 to 10), ``temperature`` (K), ``gravity`` (log g, cgs),
        ``metallicity`` and ``hydrogen`` (natural logarithm of a factor on line strengths),
        ``velocity`` (km/s), ``velocity_error``, ``reddening`` (mag), ``snr``, ``step``,
        ``tilt_blue``, ``tilt_red``, ``sky`` (residual in units of the noise), ``ra``, ``dec``
        (deg).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> truth = draw_truth(7, rng)
    >>> "".join(sorted(truth["class"]))
    'ABFGKMO'
    >>> flux, inverse_variance = observe(truth, rng)
    >>> flux.shape
    (7, 3909)
    """
    shares = np.asarray(class_shares, float) / np.sum(class_shares)
    edges = np.round(np.cumsum(shares) * n).astype(int)
    number = rng.permutation(np.searchsorted(edges, np.arange(n), side="right"))
    ends = np.array([TEMPERATURES[name] for name in CLASSES])[number]
    subtype = rng.uniform(0, 10, n)
    temperature = np.exp(np.log(ends[:, 0]) + subtype / 10 * np.log(ends[:, 1] / ends[:, 0]))
    giant = rng.random(n) < np.where(number >= 4, 0.35, 0.15)
    low, high = np.log(snr)
    return pd.DataFrame(
        {
            "id": [f"SIM{k:07d}" for k in range(n)],
            "class": np.array(CLASSES)[number],
            "subtype": subtype,
            "temperature": temperature,
            "gravity": np.where(giant, rng.normal(2.5, 0.4, n), rng.normal(4.3, 0.2, n)),
            "metallicity": rng.normal(-0.1, 2 * scatter, n),
            "hydrogen": rng.normal(0, scatter, n),
            "velocity": rng.normal(0, velocity, n),
            "velocity_error": rng.gamma(4, 1.5, n),
            "reddening": rng.exponential(reddening, n),
            "snr": np.exp(rng.uniform(low, high, n)),
            "step": rng.normal(0, calibration, n),
            "tilt_blue": rng.normal(0, calibration, n),
            "tilt_red": rng.normal(0, calibration, n),
            "sky": rng.gamma(2, 1.0, n),
            "ra": rng.uniform(0, 360, n),
            "dec": np.degrees(np.arcsin(rng.uniform(-0.15, 0.87, n))),
        }
    )


def emitted(truth: pd.DataFrame) -> np.ndarray:
    """Spectra of stars at rest, without reddening and noise.

    Parameters
    ----------
    truth : pandas.DataFrame
        From `draw_truth`.

    Returns
    -------
    numpy.ndarray, shape (n, 3909)
        Flux per wavelength, relative to that at 5500 Angstrom, at the survey's resolution.
    """
    wavelength = wavelength_grid()
    temperature = truth["temperature"].to_numpy()[:, None]
    energy = 1.438777e8 / (wavelength * temperature)  # hc / (lambda k T)
    reference = 1.438777e8 / (5500 * temperature)
    continuum = (5500 / wavelength) ** 5 * np.expm1(reference) / np.expm1(energy)
    return continuum * np.exp(-_strengths(truth) @ _profiles())


@functools.cache
def _profiles():
    """Optical depth of one unit of strength of each feature, shape (features, 3909)."""
    from scipy.special import expit

    wavelength = wavelength_grid()

    def gaussian(middle, width=0.0):
        sigma = np.hypot(middle / RESOLUTION / 2.3548, width)
        return np.exp(-0.5 * ((wavelength - middle) / sigma) ** 2)

    def lorentz(middle, width):
        return 1 / (1 + ((wavelength - middle) / width) ** 2)

    narrow = sum(depth * gaussian(middle, 1.5) for middle, depth in _HYDROGEN)
    wings = sum(depth * lorentz(middle, 9.0 * (middle / 4862.7)) for middle, depth in _HYDROGEN)
    lines = [gaussian(line[0], 0.8 if line[4] < 1 else 4.0) for line in _LINES]

    def band(blue, red, head):
        """A step at the head that recovers along the band."""
        ramp = np.where(wavelength < red, (red - wavelength) / (red - blue), 0)
        step = expit((wavelength - blue) / (blue / RESOLUTION / 2))
        return head * step * np.clip(ramp, 0, 1)

    blue, red = _G_BAND[:2]
    g_band = expit((wavelength - blue) / 2) * expit((red - wavelength) / 2)
    tio = sum(band(*each) for each in _TIO)
    return np.stack([narrow, wings, *lines, g_band, tio, band(*_CAH)])


def _strengths(truth):
    """Strength of each feature in each star, shape (n, features)."""
    temperature, gravity = truth["temperature"].to_numpy(), truth["gravity"].to_numpy()
    metals, hydrogen = np.exp(truth["metallicity"].to_numpy()), np.exp(truth["hydrogen"].to_numpy())

    def rise_and_fall(strongest, hot, cool):
        distance = np.log(temperature / strongest)
        return np.exp(-0.5 * (distance / np.where(distance > 0, hot, cool)) ** 2)

    # Balmer lines are strongest in A0; the wings need the pressure of a dwarf.
    balmer = hydrogen * (0.08 + 0.92 * rise_and_fall(9500.0, 0.45, 0.24))
    balmer = balmer * np.clip((temperature - 3300) / 900, 0, 1)
    wings = (
        0.75 * balmer * rise_and_fall(9500.0, 0.5, 0.2) * np.clip((gravity - 1.5) / 2.8, 0.1, 1.2)
    )
    lines = [
        depth * rise_and_fall(strongest, hot, cool) * (hydrogen if strongest > 12e3 else metals)
        for _, strongest, hot, cool, depth in _LINES
    ]
    g_band = _G_BAND[5] * metals * rise_and_fall(*_G_BAND[2:5])
    molecules = np.clip((4050 - temperature) / 1300, 0, 1.2)
    dwarf = np.clip((gravity - 2.5) / 2, 0.1, 1)
    return np.stack(
        [balmer, wings, *lines, g_band, molecules * np.sqrt(metals), molecules * dwarf], axis=1
    )


def observe(truth: pd.DataFrame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Spectra as the survey would have them.

    Parameters
    ----------
    truth : pandas.DataFrame
        From `draw_truth`.
    rng : numpy.random.Generator
        Draws the noise.

    Returns
    -------
    flux : numpy.ndarray of float32, shape (n, 3909)
        Counts, about 1000 in the g band: shifted by the radial velocity, reddened, with a step
        between the two arms, residuals of sky lines, telluric bands and noise.
    inverse_variance : numpy.ndarray of float32, shape (n, 3909)
        That of the noise alone; sky residuals and calibration are not in it, as in the survey.
    """
    flux, inverse_variance = np.empty((2, len(truth), N_PIXELS), np.float32)
    for first in range(0, len(truth), _CHUNK):
        part = slice(first, first + _CHUNK)
        flux[part], inverse_variance[part] = _observe(truth.iloc[part], rng)
    return flux, inverse_variance


def _observe(truth, rng):
    wavelength = wavelength_grid()
    column = {
        name: truth[name].to_numpy()[:, None] for name in truth if name not in ("id", "class")
    }
    light = _shifted(emitted(truth), truth["velocity"].to_numpy())
    # Cardelli, Clayton & Mathis (1989) in the optical, to a few hundredths.
    light = light * 10 ** (-0.4 * 3.1 * column["reddening"] * (5500 / wavelength) ** 1.3)
    g_band = (wavelength > 4000) & (wavelength < 5500)
    light = 1000 * light / np.median(light[:, g_band], axis=1, keepdims=True)
    # Each arm is calibrated by itself; they are joined where they overlap.
    low, high = _SPLICE
    red_arm = np.clip((wavelength - low) / (high - low), 0, 1)
    blue = 1 + column["tilt_blue"] * (wavelength - 4700) / 1000
    red = (1 + column["step"]) * (1 + column["tilt_red"] * (wavelength - 7400) / 1700)
    light = light * (blue * (1 - red_arm) + red * red_arm)
    for start, end, depth in _TELLURIC:
        inside = (wavelength > start) & (wavelength < end)
        light[:, inside] *= 1 - depth * rng.uniform(0.1, 1, (len(truth), 1))
    # Photons: blue-ward the spectrograph loses most of them, and where the arms meet.
    throughput = np.clip((wavelength - 3500) / 900, 0.1, 1) * (
        1 - 0.75 * np.exp(-0.5 * ((wavelength - 5800) / 80) ** 2)
    )
    noise = 1000 / column["snr"] * np.sqrt(np.clip(light, 50, None) / 1000 / throughput)
    flux = light + noise * rng.standard_normal(light.shape)
    for middle in _SKY:
        residual = np.exp(-0.5 * ((wavelength - middle) / 3) ** 2)
        flux += column["sky"] * noise * residual * rng.normal(0, 3, (len(truth), 1))
    return flux, 1 / noise**2


def _shifted(flux, velocity):
    """Spectra shifted in wavelength; on a logarithmic grid this is a number of pixels."""
    shift = np.log10(1 + velocity / SPEED_OF_LIGHT) / LOG_STEP
    place = np.clip(np.arange(N_PIXELS) - shift[:, None], 0, N_PIXELS - 1.001)
    whole = place.astype(int)
    share = place - whole
    left, right = (np.take_along_axis(flux, whole + k, axis=1) for k in (0, 1))
    return (1 - share) * left + share * right


def observed_spectra(truth: pd.DataFrame, rng: np.random.Generator) -> list[OpticalSpectrum]:
    """Observe stars, as a reader would give their spectra.

    Parameters
    ----------
    truth : pandas.DataFrame
        From `draw_truth`.
    rng : numpy.random.Generator
        Draws what the observation adds.

    Returns
    -------
    list of skyloom.spectra.optical.spectrum.OpticalSpectrum
        In vacuum; their radial velocities have an error, as observed ones do.
    """
    flux, inverse_variance = observe(truth, rng)
    wavelength, nothing = wavelength_grid(), np.zeros(flux.shape[1], bool)
    velocities = truth["velocity"] + truth["velocity_error"] * rng.standard_normal(len(truth))
    return [
        OpticalSpectrum(
            wavelength, one.astype(float), weight.astype(float), nothing, "simulation",
            medium="vacuum", radial_velocity=velocity,
        )
        for one, weight, velocity in zip(flux, inverse_variance, velocities, strict=True)
    ]  # fmt: skip


def to_hdu(row: pd.Series, flux: np.ndarray, inverse_variance: np.ndarray) -> fits.PrimaryHDU:
    """A spectrum as the archive gives it: rows of flux, inverse variance, wavelength and masks.

    Parameters
    ----------
    row : pandas.Series
        Of `draw_truth`.
    flux, inverse_variance : numpy.ndarray, shape (3909,)
        Of `observe`.

    Returns
    -------
    astropy.io.fits.PrimaryHDU
    """
    from astropy.io import fits

    masks = np.zeros((2, N_PIXELS), np.float32)
    rows = np.vstack([flux, inverse_variance, wavelength_grid(), masks]).astype(np.float32)
    hdu = fits.PrimaryHDU(rows)
    hdu.header.update(
        {
            "TELESCOP": "LAMOST", "ORIGIN": "Skyloom simulation", "OBSID": row["id"],
            "RA": round(row["ra"], 6), "DEC": round(row["dec"], 6), "VACUUM": True,
            "COEFF0": LOG_START, "COEFF1": LOG_STEP, "CLASS": "STAR",
            "SUBCLASS": f"{row['class']}{min(int(row['subtype']), 9)}",
            "Z": row["velocity"] / SPEED_OF_LIGHT, "SNRG": round(row["snr"], 2),
        }
    )  # fmt: skip
    return hdu
