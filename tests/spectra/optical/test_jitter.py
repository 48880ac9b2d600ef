"""Changed copies differ as much as they are told to."""

import numpy as np
import pytest

from skyloom.spectra.optical.jitter import changed_copies

STEP = 5e-4
STILL = {"step": STEP, "velocity": 0, "noise": 0, "tilt": 0}


def test_jitter_changes_as_much_as_it_is_told():
    rng = np.random.default_rng(0)
    flux = 1 - 0.5 * np.exp(-0.5 * ((np.arange(400) - 200) / 4) ** 2)[None]
    same = changed_copies(flux, 3, rng, **STILL)
    np.testing.assert_allclose(same, np.repeat(flux, 3, axis=0), atol=1e-6)
    moved = changed_copies(flux, 2000, rng, **STILL | {"velocity": 600.0})
    middle = (np.arange(400) * (1 - moved)).sum(axis=1) / (1 - moved).sum(axis=1)
    pixel = 299792.458 * np.log(10) * STEP  # km/s
    assert (middle - 200).std() * pixel == pytest.approx(600, rel=0.08)
    noisy = changed_copies(flux, 500, rng, **STILL | {"noise": 0.1})
    assert (noisy - flux).std() == pytest.approx(0.1, rel=0.02)
    tilted = changed_copies(flux, 2000, rng, **STILL | {"tilt": 0.05})
    assert tilted[:, -1].std() == pytest.approx(0.05, rel=0.08)
    np.testing.assert_allclose(tilted[:, 0] + tilted[:, -1], 2, atol=1e-3)
