"""Speed and quality of the batched busy-function fits.

Prints fits per second and core. With ``--reference COMMAND`` the same spectra are given, one by
one, to another program as ``COMMAND -c 1 2 -n NOISE -noplot FILE`` (the arguments of the C++
BusyFit), in turn with ours, and the ratio is printed; its start-up, measured on a missing file,
is taken off.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import resource
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from skyloom.spectra.hi.busy_function import busy_function, fit_busy_function


def simulate(n: int, rng: np.random.Generator):
    """Profiles of 256 channels with peak S/N 5 to 50."""
    channel = np.arange(256.0)
    half = rng.uniform(10, 70, n)
    centre = 128 + rng.uniform(-20, 20, n)
    power = rng.uniform(1.5, 4, n)
    steep = np.exp(rng.uniform(np.log(0.06), np.log(0.6), (2, n)))
    depth = rng.uniform(0, 2, n) * half**-power
    trough = centre + rng.uniform(-0.2, 0.2, n) * half
    truth = np.stack([np.ones(n), *steep, depth, centre, trough, half, power], axis=1)
    model = busy_function(np.tile(channel, (n, 1)), truth)
    noise = np.exp(rng.uniform(np.log(1 / 50), np.log(1 / 5), n)) * model.max(1)
    return (
        np.tile(channel, (n, 1)),
        model,
        model + noise[:, None] * rng.normal(size=model.shape),
        noise,
    )


def run_reference(command: str, velocity, flux, noise) -> tuple[float, np.ndarray]:
    """CPU seconds of the other program without its start-up, and its chi-squares."""
    with tempfile.TemporaryDirectory() as folder:
        for i in range(len(flux)):
            np.savetxt(Path(folder) / f"{i}.txt", np.stack([velocity[i], flux[i]], 1), fmt="%.8g")

        def cpu(names):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            for name, sigma in names:
                subprocess.run(
                    [command, "-c", "1", "2", "-n", f"{sigma:.8g}", "-noplot", name],
                    cwd=folder, capture_output=True, check=False,
                )  # fmt: skip
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        start_up = cpu([("missing.txt", 1.0)] * 20) / 20
        spent = cpu([(f"{i}.txt", noise[i]) for i in range(len(flux))])
        rows = (Path(folder) / "busyfit_history.txt").read_text().splitlines()
    table = np.array(
        [[float(x) for x in row.split("\t")[1:7] if x] for row in rows if row[:1] != "#"]
    )
    return spent - start_up * len(flux), table[:, 3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--reference", help="path of the C++ program")
    arguments = parser.parse_args()
    velocity, model, flux, noise = simulate(arguments.n, np.random.default_rng(1))
    fit_busy_function(velocity[:10], flux[:10], noise[:10])
    ours, theirs = [], []
    for _ in range(arguments.repeats):
        start = time.process_time()
        fit = fit_busy_function(velocity, flux, noise)
        ours.append(time.process_time() - start)
        if arguments.reference:
            spent, chi_square = run_reference(arguments.reference, velocity, flux, noise)
            theirs.append(spent)
    true = (((flux - model) / noise[:, None]) ** 2).sum(1)
    print(f"fits per second and core, errors included: {arguments.n / np.median(ours):.0f}")
    print(f"good: {np.mean(fit.status == 'good'):.3f}")
    print(f"chi-square minus that of the truth, median: {np.median(fit.chi_square - true):.2f}")
    print(f"stuck more than 10 above it: {np.mean(fit.chi_square > true + 10):.4f}")
    if theirs:
        print(f"reference: {arguments.n / np.median(theirs):.0f} fits per second and core")
        print(f"ratio, run by run: {[round(t / o, 1) for o, t in zip(ours, theirs, strict=True)]}")
        print(f"its chi-square minus that of the truth, median: {np.median(chi_square - true):.2f}")
        print(f"stuck more than 10 above it: {np.mean(chi_square > true + 10):.4f}")


if __name__ == "__main__":
    main()
