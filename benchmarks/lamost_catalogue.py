"""A catalogue of ten million rows: written, merely read, and split by spectral class.

Run ``python benchmarks/lamost_catalogue.py [rows]``; it needs 4 GB in the temporary folder for ten
million, and as much again for the parts. Each step is a process of its own, so that its peak
memory is its own.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from skyloom.archives.lamost import split_catalogue
from skyloom.simulate.lamost_catalogue import write_catalogue

RESULTS = Path(__file__).parent / "results"


def read_only(path: Path) -> None:
    """Parse every column as text and do nothing with it."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET memory_limit = '512MB'")
    query = "SELECT * FROM read_csv(?, all_varchar = true, header = true)"
    for batch in connection.sql(query, params=[str(path)]).to_arrow_reader(100_000):
        batch.nbytes  # noqa: B018  # as if it were used


def step(name: str, folder: Path, n: int) -> None:
    """One of the steps; prints seconds and the peak memory of this process in GB."""
    plain, packed = folder / "catalogue.csv", folder / "catalogue.csv.gz"
    steps = {
        "write": lambda: write_catalogue(plain, n, np.random.default_rng(0)),
        "read": lambda: read_only(plain),
        "split": lambda: split_catalogue(plain, folder / "parts"),
        "write gzip": lambda: write_catalogue(packed, n, np.random.default_rng(0)),
        "read gzip": lambda: read_only(packed),
        "split gzip": lambda: split_catalogue(packed, folder / "parts_of_gzip"),
    }
    start = time.perf_counter()
    steps[name]()
    seconds = time.perf_counter() - start
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("write", "read", "split", "write gzip", "read gzip", "split gzip"):
            command = [sys.executable, __file__, "--step", name, folder, str(n)]
            shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds, memory = map(float, shown.split())
            rows.append((name, n, seconds, memory))
            print(f"{name}: {n} rows, {seconds:.1f} s, at most {memory:.2f} GB", flush=True)
    table = pd.DataFrame(rows, columns=["step", "rows", "seconds", "peak_memory_gb"])
    table.round(3).to_csv(RESULTS / "lamost_catalogue.csv", index=False)


if __name__ == "__main__":
    if "--step" in sys.argv:
        step(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
