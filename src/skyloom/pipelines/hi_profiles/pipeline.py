"""The HI-profile study: ingestion, features, augmentation, training, reporting."""

from kedro.pipeline import Pipeline

from skyloom.pipelines._node import stage_node as _node
from skyloom.pipelines.hi_profiles.audit import audit_published_protocol
from skyloom.pipelines.hi_profiles.augmentation import (
    choose_classes,
    draw_augmented_images,
    make_split,
    plan_copies,
    simulate_pretraining_sample,
)
from skyloom.pipelines.hi_profiles.features import (
    draw_galaxy_figures,
    draw_images,
    measure_profiles,
    paint_jpegs,
)
from skyloom.pipelines.hi_profiles.ingestion import configure_sweep, ingest_spectra
from skyloom.pipelines.hi_profiles.prediction import (
    classify_profiles,
    ingest_unlabelled_spectra,
    summarise_classes,
)
from skyloom.pipelines.hi_profiles.reporting import (
    describe_runs,
    explain_predictions,
    model_info,
    score_configurations,
    summarise_audit,
    write_audit_workbooks,
    write_report,
    write_workbooks,
)
from skyloom.pipelines.hi_profiles.simulation import simulate_spectra, simulate_truth
from skyloom.pipelines.hi_profiles.training import (
    fit_baselines,
    fit_final_network,
    pretrain_networks,
    run_sweep,
)


def create_pipeline() -> Pipeline:
    """All five stages.

    Returns
    -------
    kedro.pipeline.Pipeline
        Each node is tagged with its stage.
    """
    sample = ["profiles", "profile_flux", "fits"]
    training_images = ["images", "augmentation_manifest", "augmented_images", "pretrained_networks"]
    return Pipeline(
        [
            _node(
                configure_sweep,
                [
                    "params:sweep",
                    "params:features",
                    "params:augmentation",
                    "params:network",
                    "params:training",
                ],
                ["sweep_plan"],
                "ingestion",
            ),
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
            _node(draw_images, [*sample, "sweep_plan"], ["images"], "features"),
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
                ["profiles", "asymmetry", "classes", "sweep_plan"],
                ["augmentation_manifest"],
                "augmentation",
            ),
            _node(
                draw_augmented_images,
                [*sample, "augmentation_manifest", "sweep_plan"],
                ["augmented_images"],
                "augmentation",
            ),
            _node(
                simulate_pretraining_sample,
                ["params:pretraining", "params:simulation", "sweep_plan"],
                ["pretraining_images", "pretraining_targets"],
                "augmentation",
            ),
            _node(
                pretrain_networks,
                [
                    "pretraining_images",
                    "pretraining_targets",
                    "sweep_plan",
                    "finished_fits",
                    "params:pretraining",
                    "params:cluster",
                ],
                ["pretrained_networks"],
                "training",
            ),
            _node(
                fit_baselines,
                ["profiles", "fits", "asymmetry", "split_manifest", "params:augmentation"],
                ["baseline_predictions"],
                "training",
            ),
            _node(
                run_sweep,
                [
                    "profiles",
                    "split_manifest",
                    *training_images,
                    "baseline_predictions",
                    "sweep_plan",
                    "finished_fits",
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
                audit_published_protocol,
                [
                    "profiles",
                    "classes",
                    "images",
                    "sweep_plan",
                    "finished_fits",
                    "params:audit",
                    "params:cluster",
                ],
                ["audit_fits", "audit_predictions", "audit_null"],
                "training",
            ),
            _node(
                fit_final_network,
                [
                    "profiles",
                    "fits",
                    "asymmetry",
                    "classes",
                    *training_images,
                    "validation_predictions",
                    "sweep",
                    "sweep_plan",
                    "params:reporting",
                ],
                ["classifier", "classifier_description", "classifier_example"],
                "training",
            ),
            _node(
                score_configurations,
                [
                    "classes",
                    "split_manifest",
                    "network_predictions",
                    "inner_scores",
                    "permutations",
                    "baseline_predictions",
                    "params:reporting",
                ],
                ["success_rates", "predictions", "selection"],
                "reporting",
            ),
            _node(
                summarise_audit,
                ["audit_fits", "audit_null", "classes"],
                ["audit_summary", "audit_sentences"],
                "reporting",
            ),
            _node(
                write_workbooks,
                ["profiles", "predictions", "asymmetry"],
                ["workbooks"],
                "reporting",
            ),
            _node(
                write_audit_workbooks,
                ["profiles", "audit_predictions"],
                ["audit_workbooks"],
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
                    "sweep_plan",
                    "sweep",
                    "permutations",
                ],
                ["model_info"],
                "reporting",
            ),
            _node(
                explain_predictions,
                [*sample, "classes", "classifier", "classifier_description"],
                ["explanations"],
                "reporting",
            ),
            _node(
                write_report,
                [
                    *sample,
                    "images",
                    "asymmetry",
                    "rejected",
                    "classes",
                    "success_rates",
                    "predictions",
                    "learning_curves",
                    "selection",
                    "permutations",
                    "audit_fits",
                    "audit_null",
                    "audit_summary",
                    "audit_sentences",
                    "sweep",
                    "explanations",
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
                    "audit_figure",
                    "permutation_figure",
                    "explanations_figure",
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
                    "inner_scores",
                    "learning_curves",
                    "sweep",
                    "audit_summary",
                ],
                ["runs"],
                "reporting",
            ),
        ],
        namespace="hi_profiles",
        parameters={"params:cluster"},
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


def create_prediction_pipeline() -> Pipeline:
    """A folder of new spectra classified by a finished network.

    Returns
    -------
    kedro.pipeline.Pipeline
    """
    sample = ["profiles", "profile_flux", "fits", "asymmetry"]
    return Pipeline(
        [
            _node(
                ingest_unlabelled_spectra,
                ["spectra", "params:ingestion"],
                ["profiles", "profile_flux", "rejected"],
                "prediction",
            ),
            _node(
                measure_profiles,
                ["profiles", "profile_flux", "params:features"],
                ["fits", "asymmetry"],
                "prediction",
            ),
            _node(
                classify_profiles,
                [*sample, "classifier"],
                ["classes", "explanations_figure"],
                "prediction",
            ),
            _node(
                summarise_classes,
                ["classes", "rejected", "classifier"],
                ["workbook", "summary"],
                "prediction",
            ),
        ],
        namespace="hi_profiles.prediction",
        parameters={
            f"params:{name}": f"params:hi_profiles.{name}" for name in ("ingestion", "features")
        },
    )
