"""The radio-galaxy study: ingestion, features, augmentation, training, reporting."""

from kedro.pipeline import Pipeline

from skyloom.evaluation.report import summarise_classes
from skyloom.pipelines import wiring
from skyloom.pipelines.radio_galaxies import (
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

NAME = "radio_galaxies"
FIGURES = (
    "success_rate_figure arms_figure axis_figure learning_curves_figure confusion_figure "
    "examples_figure reliability_figure generators_figure histograms_figure angles_figure "
    "angle_curves_figure angles_by_class_figure"
)


def create_pipeline() -> Pipeline:
    """All five stages."""
    settings = "params:features params:augmentation params:network params:training"
    trained_on = "images synthetic_images synthetic"
    fits = "sweep finished_fits params:cluster"
    return wiring.study(
        NAME,
        {
            "ingestion": [
                Step(ingestion.configure_sweep, f"params:sweeps {settings}", "sweep"),
                Step(
                    ingestion.ingest_cut_outs,
                    "observations@files labels params:ingestion",
                    "sources cutouts rejected",
                ),
                Step(
                    ingestion.select_sample,
                    "sources cutouts review params:ingestion",
                    "sample review_table review_sheets class_samples",
                ),
            ],
            "features": [
                Step(features.measure_sample, "sample cutouts params:features", "measurements"),
                Step(features.draw_images, "cutouts sweep", "images"),
                Step(features.draw_sample_page, "sample images", "sample_figure"),
            ],
            "augmentation": [
                Step(
                    augmentation.make_split,
                    "sample sweep params:augmentation",
                    "split_manifest",
                ),
                Step(
                    augmentation.make_angle_split,
                    "sample split_manifest params:augmentation",
                    "angle_split_manifest",
                ),
                Step(
                    augmentation.simulate_sources,
                    "sample measurements split_manifest angle_split_manifest sweep "
                    "params:synthetic params:features params:ingestion",
                    "synthetic_sources synthetic_cutouts",
                ),
                Step(
                    augmentation.train_generators,
                    f"sample cutouts split_manifest params:generators {fits}",
                    "generators generator_history generator_films generator_sheets",
                ),
                Step(
                    augmentation.draw_synthetic_images,
                    "sample split_manifest synthetic_sources synthetic_cutouts generators sweep "
                    "params:synthetic",
                    "synthetic_images synthetic",
                ),
            ],
            "training": [
                Step(
                    training.fit_baselines,
                    "measurements split_manifest params:augmentation",
                    "baseline_predictions",
                ),
                Step(
                    training.run_sweep,
                    f"sample split_manifest {trained_on} baseline_predictions {fits}",
                    COMPARISON,
                ),
                Step(
                    training.fit_bending_angles,
                    f"sample angle_split_manifest measurements {trained_on} params:bending {fits}",
                    "angle_predictions angle_baseline_predictions angle_inner_scores "
                    "angle_curves angle_outcome angle_networks",
                ),
                Step(
                    training.fit_final_network,
                    f"sample measurements split_manifest {trained_on} validation_predictions "
                    "outcome sweep",
                    CLASSIFIER,
                ),
            ],
            "reporting": [
                Step(
                    reporting.score_configurations,
                    "split_manifest sample network_predictions inner_scores permutations "
                    "baseline_predictions outcome params:reporting",
                    "success_rates predictions selection arms",
                ),
                Step(
                    reporting.score_bending_angles,
                    "angle_predictions angle_baseline_predictions angle_inner_scores sample "
                    "params:reporting",
                    "angle_scores angles angles_of_unmeasured",
                ),
                Step(
                    reporting.measure_synthetic_quality,
                    f"sample split_manifest {trained_on} classifier classifier_description",
                    "synthetic_quality synthetic_histograms",
                ),
                Step(reporting.write_workbooks, "sample predictions measurements", "workbooks"),
                Step(
                    reporting.model_info,
                    "sample rejected split_manifest angle_split_manifest synthetic_sources "
                    "synthetic generator_history sweep outcome",
                    "model_info",
                ),
                Step(
                    reporting.write_report,
                    "sample split_manifest rejected images success_rates arms predictions "
                    "learning_curves selection generator_history synthetic_quality "
                    "synthetic_histograms angles angle_scores angle_curves angles_of_unmeasured "
                    "angle_outcome sweep outcome model_info params:reporting",
                    f"{FIGURES} report summary",
                    by_name=True,
                ),
                Step(
                    reporting.describe_runs,
                    "sample split_manifest success_rates predictions inner_scores "
                    "learning_curves angle_scores angle_inner_scores angle_curves "
                    "angle_outcome sweep outcome summary",
                    "runs",
                ),
            ],
        },
    )


def create_simulation_pipeline() -> Pipeline:
    """A made-up survey, written as an archive would give it."""
    return wiring.simulation(NAME, simulation.simulate_truth, simulation.simulate_cut_outs)


def create_prediction_pipeline() -> Pipeline:
    """A folder of new cut-outs classified by a finished network."""
    return wiring.side_pipeline(
        NAME,
        "prediction",
        [
            Step(
                prediction.ingest_unlabelled_cut_outs,
                "observations params:ingestion",
                "sources cutouts rejected",
            ),
            Step(
                prediction.classify_cut_outs,
                "sources cutouts classifier angle_networks params:prediction",
                "classes sheets population",
            ),
            Step(
                summarise_classes,
                "classes rejected classifier population",
                "workbook summary",
            ),
        ],
        inputs=["angle_networks"],
    )


def create_download_pipeline() -> Pipeline:
    """The cut-outs of a source list, from the survey's archive."""
    fetch = Step(
        download.fetch_cut_outs, "source_list params:folder params:archive", "manifest labels"
    )
    return wiring.side_pipeline(NAME, "download", [fetch])
