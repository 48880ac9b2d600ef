"""The study of star fields: ingestion, features, augmentation, training, reporting."""

from kedro.pipeline import Pipeline

from skyloom.pipelines import wiring
from skyloom.pipelines.star_fields import (
    augmentation,
    download,
    features,
    ingestion,
    prediction,
    reporting,
    simulation,
    training,
)
from skyloom.pipelines.wiring import CLASSIFIER, COMPARISON, Step

NAME = "star_fields"
FIGURES = (
    "f1_figure purity_figure completeness_figure overlay_figure unknown_figure "
    "learning_curves_figure"
)


def create_pipeline() -> Pipeline:
    """All five stages."""
    settings = "params:features params:augmentation params:network params:training"
    trained_on = "inputs targets filtered made_up_tiles"
    return wiring.study(
        NAME,
        {
            "ingestion": [
                Step(ingestion.configure_sweep, f"params:sweeps {settings}", "sweep"),
                Step(
                    ingestion.ingest_fields,
                    "observations@files labels params:ingestion",
                    "fields stars sample pixels rejected",
                ),
            ],
            "features": [
                Step(features.draw_inputs, "pixels sweep", "inputs"),
                Step(features.draw_all_targets, "sample stars sweep params:ingestion", "targets"),
                Step(features.measure_tiles, "sample fields", "measurements"),
                Step(features.filter_tiles, "sample fields pixels", "filtered"),
            ],
            "augmentation": [
                Step(augmentation.make_split, "sample params:augmentation", "split_manifest"),
                Step(
                    augmentation.draw_training_tiles,
                    "sample fields stars pixels measurements split_manifest sweep "
                    "params:ingestion params:simulation",
                    "made_up_tiles",
                ),
            ],
            "training": [
                Step(
                    training.fit_baselines,
                    "sample stars pixels split_manifest params:ingestion params:baselines",
                    "baseline_predictions baseline_settings",
                ),
                Step(
                    training.run_sweep,
                    f"sample stars split_manifest {trained_on} baseline_predictions sweep "
                    "params:ingestion finished_fits params:cluster",
                    COMPARISON,
                ),
                Step(
                    training.fit_final_network,
                    f"sample fields pixels {trained_on} validation_predictions outcome sweep",
                    CLASSIFIER,
                ),
                Step(
                    training.measure_gap,
                    "sample stars inputs filtered measurements split_manifest sweep "
                    "params:ingestion params:simulation",
                    "simulation_gap",
                ),
            ],
            "reporting": [
                Step(
                    reporting.score_configurations,
                    "network_predictions inner_scores permutations baseline_predictions "
                    "params:ingestion params:reporting",
                    "success_rates predictions selection",
                ),
                Step(
                    reporting.sort_false_detections,
                    "predictions sample fields stars pixels params:ingestion",
                    "false_detections",
                ),
                Step(
                    reporting.write_workbooks,
                    "predictions sample fields false_detections",
                    "workbooks",
                ),
                Step(
                    reporting.model_info,
                    "fields sample rejected split_manifest baseline_settings sweep outcome",
                    "model_info",
                ),
                Step(
                    reporting.write_report,
                    "fields sample pixels rejected success_rates predictions false_detections "
                    "simulation_gap "
                    "learning_curves selection outcome model_info params:ingestion "
                    "params:reporting",
                    f"{FIGURES} report summary",
                    by_name=True,
                ),
                Step(
                    reporting.describe_runs,
                    "fields split_manifest success_rates predictions inner_scores "
                    "learning_curves sweep outcome summary params:ingestion",
                    "runs",
                ),
            ],
        },
    )


def create_simulation_pipeline() -> Pipeline:
    """Made-up fields, written as a telescope would."""
    return wiring.simulation(NAME, simulation.simulate_truth, simulation.simulate_fields)


def create_prediction_pipeline() -> Pipeline:
    """The stars of a folder of images, found by a finished network."""
    return wiring.side_pipeline(
        NAME,
        "prediction",
        [
            Step(
                prediction.find_stars,
                "observations params:detection params:ingestion classifier",
                "stars fields sheets rejected",
            ),
            Step(prediction.stars_table, "stars", "table ecsv"),
            Step(prediction.ds9_regions, "stars", "regions"),
        ],
    )


def create_download_pipeline() -> Pipeline:
    """Fields of a list, or at random positions, from the archives."""
    fetch = Step(download.fetch_fields, "source_list params:folder params:archive", "manifest")
    return wiring.side_pipeline(NAME, "download", [fetch])
