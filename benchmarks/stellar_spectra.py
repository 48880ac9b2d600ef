"""Spectra through the features: lines measured, spectra prepared, inputs of the network drawn.

Run ``python benchmarks/stellar_spectra.py [numbers of spectra ...]``; a hundred thousand need 8 GB
in the temporary folder. Two thousand simulated spectra are read again and again. Each number is a
process of its own, so that its peak memory is its own; memory is what is not backed by a file
(arrays that are memory-mapped are not counted), in the whole process.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

from skyloom.datasets import NpyDataset
from skyloom.learning.fitting import TrainingParameters
from skyloom.pipelines.stellar_spectra.features import draw_inputs, measure_stars, prepare_sample
from skyloom.pipelines.stellar_spectra.ingestion import configure_sweep
from skyloom.pipelines.stellar_spectra.parameters import (
    AugmentationParameters,
    FeatureParameters,
    NetworkParameters,
    SweepsParameters,
)
from skyloom.simulate.stellar_spectra import N_PIXELS, draw_truth, observe, wavelength_grid

RESULTS = Path(__file__).parent / "results"
DISTINCT = 2000


def stack() -> tuple[pd.DataFrame, np.ndarray]:
    """Some simulated stars, and their spectra as they are read."""
    rng = np.random.default_rng(0)
    truth = draw_truth(DISTINCT, rng)
    flux, weight = observe(truth, rng)
    columns = np.zeros((*flux.shape, 4), np.float32)
    columns[..., 0], columns[..., 1], columns[..., 2] = wavelength_grid(), flux, weight
    return truth, columns.reshape(-1, 4)


def write(folder: Path, n: int) -> None:
    """A table of stars and their stacked spectra, the same ones again and again."""
    truth, columns = stack()
    whole = np.lib.format.open_memmap(folder / "stack.npy", "w+", np.float32, (n * N_PIXELS, 4))
    for first in range(0, len(whole), len(columns)):
        part = whole[first : first + len(columns)]
        part[:] = columns[: len(part)]
    stars = truth.iloc[np.arange(n) % DISTINCT].reset_index(drop=True)
    stars["id"] = [f"S{k}" for k in range(n)]
    stars = stars.assign(n_pixels=N_PIXELS, keep=True, reason="", value="")
    stars.to_pickle(folder / "stars.pkl")


def step(folder: Path) -> None:
    """All of the features; prints seconds of each part and the peak memory in GB."""
    stars = pd.read_pickle(folder / "stars.pkl")
    spectra = NpyDataset(filepath=str(folder / "stack.npy")).load()
    sweeps = SweepsParameters(chosen="a", named={"a": {"grid": {"features.form": ["spectrum"]}}})
    sweep = configure_sweep(
        sweeps, FeatureParameters(), AugmentationParameters(), NetworkParameters(),
        TrainingParameters(),
    )  # fmt: skip
    peak, done = [0.0], threading.Event()

    def watch():
        while not done.wait(0.2):
            status = Path("/proc/self/status").read_text()
            (anonymous,) = re.findall(r"RssAnon:\s+(\d+) kB", status)
            peak[0] = max(peak[0], 1024 * float(anonymous))

    threading.Thread(target=watch, daemon=True).start()
    start = time.perf_counter()
    measure_stars(stars, spectra, sweep)
    measured = time.perf_counter()
    prepared = {}
    for name, flux in prepare_sample(stars, spectra, sweep).items():
        prepared[name] = NpyDataset(filepath=str(folder / "prepared.npy"))
        prepared[name].save(flux)
    ready = time.perf_counter()
    (inputs,) = draw_inputs({name: each.load for name, each in prepared.items()}, sweep).values()
    NpyDataset(filepath=str(folder / "inputs.npy")).save(inputs)
    end = time.perf_counter()
    done.set()
    print(measured - start, ready - measured, end - ready, peak[0] / 1e9)


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:]] or [10_000, 100_000]
    rows = []
    for n in numbers:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), n)
            command = [sys.executable, __file__, "--step", folder]
            shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows.append((n, *map(float, shown.split())))
            print(dict(zip(COLUMNS, rows[-1], strict=True)), flush=True)
    pd.DataFrame(rows, columns=COLUMNS).round(2).to_csv(
        RESULTS / "stellar_spectra.csv", index=False
    )


COLUMNS = ["spectra", "measure_seconds", "prepare_seconds", "inputs_seconds", "peak_memory_gb"]

if __name__ == "__main__":
    if "--step" in sys.argv:
        step(Path(sys.argv[2]))
    else:
        main()
