"""Simulated cut-outs and prepared images a second, on one core.

Run with one thread: ``OMP_NUM_THREADS=1 python benchmarks/radio_galaxies.py``.
"""

from __future__ import annotations

import time

import numpy as np

from skyloom.pipelines.radio_galaxies.features import prepare_images
from skyloom.pipelines.radio_galaxies.parameters import FeatureParameters
from skyloom.simulate.radio_galaxies import draw_truth, observe

N_IMAGES, N_TURNS = 2000, 5


def rate(work) -> str:
    """Images a second: median and range of some turns."""
    rates = []
    for _ in range(N_TURNS):
        start = time.process_time()  # of this process alone, also on a busy machine
        work()
        rates.append(N_IMAGES / (time.process_time() - start))
    return f"{np.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f}) a second of one core"


def main() -> None:
    rng = np.random.default_rng(0)
    truth = draw_truth(N_IMAGES, rng)
    print("truth of 150 x 150 cut-outs:", rate(lambda: draw_truth(N_IMAGES, rng)))
    print("their images:", rate(lambda: observe(truth, rng)))
    images = observe(truth, rng)
    print("prepared at 64 pixels:", rate(lambda: prepare_images(images, FeatureParameters())))


if __name__ == "__main__":
    main()
