"""Each real field found by what never saw it.

``python benchmarks/star_fields_real.py lay FOLDER TARGET`` links the images and catalogues of a
folder of fields into another one. Images of one place in several bands, which have no catalogue,
get one another's bright peaks as a catalogue. Then

``kedro run --env real --pipelines star_fields --params folder=TARGET``

with ``n_folds: 6`` in ``conf/real/star_fields/parameters.yml`` tests each field by networks and
finders that were trained, tuned and calibrated on the others, and
``python benchmarks/star_fields_real.py tell data/real`` writes
``benchmarks/results/star_fields_real.csv``: a row for each field and configuration.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from skyloom.evaluation.detection import (
    completeness_at_purity,
    f1_score,
    largest_f1,
    with_thresholds,
)
from skyloom.images.sky import read_sky_image
from skyloom.images.stars import (
    USUAL_FWHM,
    find_peaks,
    matched_filter,
    measure_fwhm,
    normalise_sky,
)

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


def tell(data: Path) -> None:
    # As the run left them: scores are those of networks and finders, thresholds set anew.
    predictions = pd.read_csv(data / "07_model_output/star_fields/network_predictions.csv")
    baselines = pd.read_csv(data / "07_model_output/star_fields/baseline_predictions.csv")
    sample = pd.read_csv(data / "03_primary/star_fields/sample.csv").set_index("id")
    fields = pd.read_csv(data / "02_intermediate/star_fields/fields.csv").set_index("id")
    # Images of one folder are one field.
    group = sample["field"].map(fields["file"].str.split("/").str[0])
    rows = []
    for name, table in pd.concat([predictions, baselines]).groupby("configuration"):
        named = with_thresholds(table)
        named["group"] = named["id"].map(group)
        for field, part in named.groupby("group"):
            of_seeds = [own for _, own in part.groupby("seed")]
            f1 = [f1_score(own.assign(score=own["score"] * own["named"])) for own in of_seeds]
            rows.append(
                {
                    "field": field, "configuration": name, "seeds": len(of_seeds),
                    "stars": int(of_seeds[0]["star"].sum()), "f1": np.mean(f1),
                    "completeness_at_90": np.mean([completeness_at_purity(o) for o in of_seeds]),
                    "best_f1": np.mean([largest_f1(own) for own in of_seeds]),
                }
            )  # fmt: skip
    path = Path(__file__).parent / "results/star_fields_real.csv"
    pd.DataFrame(rows).round(4).to_csv(path, index=False)
    print(pd.DataFrame(rows).round(3).to_string())


if __name__ == "__main__":
    if sys.argv[1] == "lay":
        lay(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        tell(Path(sys.argv[2]))
