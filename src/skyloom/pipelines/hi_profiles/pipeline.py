"""The HI-profile study: ingestion, features, augmentation, training, reporting."""

from kedro.pipeline import Node, Pipeline

from skyloom.pipelines.hi_profiles.augmentation import (
    choose_classes,
    draw_augmented_images,
    make_split,
    plan_copies,
)
from skyloom.pipelines.hi_profiles.features import (
    draw_galaxy_figures,
    draw_images,
    measure_profiles,
    paint_jpegs,
)
from skyloom.pipelines.hi_profiles.ingestion import ingest_spectra
from skyloom.pipelines.hi_profiles.reporting import (
    describe_runs,
    model_info,
    score_configurations,
    write_report,
    write_workbooks,
)
from skyloom.pipelines.hi_profiles.simulation import simulate_spectra, simulate_truth
from skyloom.pipelines.hi_profiles.training import train_configurations

STAGES = ("ingestion", "features", "augmentation", "training", "reporting")


def _node(function, inputs: list[str], outputs: list[str], stage: str) -> Node:
    """Node named after its function and tagged with its stage."""
    return Node(
        function,
        inputs=inputs,
        outputs=outputs[0] if len(outputs) == 1 else outputs,
        name=function.__name__,
        tags=[stage],
    )


def create_pipeline() -> Pipeline:
    """All five stages.

    Returns
    -------
    kedro.pipeline.Pipeline
        Each node is tagged with its stage.
    """
    sample = ["profiles", "profile_flux", "fits"]
    return Pipeline(
        [
            _node(
                ingest_spectra,
                ["spectra@files", "labels", "params:ingestion"],
                ["profiles", "profile_flux", "rejected"],
                "ingestion",
            ),
            _node(
                measure_profiles,
                ["profiles", "profile_flux", "params:features"],
                ["fits", "asymmetry"],
                "features",
            ),
            _node(draw_images, [*sample, "params:features"], ["images"], "features"),
            _node(paint_jpegs, [*sample, "params:features"], ["painted_images"], "features"),
            _node(
                draw_galaxy_figures,
                [*sample, "asymmetry", "params:features"],
                ["halves_figures", "sample_pages", "galaxy_panel"],
                "features",
            ),
            _node(
                choose_classes,
                ["profiles", "fits", "asymmetry", "params:augmentation"],
                ["classes"],
                "augmentation",
            ),
            _node(
                make_split, ["classes", "params:augmentation"], ["split_manifest"], "augmentation"
            ),
            _node(
                plan_copies,
                ["profiles", "fits", "split_manifest", "params:augmentation"],
                ["augmentation_manifest"],
                "augmentation",
            ),
            _node(
                draw_augmented_images,
                [*sample, "augmentation_manifest", "params:features"],
                ["augmented_images"],
                "augmentation",
            ),
            _node(
                train_configurations,
                [
                    "profiles",
                    "images",
                    "split_manifest",
                    "augmentation_manifest",
                    "augmented_images",
                    "params:features",
                    "params:training",
                ],
                ["network_predictions", "learning_curves", "models", "example_model"],
                "training",
            ),
            _node(
                score_configurations,
                [
                    "profiles",
                    "fits",
                    "asymmetry",
                    "classes",
                    "split_manifest",
                    "network_predictions",
                    "params:reporting",
                ],
                ["success_rates", "predictions"],
                "reporting",
            ),
            _node(
                write_workbooks,
                ["profiles", "predictions", "asymmetry"],
                ["workbooks"],
                "reporting",
            ),
            _node(
                model_info,
                [
                    "profiles",
                    "rejected",
                    "classes",
                    "split_manifest",
                    "augmentation_manifest",
                    "params:features",
                    "params:training",
                    "params:augmentation",
                ],
                ["model_info"],
                "reporting",
            ),
            _node(
                write_report,
                [
                    "profiles",
                    "images",
                    "asymmetry",
                    "rejected",
                    "classes",
                    "success_rates",
                    "predictions",
                    "learning_curves",
                    "model_info",
                    "params:reporting",
                ],
                [
                    "success_rate_figure",
                    "learning_curves_figure",
                    "confusion_figure",
                    "sample_images_figure",
                    "a_flux_figure",
                    "reliability_figure",
                    "report",
                    "summary",
                ],
                "reporting",
            ),
            _node(
                describe_runs,
                [
                    "profiles",
                    "classes",
                    "split_manifest",
                    "success_rates",
                    "learning_curves",
                    "params:features",
                    "params:training",
                    "params:augmentation",
                ],
                ["runs"],
                "reporting",
            ),
        ],
        namespace="hi_profiles",
    )


def create_simulation_pipeline() -> Pipeline:
    """A made-up sample, written as a telescope would.

    Returns
    -------
    kedro.pipeline.Pipeline
    """
    return Pipeline(
        [
            _node(simulate_truth, ["params:simulation"], ["truth", "labels"], "simulation"),
            _node(simulate_spectra, ["truth", "params:simulation"], ["spectra@fits"], "simulation"),
        ],
        namespace="hi_profiles",
    )
