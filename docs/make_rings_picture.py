"""Draw docs/rings.png: three made-up galaxies with their ring images."""

from pathlib import Path

import numpy as np
from PIL import Image

from skyloom.images.rings import render_rings
from skyloom.plots.style import BLUE, GREY, RED, new_figure
from skyloom.simulate.hi_profiles import draw_truth, observe
from skyloom.spectra.hi.busy_function import fit_busy_function
from skyloom.spectra.hi.preparation import prepare_profile
from skyloom.spectra.hi.spectrum import Spectrum

TARGET = Path(__file__).with_name("rings.png")
TITLES = ("1: profile along the radius", "2: right minus left", "3: model 2, own range")

truth = draw_truth(800, np.random.default_rng(3), snr_median=60.0)
horned = truth["shape"] == "double-horned"
unequal = truth["channel_asymmetry"]
choices = {
    "symmetric": horned & (truth["a_flux"] < 1.02) & (unequal < 0.02),
    "lopsided": horned & truth["a_flux"].between(1.25, 1.5),
    "equal fluxes, unequal sides": (truth["a_flux"] < 1.06) & (unequal > 0.13),
}

figure = new_figure(9, 7.4)
axes = figure.subplots(len(choices), 4, width_ratios=[1.8, 1, 1, 1])
for row, (name, chosen) in enumerate(choices.items()):
    galaxy = truth[chosen].iloc[0]
    spectrum = Spectrum(*observe(galaxy, np.random.default_rng(row)))
    profile = prepare_profile(spectrum, resolution=5.0)
    channels = np.arange(profile.flux.size)
    velocity = (profile.velocity_start + profile.channel_width * channels)[None]
    flux = profile.flux[None]
    fit = fit_busy_function(velocity, flux, np.array([profile.noise]))
    _, w20, _, peak, _, low, high = fit.derived[0]
    fold = (low + high) / 2
    images = render_rings(
        np.where(np.isfinite(flux), flux, fit.model) / peak,
        velocity[:, 0],
        np.array([profile.channel_width]),
        np.array([fold]),
        np.array([1.3 * w20 / 2]),
        size=96,
    )[0]
    axis = axes[row, 0]
    axis.step(velocity[0], flux[0], where="mid", color=GREY, lw=0.8, label="observed")
    axis.plot(velocity[0], fit.model[0], color=RED, lw=1.5, label="busy function")
    axis.axvline(fold, color=BLUE, ls="--", lw=1, label="fold")
    axis.set(xlabel="velocity (km/s)", ylabel="flux density (mJy)")
    index = f"A_flux {galaxy['a_flux']:.2f}, channel index {galaxy['channel_asymmetry']:.2f}"
    axis.set_title(f"{name}: {index}", fontsize=8)
    if row == 0:
        axis.legend(fontsize=7)
    for k, image in enumerate(images):
        panel = axes[row, k + 1]
        panel.imshow(image, cmap="RdBu", vmin=0 if k == 0 else -1, vmax=1)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_title(TITLES[k], fontsize=8)
figure.savefig(TARGET, dpi=110)
Image.open(TARGET).convert("RGB").quantize(256).save(TARGET, optimize=True)
