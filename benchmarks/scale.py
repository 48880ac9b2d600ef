"""Time and peak memory of simulation, ingestion and features as the sample grows.

Each size runs in a process of its own, through Kedro, in an empty folder.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
STEPS = ("simulation", "ingestion", "features")


def one(folder: Path, step: str, n: int) -> None:
    """Run one step in this process and print its time and memory."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(folder)
    parameters = {
        "hi_profiles": {
            "simulation": {"n_profiles": n},
            "features": {"size": 128, "quadrant": False},
        }
    }
    start = time.perf_counter()
    with KedroSession.create(folder, env="base", runtime_params=parameters) as session:
        session.run(pipeline_names=[f"hi_profiles.{step}"])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"RESULT {n} {step} {time.perf_counter() - start:.1f} {memory:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[318, 3000, 30780])
    parser.add_argument("--one", nargs=3, metavar=("FOLDER", "STEP", "N"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        folder, step, n = arguments.one
        one(Path(folder), step, int(n))
        return
    print(f"{'profiles':>8} {'step':<11} {'seconds':>8} {'ms each':>8} {'peak MB':>8}", flush=True)
    for n in arguments.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            shutil.copytree(ROOT / "conf", folder / "conf")
            shutil.copy(ROOT / "pyproject.toml", folder)
            (folder / "src").mkdir()
            for step in STEPS:
                done = subprocess.run(
                    [sys.executable, __file__, "--one", name, step, str(n)],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                line = next(x for x in done.stdout.splitlines() if x.startswith("RESULT"))
                _, _, _, seconds, memory = line.split()
                each = 1000 * float(seconds) / n
                print(f"{n:>8} {step:<11} {seconds:>8} {each:>8.2f} {memory:>8}", flush=True)


if __name__ == "__main__":
    main()
