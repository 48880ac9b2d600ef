"""Time and peak memory of simulation, ingestion, features and prediction as the sample grows.

Each step runs in a process of its own, through Kedro, in an empty folder. The prediction reads the
folder of files anew, with all that belongs to it, and needs a trained model: ``--model`` (by
default that of the study's last run). Writes ``benchmarks/results/scale.csv`` and a figure, or
those of ``--study radio_galaxies``.
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

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from skyloom.plots.style import CYCLE, GREY, legend_above, new_figure

ROOT = Path(__file__).parents[1]
STEPS = ("simulation", "ingestion", "features", "prediction")
STUDIES = {
    "hi_profiles": ("n_profiles", {"features": {"size": 128, "quadrant": False}}, "scale"),
    "radio_galaxies": ("n_sources", {}, "scale_radio_galaxies"),
}


def one(folder: Path, study: str, step: str, n: int, model: str) -> None:
    """Run one step in this process and print its time and memory."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(folder)
    number, changes, _ = STUDIES[study]
    parameters = {study: {"simulation": {number: n}, **changes}, "model": model}
    start = time.perf_counter()
    with KedroSession.create(folder, env="base", runtime_params=parameters) as session:
        session.run(pipeline_names=[f"{study}.{step}"])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"RESULT {n} {step} {time.perf_counter() - start:.1f} {memory:.0f}")


def local_model(address: str) -> str:
    """Folder of a registered model; the folder itself where it is one."""
    if ":/" not in address:
        return address
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{ROOT / 'mlflow.db'}")
    return mlflow.artifacts.download_artifacts(address)


def draw(table: pd.DataFrame) -> Figure:
    """Time and peak memory of each step against the number of objects."""
    figure = new_figure(8, 3.6)
    axes = figure.subplots(1, 2)
    for colour, marker, (step, part) in zip(
        CYCLE, "ov^s", table.groupby("step", sort=False), strict=False
    ):
        for axis, quantity in zip(axes, ("seconds", "peak_mb"), strict=True):
            axis.plot(part["objects"], part[quantity], marker=marker, color=colour, label=step)
    n = np.array([table["objects"].min(), table["objects"].max()])
    axes[0].plot(n, n * 0.01, color=GREY, ls=":", label="10 ms each")
    axes[1].axhline(2000, color=GREY, ls=":")
    axes[1].text(table["objects"].min(), 2020, "2 GB", fontsize=8, va="bottom")
    axes[0].set(xscale="log", yscale="log", xlabel="objects", ylabel="time (s)")
    axes[1].set(xscale="log", ylim=(0, 2200), xlabel="objects", ylabel="peak memory (MB)")
    legend_above(axes[0], 3)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[318, 3000, 30780])
    parser.add_argument("--study", choices=STUDIES, default="hi_profiles")
    parser.add_argument("--model", help="by default models:/<study>@selected")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        folder, step, n, model = arguments.one
        one(Path(folder), arguments.study, step, int(n), model)
        return
    study, rows = arguments.study, []
    model = local_model(arguments.model or f"models:/{study}@selected")
    print(f"{'objects':>8} {'step':<11} {'seconds':>8} {'ms each':>8} {'peak MB':>8}", flush=True)
    for n in arguments.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            shutil.copytree(ROOT / "conf", folder / "conf")
            shutil.copy(ROOT / "pyproject.toml", folder)
            (folder / "src").mkdir()
            for step in STEPS:
                done = subprocess.run(
                    [sys.executable, __file__, "--study", study,
                     "--one", name, step, str(n), model],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                line = next(x for x in done.stdout.splitlines() if x.startswith("RESULT"))
                seconds, memory = (float(x) for x in line.split()[3:])
                each = 1000 * seconds / n
                print(f"{n:>8} {step:<11} {seconds:>8} {each:>8.2f} {memory:>8}", flush=True)
                rows.append((n, step, seconds, each, memory))
    table = pd.DataFrame(rows, columns=["objects", "step", "seconds", "ms_each", "peak_mb"])
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    file = STUDIES[study][2]
    table.round(2).to_csv(results / f"{file}.csv", index=False)
    draw(table).savefig(results / f"{file}.png")


if __name__ == "__main__":
    main()
