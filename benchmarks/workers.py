"""Many single-threaded workers or few with more threads: which fits faster, by image size.

    python benchmarks/workers.py [--turns 3]

What `skyloom.compute.plan_workers` chooses rests on this. Each sharing of the cores fits the same
published networks, ``--turns`` times in turn. Writes ``benchmarks/results/workers.csv``.
"""

from __future__ import annotations

import argparse
import os
import time

import pandas as pd
from sweep import WIDTHS, audit, pictures, sample, sweep_for

from skyloom.compute import ClusterParameters

SIZES, EPOCHS = (24, 48, 64, 96), 10


def seconds(data, size, images, n_workers, threads, epochs):
    """Of six fits through the engine."""
    sweep = sweep_for(size, quadrant=True)
    loaded = {sweep.base.input_variant: lambda: images}
    cluster = ClusterParameters(n_workers=n_workers, threads_per_fit=threads)
    grid = {"test_sizes": [0.5], "epochs": [epochs], "widths": WIDTHS[:1]}
    start = time.perf_counter()
    audit(*data, loaded, sweep, grid, cluster)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=1)
    turns = parser.parse_args().turns
    profiles, flux, fits, classes = sample()
    cores, rows = os.cpu_count(), []
    for size in SIZES:
        ((_, images),) = pictures(profiles, flux, fits, size, True).items()
        for turn in range(turns):
            for n_workers, threads in ((cores, 1), (cores // 2, 2)):
                # The start of the workers and the tracing cancel out.
                few, many = (
                    seconds((profiles, classes), size, images, n_workers, threads, epochs)
                    for epochs in (2, 2 + EPOCHS)
                )
                rows.append((size, turn, n_workers, threads, many - few))
                print(*rows[-1], flush=True)
    table = pd.DataFrame(rows, columns=["size", "turn", "n_workers", "threads", "seconds"])
    mean = table.pivot_table("seconds", "size", "threads")
    mean["single_threaded_times_faster"] = mean[2] / mean[1]
    print(mean.round(2))
    mean.round(2).to_csv("benchmarks/results/workers.csv")


if __name__ == "__main__":
    main()
