"""The radio-galaxy study: ingestion, features, augmentation, training, reporting."""

from kedro.pipeline import Pipeline

from skyloom.pipelines._node import stage_node as _node
from skyloom.pipelines.radio_galaxies.augmentation import (
    draw_synthetic_images,
    make_angle_split,
    make_split,
    simulate_sources,
    train_generators,
)
from skyloom.pipelines.radio_galaxies.download import fetch_cut_outs
from skyloom.pipelines.radio_galaxies.features import (
    draw_images,
    draw_sample_page,
    measure_sample,
)
from skyloom.pipelines.radio_galaxies.ingestion import (
    configure_sweep,
    ingest_cut_outs,
    select_sample,
)
from skyloom.pipelines.radio_galaxies.prediction import (
    classify_cut_outs,
    ingest_unlabelled_cut_outs,
    summarise_classes,
)
from skyloom.pipelines.radio_galaxies.reporting import (
    describe_runs,
    measure_synthetic_quality,
    model_info,
    score_bending_angles,
    score_configurations,
    write_report,
    write_workbooks,
)
from skyloom.pipelines.radio_galaxies.simulation import simulate_cut_outs, simulate_truth
from skyloom.pipelines.radio_galaxies.training import (
    fit_baselines,
    fit_bending_angles,
    fit_final_network,
    run_sweep,
)


def create_pipeline() -> Pipeline:
    """All five stages.

    Returns
    -------
    kedro.pipeline.Pipeline
        Each node is tagged with its stage.
    """
    training_images = ["images", "synthetic_images", "synthetic"]
    fits = ["sweep_plan", "finished_fits"]
    return Pipeline(
        [
            _node(
                configure_sweep,
                [
                    "params:studies",
                    "params:features",
                    "params:augmentation",
                    "params:network",
                    "params:training",
                ],
                ["sweep_plan"],
                "ingestion",
            ),
            _node(
                ingest_cut_outs,
                ["cut_outs@files", "labels", "params:ingestion"],
                ["sources", "cutouts", "rejected"],
                "ingestion",
            ),
            _node(
                select_sample,
                ["sources", "cutouts", "review", "params:ingestion"],
                ["sample", "review_table", "review_sheets", "class_samples"],
                "ingestion",
            ),
            _node(
                measure_sample,
                ["sample", "cutouts", "params:features"],
                ["measurements"],
                "features",
            ),
            _node(draw_images, ["cutouts", "sweep_plan"], ["images"], "features"),
            _node(draw_sample_page, ["sample", "images"], ["sample_figure"], "features"),
            _node(
                make_split, ["sample", "params:augmentation"], ["split_manifest"], "augmentation"
            ),
            _node(
                make_angle_split,
                ["sample", "split_manifest", "params:augmentation"],
                ["angle_split_manifest"],
                "augmentation",
            ),
            _node(
                simulate_sources,
                [
                    "sample",
                    "measurements",
                    "split_manifest",
                    "angle_split_manifest",
                    "sweep_plan",
                    "params:synthetic",
                    "params:features",
                    "params:ingestion",
                ],
                ["synthetic_sources", "synthetic_cutouts"],
                "augmentation",
            ),
            _node(
                train_generators,
                [
                    "sample",
                    "cutouts",
                    "split_manifest",
                    *fits,
                    "params:generators",
                    "params:cluster",
                ],
                ["generators", "generator_history", "generator_films", "generator_sheets"],
                "augmentation",
            ),
            _node(
                draw_synthetic_images,
                [
                    "sample",
                    "synthetic_sources",
                    "synthetic_cutouts",
                    "generators",
                    "sweep_plan",
                    "params:synthetic",
                ],
                ["synthetic_images", "synthetic"],
                "augmentation",
            ),
            _node(
                fit_baselines,
                ["measurements", "split_manifest", "params:augmentation"],
                ["baseline_predictions"],
                "training",
            ),
            _node(
                run_sweep,
                [
                    "sample",
                    "split_manifest",
                    *training_images,
                    "baseline_predictions",
                    *fits,
                    "params:cluster",
                ],
                [
                    "network_predictions",
                    "inner_scores",
                    "learning_curves",
                    "permutations",
                    "validation_predictions",
                    "sweep",
                ],
                "training",
            ),
            _node(
                fit_bending_angles,
                [
                    "sample",
                    "angle_split_manifest",
                    "measurements",
                    *training_images,
                    *fits,
                    "params:bending",
                    "params:cluster",
                ],
                ["angle_predictions", "angle_curves", "angle_networks"],
                "training",
            ),
            _node(
                fit_final_network,
                [
                    "sample",
                    "measurements",
                    "split_manifest",
                    *training_images,
                    "validation_predictions",
                    "sweep",
                    "sweep_plan",
                ],
                ["classifier", "classifier_description", "classifier_example"],
                "training",
            ),
            _node(
                score_configurations,
                [
                    "split_manifest",
                    "sample",
                    "network_predictions",
                    "inner_scores",
                    "permutations",
                    "baseline_predictions",
                    "sweep",
                    "params:reporting",
                ],
                ["success_rates", "predictions", "selection", "arms"],
                "reporting",
            ),
            _node(
                score_bending_angles,
                ["angle_predictions", "sample", "params:reporting"],
                ["angle_scores", "angles_of_unmeasured"],
                "reporting",
            ),
            _node(
                measure_synthetic_quality,
                [
                    "sample",
                    "split_manifest",
                    *training_images,
                    "classifier",
                    "classifier_description",
                ],
                ["synthetic_quality", "synthetic_histograms"],
                "reporting",
            ),
            _node(
                write_workbooks,
                ["sample", "predictions", "measurements"],
                ["workbooks"],
                "reporting",
            ),
            _node(
                model_info,
                [
                    "sample",
                    "rejected",
                    "split_manifest",
                    "angle_split_manifest",
                    "synthetic_sources",
                    "synthetic",
                    "generator_history",
                    "sweep_plan",
                    "sweep",
                ],
                ["model_info"],
                "reporting",
            ),
            _node(
                write_report,
                [
                    "sample",
                    "rejected",
                    "images",
                    "success_rates",
                    "arms",
                    "predictions",
                    "learning_curves",
                    "selection",
                    "generator_history",
                    "synthetic_quality",
                    "synthetic_histograms",
                    "angle_predictions",
                    "angle_scores",
                    "angle_curves",
                    "angles_of_unmeasured",
                    "sweep_plan",
                    "sweep",
                    "model_info",
                    "params:reporting",
                ],
                [
                    "success_rate_figure",
                    "arms_figure",
                    "study_figure",
                    "learning_curves_figure",
                    "confusion_figure",
                    "examples_figure",
                    "reliability_figure",
                    "generators_figure",
                    "histograms_figure",
                    "angles_figure",
                    "angle_curves_figure",
                    "angles_by_class_figure",
                    "report",
                    "summary",
                ],
                "reporting",
            ),
            _node(
                describe_runs,
                [
                    "sample",
                    "split_manifest",
                    "success_rates",
                    "inner_scores",
                    "learning_curves",
                    "angle_scores",
                    "angle_curves",
                    "sweep_plan",
                    "sweep",
                    "params:bending",
                ],
                ["runs"],
                "reporting",
            ),
        ],
        namespace="radio_galaxies",
        parameters={"params:cluster"},
    )


def create_simulation_pipeline() -> Pipeline:
    """A made-up survey, written as an archive would give it.

    Returns
    -------
    kedro.pipeline.Pipeline
    """
    return Pipeline(
        [
            _node(simulate_truth, ["params:simulation"], ["truth", "labels"], "simulation"),
            _node(
                simulate_cut_outs, ["truth", "params:simulation"], ["cut_outs@fits"], "simulation"
            ),
        ],
        namespace="radio_galaxies",
    )


def create_prediction_pipeline() -> Pipeline:
    """A folder of new cut-outs classified by a finished network.

    Returns
    -------
    kedro.pipeline.Pipeline
    """
    return Pipeline(
        [
            _node(
                ingest_unlabelled_cut_outs,
                ["cut_outs", "params:ingestion"],
                ["sources", "cutouts", "rejected"],
                "prediction",
            ),
            _node(
                classify_cut_outs,
                ["sources", "cutouts", "classifier", "angle_networks"],
                ["classes", "sheets"],
                "prediction",
            ),
            _node(
                summarise_classes,
                ["classes", "rejected", "classifier"],
                ["workbook", "summary"],
                "prediction",
            ),
        ],
        namespace="radio_galaxies.prediction",
        inputs={"angle_networks": "radio_galaxies.angle_networks"},
        parameters={"params:ingestion": "params:radio_galaxies.ingestion"},
    )


def create_download_pipeline() -> Pipeline:
    """The cut-outs of a source list, from the survey's archive.

    Returns
    -------
    kedro.pipeline.Pipeline
    """
    return Pipeline(
        [
            _node(
                fetch_cut_outs,
                ["source_list", "params:folder", "params:archive"],
                ["manifest", "labels"],
                "download",
            )
        ],
        namespace="radio_galaxies.download",
        parameters={
            "params:archive": "params:radio_galaxies.archive",
            "params:folder": "params:folder",
        },
    )
