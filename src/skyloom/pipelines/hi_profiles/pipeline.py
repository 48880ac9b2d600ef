"""The HI-profile study: ingestion, features, augmentation, training, reporting."""

from kedro.pipeline import Pipeline

from skyloom.evaluation.report import summarise_classes
from skyloom.pipelines import wiring
from skyloom.pipelines.hi_profiles import (
    audit,
    augmentation,
    features,
    ingestion,
    prediction,
    reporting,
    simulation,
    training,
)
from skyloom.pipelines.wiring import CLASSIFIER, COMPARISON, Step

NAME = "hi_profiles"
FIGURES = (
    "success_rate_figure learning_curves_figure confusion_figure sample_images_figure "
    "a_flux_figure reliability_figure audit_figure permutation_figure explanations_figure"
)


def create_pipeline() -> Pipeline:
    """All five stages."""
    sample = "profiles profile_flux fits"
    settings = "params:features params:augmentation params:network params:training"
    trained_on = "images augmentation_manifest augmented_images pretrained_networks"
    fits = "sweep finished_fits params:cluster"
    return wiring.study(
        NAME,
        {
            "ingestion": [
                Step(ingestion.configure_sweep, f"params:sweeps {settings}", "sweep"),
                Step(
                    ingestion.ingest_spectra,
                    "observations@files labels params:ingestion",
                    "profiles profile_flux rejected",
                ),
                Step(
                    ingestion.draw_spectra_sheets,
                    "observations@files profiles rejected params:ingestion",
                    "spectra_sheets",
                ),
            ],
            "features": [
                Step(
                    features.measure_profiles,
                    "profiles profile_flux params:features",
                    "fits asymmetry",
                ),
                Step(features.draw_images, f"{sample} sweep", "images"),
                Step(features.paint_jpegs, f"{sample} params:features", "painted_images"),
                Step(
                    features.draw_galaxy_figures,
                    f"{sample} asymmetry params:features",
                    "halves_figures sample_pages galaxy_panel",
                ),
            ],
            "augmentation": [
                Step(
                    augmentation.choose_classes,
                    "profiles fits asymmetry params:augmentation",
                    "classes",
                ),
                Step(augmentation.make_split, "classes params:augmentation", "split_manifest"),
                Step(
                    augmentation.plan_copies,
                    "profiles asymmetry classes sweep",
                    "augmentation_manifest",
                ),
                Step(
                    augmentation.draw_augmented_images,
                    f"{sample} augmentation_manifest sweep",
                    "augmented_images",
                ),
                Step(
                    augmentation.simulate_pretraining_sample,
                    "params:pretraining params:simulation sweep",
                    "pretraining_images pretraining_targets",
                ),
            ],
            "training": [
                Step(
                    training.pretrain_networks,
                    f"pretraining_images pretraining_targets params:pretraining {fits}",
                    "pretrained_networks",
                ),
                Step(
                    training.fit_baselines,
                    "profiles fits asymmetry split_manifest params:augmentation",
                    "baseline_predictions",
                ),
                Step(
                    training.run_sweep,
                    f"profiles split_manifest {trained_on} baseline_predictions {fits}",
                    COMPARISON,
                ),
                Step(
                    audit.audit_published_protocol,
                    f"profiles classes images params:audit {fits}",
                    "audit_fits audit_predictions audit_null",
                ),
                Step(
                    training.fit_final_network,
                    f"profiles fits asymmetry classes {trained_on} validation_predictions "
                    "outcome sweep params:reporting",
                    CLASSIFIER,
                ),
            ],
            "reporting": [
                Step(
                    reporting.score_configurations,
                    "classes split_manifest network_predictions inner_scores permutations "
                    "baseline_predictions params:reporting",
                    "success_rates predictions selection",
                ),
                Step(
                    reporting.summarise_audit,
                    "audit_fits audit_null classes",
                    "audit_summary audit_sentences",
                ),
                Step(reporting.write_workbooks, "profiles predictions asymmetry", "workbooks"),
                Step(
                    reporting.write_audit_workbooks, "profiles audit_predictions", "audit_workbooks"
                ),
                Step(
                    reporting.model_info,
                    "profiles rejected classes split_manifest augmentation_manifest sweep "
                    "outcome permutations",
                    "model_info",
                ),
                Step(
                    reporting.explain_predictions,
                    f"{sample} classes classifier classifier_description",
                    "explanations",
                ),
                Step(
                    reporting.write_report,
                    f"{sample} images asymmetry rejected classes success_rates predictions "
                    "learning_curves selection permutations audit_fits audit_null "
                    "audit_summary audit_sentences outcome explanations model_info "
                    "params:reporting",
                    f"{FIGURES} report summary",
                    by_name=True,
                ),
                Step(
                    reporting.describe_runs,
                    "profiles split_manifest success_rates predictions inner_scores "
                    "learning_curves sweep outcome audit_summary summary",
                    "runs",
                ),
            ],
        },
    )


def create_simulation_pipeline() -> Pipeline:
    """A made-up sample, written as a telescope would."""
    return wiring.simulation(NAME, simulation.simulate_truth, simulation.simulate_spectra)


def create_prediction_pipeline() -> Pipeline:
    """A folder of new spectra classified by a finished network."""
    return wiring.side_pipeline(
        NAME,
        "prediction",
        [
            Step(
                prediction.ingest_unlabelled_spectra,
                "observations params:ingestion",
                "profiles profile_flux rejected",
            ),
            Step(
                features.measure_profiles, "profiles profile_flux params:features", "fits asymmetry"
            ),
            Step(
                prediction.classify_profiles,
                "profiles profile_flux fits asymmetry classifier params:prediction",
                "classes explanations_figure population",
            ),
            Step(
                summarise_classes,
                "classes rejected classifier population",
                "workbook summary",
            ),
        ],
    )
