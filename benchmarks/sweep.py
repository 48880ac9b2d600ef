"""The published sweep of 54 configurations: the published way, ours, and what each step gives.

    python benchmarks/sweep.py [--compare 4]

The published way is one Keras fit per configuration on 128 x 128 x 3 pictures, one after the
other, on all cores. Its time is measured over a few epochs of every width and test size and summed
up for 54 configurations; ours is measured whole. ``--compare`` fits the narrow network on so many
of the six splits to the end in both ways, and compares the success rates on the same test galaxies.
Writes ``benchmarks/results/sweep.csv``, and ``sweep_success_rates`` as a table and a figure.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd

from skyloom.compute import ClusterParameters, plan_workers
from skyloom.learning.tasks import ResultStore
from skyloom.pipelines.hi_profiles.audit import audit_published_protocol
from skyloom.pipelines.hi_profiles.features import draw_images
from skyloom.pipelines.hi_profiles.parameters import (
    AuditParameters,
    AugmentationParameters,
    Configuration,
    FeatureParameters,
    NetworkParameters,
    Sweep,
    SweepParameters,
    TrainingParameters,
)
from skyloom.plots.style import BLUE, GREY, RED, new_figure
from skyloom.simulate.hi_profiles import assign_classes, draw_truth, observe_lines
from skyloom.spectra.hi.lines import fit_profiles

WIDTHS = ((32, 64, 128), (32, 64, 256), (32, 64, 512))
N_REPEATS = 7
TEST_SIZES, EPOCHS, SEEDS = (0.7, 0.5, 0.3), (50, 80, 120), (42, 99)


def sample(n=318):
    """Simulated profiles with true classes."""
    rng = np.random.default_rng([0, 7])
    truth = draw_truth(n, rng)
    start, flux = observe_lines(truth, 256, rng)
    profiles = truth[["id", "channel_width", "noise"]].assign(velocity_start=start)
    fits = pd.concat([table for table, _ in fit_profiles(profiles, flux)], ignore_index=True)
    label = assign_classes(truth).astype("Int64")
    classes = pd.DataFrame({"used": True, "class": label})
    usable = fits["usable"].to_numpy()
    tables = (table[usable].reset_index(drop=True) for table in (profiles, fits, classes))
    profiles, fits, classes = tables
    return profiles, flux[usable], fits, classes


def sweep_for(size, quadrant):
    """Sweep whose base draws published images of some size."""
    base = Configuration(
        name="base",
        features=FeatureParameters(rendering="published", size=size, quadrant=quadrant),
        augmentation=AugmentationParameters(n_copies=0),
        network=NetworkParameters(padding="valid", input_scale=1.0),
        training=TrainingParameters(patience=None),
    )
    grid = SweepParameters(grid={"training.epochs": [50]})
    return Sweep.lay_out(grid, base)


def pictures(profiles, flux, fits, size, quadrant):
    """Images by variant, as a node would load them."""
    drawn = draw_images(profiles, flux, fits, sweep_for(size, quadrant))
    return {variant: array.compute() for variant, array in drawn.items()}


def model_2(profiles, flux, fits, size, quadrant):
    """Images of model 2."""
    return next(iter(pictures(profiles, flux, fits, size, quadrant).values()))[:, 1]


def published_fit(images, label, test_size, seed, widths, epochs, at=()):
    """One fit as in the published script.

    Returns the test galaxies, their classes after some epochs, the seconds of each epoch and the
    seconds beside them.
    """
    import keras
    from sklearn.model_selection import train_test_split

    from skyloom.nets.ring_cnn import ring_cnn

    rows = np.arange(len(label))
    train, test = train_test_split(rows, test_size=test_size, random_state=seed)
    seconds, predicted = [], {}

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):  # noqa: ARG002
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):  # noqa: ARG002
            seconds.append(time.perf_counter() - self.start)
            if epoch + 1 in at:
                predicted[epoch + 1] = model.predict(images[test], verbose=0).argmax(1)

    begin = time.perf_counter()
    model = ring_cnn(images.shape[1:], 3, widths=widths, seed=seed)
    model.compile(
        keras.optimizers.AdamW(1e-3, weight_decay=1e-5),
        "sparse_categorical_crossentropy", metrics=["accuracy"],
    )  # fmt: skip
    model.fit(
        images[train], label[train], validation_data=(images[test], label[test]), epochs=epochs,
        batch_size=32, verbose=0, callbacks=[Clock()],
    )  # fmt: skip
    total = time.perf_counter() - begin
    return test, predicted, seconds, total - sum(seconds)


def sweep_seconds(images, label, epochs_list, n_epochs=3):
    """Seconds of a whole sweep in this process, from the steady epochs of each kind of fit."""
    total = 0.0
    for widths, test_size in itertools.product(WIDTHS, TEST_SIZES):
        _, _, seconds, outside = published_fit(images, label, test_size, 42, widths, n_epochs)
        steady = float(np.median(seconds[1:]))
        startup = outside + seconds[0] - steady
        for epochs in epochs_list:
            total += len(SEEDS) * (startup + epochs * steady)
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--compare", type=int, default=0, help="splits fitted both ways, instead of the times"
    )
    options = parser.parse_args()
    profiles, flux, fits, classes = sample()
    label = classes["class"].to_numpy(np.int32)
    ((_, small),) = pictures(profiles, flux, fits, 24, True).items()
    sweep = sweep_for(24, True)
    loaded = {sweep.base.input_variant: lambda: small}
    if options.compare:
        compare(profiles, flux, fits, classes, loaded, sweep, options.compare)
        return
    rows = []

    def note(way, seconds):
        rows.append(
            {
                "way": way,
                "seconds": seconds,
                "times_faster": rows[0]["seconds"] / seconds if rows else 1.0,
            }
        )
        print(f"{way:<70} {seconds:>9.0f} s  {rows[-1]['times_faster']:>6.1f} x", flush=True)

    grid = {"test_sizes": TEST_SIZES, "epochs": EPOCHS, "widths": WIDTHS}
    whole = model_2(profiles, flux, fits, 128, False) / np.float32(255)
    note(
        "published: 54 fits, 128 x 128 x 3, one by one",
        sweep_seconds(whole, label, EPOCHS),
    )
    note("one training run for 50, 80 and 120 epochs", sweep_seconds(whole, label, [120]))
    del whole
    quadrant = model_2(profiles, flux, fits, 64, True)
    note("... and one quadrant, 64 x 64, one channel", sweep_seconds(quadrant, label, [120]))
    del quadrant
    note("... and that at 24 x 24", sweep_seconds(small[:, 1], label, [120]))
    start = time.perf_counter()
    audit(profiles, classes, loaded, sweep, grid)  # three kinds of labels: three sweeps
    n_workers = plan_workers(os.cpu_count(), 24)[0]
    note(
        f"... and without tracing anew, {n_workers} workers side by side (measured whole)",
        (time.perf_counter() - start) / 3,
    )
    pd.DataFrame(rows).round(1).to_csv("benchmarks/results/sweep.csv", index=False)


def audit(profiles, classes, loaded, sweep, grid, cluster=None):
    """Predictions of the published grid, fitted our way."""
    with tempfile.TemporaryDirectory() as folder:
        return audit_published_protocol(
            profiles, classes, loaded, sweep, ResultStore(folder),
            AuditParameters(**grid, n_shuffles=20), cluster or ClusterParameters(),
        )[1]  # fmt: skip


def compare(profiles, flux, fits, classes, loaded, sweep, n):
    """Success rates of the same configurations in both ways, on the same test galaxies.

    A fit depends on its first weights, so ours is repeated with others.
    """
    splits = [(size, seed) for size in TEST_SIZES[::-1] for seed in SEEDS][:n]
    label = classes["class"].to_numpy(np.int32)
    grid = {"test_sizes": sorted({size for size, _ in splits}), "epochs": EPOCHS}
    grid["widths"] = WIDTHS[:1]
    rates = []
    for repeat in range(N_REPEATS):
        found = audit(profiles, classes, loaded, sweep, {**grid, "seed": repeat})
        right = found[found["labels"] == "true"].eval("predicted == `class`")
        keys = [found[name] for name in ("test_size", "split_seed", "epochs")]
        rate = right.groupby(keys).mean().rename("success_rate").reset_index()
        rates.append(rate.assign(repeat=repeat, way="ours"))
    whole = model_2(profiles, flux, fits, 128, False) / np.float32(255)
    for test_size, seed in splits:
        test, published, _, _ = published_fit(
            whole, label, test_size, seed, WIDTHS[0], max(EPOCHS), EPOCHS
        )
        rate = {
            epochs: (predicted == label[test]).mean() for epochs, predicted in published.items()
        }
        print(test_size, seed, rate, flush=True)
        rate = pd.Series(rate, name="success_rate").rename_axis("epochs").reset_index()
        rates.append(rate.assign(test_size=test_size, split_seed=seed, repeat=0, way="published"))
        write_rates(pd.concat(rates), np.bincount(label).max() / len(label))


def mean_difference(rates):
    """Ours minus published, and the half-width of its 95 % interval.

    Epochs of one training run are averaged first. The spread between seeds, which ours shows, is
    taken for the published way too.
    """
    runs = rates.groupby(["way", "test_size", "split_seed", "repeat"])["success_rate"].mean()
    ours, published = runs["ours"].groupby(level=[0, 1]), runs["published"]
    difference = ours.mean() - published.droplevel("repeat")
    variance = ours.var() * (1 + 1 / ours.count())
    return difference.mean(), 1.96 * np.sqrt(variance.sum()) / len(difference)


def write_rates(rates, chance):
    """Table and figure of the success rates of both ways."""
    difference, error = mean_difference(rates)
    rates.round(4).to_csv("benchmarks/results/sweep_success_rates.csv", index=False)
    done = rates[rates["way"] == "published"].set_index(["test_size", "split_seed", "epochs"])
    figure = new_figure(1.2 + 0.7 * len(done), 4.0)
    axis = figure.subplots()
    ours = rates[rates["way"] == "ours"].groupby(["test_size", "split_seed", "epochs"])
    for k, key in enumerate(done.index):
        values = ours.get_group(key)["success_rate"]
        axis.plot(np.full(len(values), k), values, "o", color=BLUE, alpha=0.4, ms=5)
        axis.plot(k, done.loc[key, "success_rate"], "D", color=RED, ms=7)
    axis.plot(
        [],
        [],
        "o",
        color=BLUE,
        label=f"shared fits, 24 x 24 quadrant, {rates['repeat'].max() + 1} seeds",
    )
    axis.plot([], [], "D", color=RED, label="one Keras fit each, 128 x 128 x 3")
    axis.axhline(chance, color=GREY, ls=":", label="largest class")
    axis.set_xticks(
        range(len(done)), [f"{size:g}, {seed}\n{epochs}" for size, seed, epochs in done.index]
    )
    axis.set(
        xlabel="test share, seed of the split; epochs", ylabel="success rate on the test galaxies",
        ylim=(0, 0.8),
    )  # fmt: skip
    axis.set_title(f"ours minus published: {difference:+.3f} +- {error:.3f} (95 %)", fontsize=9)
    axis.legend(fontsize=8, loc="upper right")
    figure.savefig("benchmarks/results/sweep_success_rates.png")


if __name__ == "__main__":
    main()
