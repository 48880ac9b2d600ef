"""Real fields, found by networks and finders that have seen none of them.

``python benchmarks/star_fields_real.py FOLDER 4000 2`` (fields, gradient steps, seeds) trains on
made-up tiles alone. Finders are tuned, and all thresholds set, on made-up tiles, too. Then each
field of the folder is found, and ``benchmarks/results/star_fields_real.csv`` says how well. Images
of one place in several bands, which have no catalogue, get one another's bright peaks as one.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from skyloom.evaluation.detection import (
    best_threshold,
    completeness_at_purity,
    detection_table,
    f1_score,
    fit_ranking,
    largest_f1,
)
from skyloom.images.sky import read_sky_image
from skyloom.images.stars import (
    FINDERS,
    USUAL_FWHM,
    find_peaks,
    matched_filter,
    measure_fwhm,
    normalise_sky,
    pixels_of,
)
from skyloom.learning.fitting import prepare_process
from skyloom.pipelines.star_fields import augmentation, features, fitting, parameters, training
from skyloom.pipelines.star_fields.ingestion import examine_field, known_stars, sort_out
from skyloom.pipelines.star_fields.prediction import detect_stars

N_TRAINED, N_TRIALS = 600, 24
# The catalogue of an image, and the image whose peaks it is made of.
BANDS = {
    "galactic_centre_2mass": {"gc_2mass_j": "gc_2mass_h", "gc_2mass_h": "gc_2mass_k",
                              "gc_2mass_k": "gc_2mass_h"},
    "ngc2264_irac": {"i1": "i2", "i2": "i1"},
}  # fmt: skip
FIELDS = ("pal5", "w5_wise12", "legacy_small", "ntt_emmi", *BANDS)


def peaks_of(path: Path) -> pd.DataFrame:
    """Peaks of an image above 8 sigma, as a catalogue."""
    sky = read_sky_image(path.name, path.read_bytes())
    image = normalise_sky(sky.image).image
    fwhm = measure_fwhm(image)
    snr = matched_filter(image, fwhm if np.isfinite(fwhm) else USUAL_FWHM)
    peaks = find_peaks(snr, 8.0, 2.5)
    ra, dec = sky.sky_positions(peaks["x"].to_numpy(), peaks["y"].to_numpy())
    magnitude = -2.5 * np.log10(peaks["value"])
    return pd.DataFrame({"ra": ra, "dec": dec, "magnitude": magnitude})


def lay(source: Path, target: Path) -> None:
    for field in FIELDS:
        folder = target / field
        folder.mkdir(parents=True)
        files = [path for path in sorted((source / field).iterdir()) if path.name != "README"]
        for path in files:
            if field not in BANDS:
                shutil.copy(path, folder)
            elif (other := BANDS[field].get(path.stem)) is not None:
                # A folder of its own: a catalogue belongs to the images beside it.
                (folder / path.stem).mkdir()
                shutil.copy(path, folder / path.stem)
                catalogue = peaks_of(path.with_stem(other))
                catalogue.to_csv(folder / path.stem / f"{path.stem}_peaks.csv", index=False)


def scores(table: pd.DataFrame, threshold: float) -> dict[str, float]:
    """What is reported of the detections in one field."""
    named = table["score"] * (table["score"] >= threshold)
    return {
        "f1": f1_score(table.assign(score=named)),
        "completeness_at_90": completeness_at_purity(table),
        "best_f1": largest_f1(table),
    }


def main() -> None:
    source, n_steps, n_seeds = Path(sys.argv[1]), *map(int, sys.argv[2:4])
    prepare_process(2)
    ingestion = parameters.IngestionParameters()
    with tempfile.TemporaryDirectory() as folder:
        lay(source, Path(folder))
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file()
        }
    observations = {name: (lambda c=content: c) for name, content in files.items()}
    images, catalogues, _ = sort_out(observations, ingestion)
    fields = {}
    for name in images:
        sky = read_sky_image(name, files[name])
        known = known_stars(name, sky, catalogues, ingestion)
        facts, stars, image = examine_field(sky, known, ingestion)
        if facts["usable"]:
            fields[Path(name).stem] = sky, stars, image

    drawn = parameters.FieldParameters(fwhm_range=(1.4, 5.0)).model_dump()
    seeds = parameters.AugmentationParameters(simulated_seed=505)
    pixels, stars = augmentation.made_up_tiles(N_TRAINED, seeds, ingestion, drawn)
    cut = int(0.8 * len(pixels))
    rows = []

    def add(method, seed, found_in, threshold):
        for name, (sky, known, image) in fields.items():
            found = found_in(sky, image)
            # Nothing is asked where the catalogue says nothing.
            found = found[np.isfinite(image[pixels_of(found, image.shape)])]
            table = detection_table(known, found, radius=ingestion.radius)
            n_stars = int(table["star"].sum())
            about = {"field": name, "method": method, "seed": seed, "stars": n_stars}
            # F1 of as many detections, thrown at random.
            area = np.isfinite(image).sum() / (np.pi * ingestion.radius**2)
            about["chance"] = 1 - np.exp(-n_stars / area)
            rows.append(about | scores(table, threshold))
        path = Path(__file__).parent / "results/star_fields_real.csv"
        pd.DataFrame(rows).round(4).to_csv(path, index=False)
        print(pd.DataFrame(rows[-len(fields) :]).round(3).to_string(), flush=True)

    for finder in FINDERS:
        rng = np.random.default_rng(0)
        best = training.tune_finder(finder, pixels[cut:], stars[cut:], ingestion, rng, N_TRIALS)
        tuned = pd.concat(
            [
                training.find_and_match(finder, best["settings"], tile, known, ingestion)
                for tile, known in zip(pixels[cut:], stars[cut:], strict=True)
            ]
        )

        def classical(sky, _, finder=finder, settings=best["settings"]):
            return FINDERS[finder][0](normalise_sky(sky.image), **settings)

        add(finder, 0, classical, best_threshold(tuned))

    chosen = parameters.FeatureParameters()
    inputs = features.prepare_images(pixels, chosen)
    options = {"limit": ingestion.limit, "doubtful": ingestion.doubtful}
    targets = np.stack([features.draw_targets(s, ingestion.tile, chosen, **options) for s in stars])
    widths = pd.DataFrame({"id": range(len(pixels)), "fwhm": [measure_fwhm(t) for t in pixels]})
    filtered = features.filter_tiles(pd.DataFrame({"field": range(len(pixels))}), widths, pixels)
    base = parameters.Configuration(
        name="base", features=chosen, augmentation=parameters.AugmentationParameters(),
        network=parameters.NetworkParameters(),
        training=parameters.TrainingParameters(
            epochs=max(1, n_steps // 50), steps_per_epoch=50, learning_rate=3e-3, halve_after=4
        ),
    )  # fmt: skip
    measure = fitting.measure_of(ingestion)
    for seed in range(n_seeds):
        model, snapshots, _ = fitting.fit_network(
            fitting.fit_settings([base], 0, seed), {}, (inputs[:cut], targets[:cut]),
            (inputs[cut:], targets[cut:]),
        )  # fmt: skip
        model.set_weights(snapshots[-1].weights)
        said = fitting.with_filtered(model, {"inputs": inputs[cut:], "filtered": filtered[cut:]})
        ranking = fit_ranking(measure.table(stars[cut:], said))

        def network(sky, _, model=model, ranking=ranking):
            found, _ = detect_stars(
                model, sky, partial(features.prepare_images, features=chosen),
                ranking._replace(threshold=0.0), parameters.DetectionParameters(), (1.4, 5.0),
            )  # fmt: skip
            return found.assign(score=found["probability"])

        add("network", seed, network, ranking.threshold)


if __name__ == "__main__":
    main()
