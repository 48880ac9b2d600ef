"""The study of stellar spectra: ingestion, features, augmentation, training, reporting."""

from kedro.pipeline import Pipeline

from skyloom.evaluation.report import summarise_classes
from skyloom.pipelines import wiring
from skyloom.pipelines.stellar_spectra import (
    audit,
    augmentation,
    download,
    explanation,
    features,
    generation,
    ingestion,
    prediction,
    reporting,
    simulation,
    training,
)
from skyloom.pipelines.wiring import CLASSIFIER, COMPARISON, Step

NAME = "stellar_spectra"
FIGURES = (
    "success_rate_figure arms_figure axis_figure rare_class_figure snr_figure "
    "learning_curves_figure confusion_figure confusion_by_prediction_figure reliability_figure "
    "occlusion_figure generators_figure lines_figure audit_figure"
)


def create_pipeline() -> Pipeline:
    """All five stages."""
    settings = "params:features params:augmentation params:network params:training"
    fits = "sweep finished_fits params:cluster"
    return wiring.study(
        NAME,
        {
            "ingestion": [
                Step(ingestion.configure_sweep, f"params:sweeps {settings}", "sweep"),
                Step(
                    ingestion.ingest_spectra,
                    "observations@files labels params:ingestion",
                    "stars stacked_spectra rejected",
                ),
            ],
            "features": [
                Step(features.measure_stars, "stars stacked_spectra sweep", "sample measurements"),
                Step(features.prepare_sample, "stars stacked_spectra sweep", "prepared_spectra"),
                Step(features.draw_inputs, "prepared_spectra sweep", "inputs"),
                Step(features.draw_sample_figure, "sample prepared_spectra sweep", "sample_figure"),
            ],
            "augmentation": [
                Step(augmentation.make_split, "sample sweep params:augmentation", "split_manifest"),
                Step(
                    augmentation.train_generators,
                    f"sample prepared_spectra split_manifest params:generators {fits}",
                    "generators generator_history generator_films generator_sheets",
                ),
                Step(
                    augmentation.draw_synthetic_spectra,
                    "sample prepared_spectra split_manifest generators sweep params:synthetic",
                    "synthetic_spectra synthetic",
                ),
            ],
            "training": [
                Step(training.fit_baselines, "measurements split_manifest", "baseline_predictions"),
                Step(
                    training.run_sweep,
                    f"sample split_manifest inputs synthetic_spectra baseline_predictions {fits}",
                    COMPARISON,
                ),
                Step(
                    audit.audit_published_recipe,
                    f"sample stacked_spectra params:audit {fits}",
                    "audit audit_sentences",
                ),
                Step(
                    training.fit_final_network,
                    "sample measurements split_manifest inputs synthetic_spectra "
                    "validation_predictions outcome sweep",
                    CLASSIFIER,
                ),
            ],
            "reporting": [
                Step(
                    reporting.score_configurations,
                    "split_manifest sample network_predictions inner_scores permutations "
                    "baseline_predictions sweep outcome params:reporting",
                    "success_rates predictions selection arms class_scores rare_class "
                    "success_by_snr",
                ),
                Step(
                    explanation.explain_by_occlusion,
                    "sample prepared_spectra split_manifest classifier "
                    "classifier_description params:reporting",
                    "occlusion",
                ),
                Step(
                    reporting.measure_synthetic_quality,
                    "sample split_manifest prepared_spectra synthetic_spectra synthetic "
                    "classifier classifier_description sweep",
                    "synthetic_quality synthetic_lines",
                ),
                Step(reporting.write_workbooks, "sample predictions measurements", "workbooks"),
                Step(
                    reporting.model_info,
                    "sample rejected split_manifest synthetic generator_history sweep outcome",
                    "model_info",
                ),
                Step(
                    reporting.write_report,
                    "sample rejected prepared_spectra split_manifest success_rates arms "
                    "class_scores rare_class success_by_snr predictions learning_curves "
                    "selection occlusion generator_history synthetic synthetic_quality "
                    "synthetic_lines audit audit_sentences sweep outcome model_info",
                    f"{FIGURES} report summary",
                    by_name=True,
                ),
                Step(
                    reporting.describe_runs,
                    "sample split_manifest success_rates predictions inner_scores "
                    "learning_curves audit sweep outcome summary",
                    "runs",
                ),
            ],
        },
    )


def create_simulation_pipeline() -> Pipeline:
    """A made-up survey, written as an archive would give it."""
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
                "stars stacked_spectra rejected",
            ),
            Step(
                prediction.classify_spectra,
                "stars stacked_spectra classifier params:prediction",
                "classes sheets population",
            ),
            Step(
                summarise_classes,
                "classes rejected classifier population",
                "workbook summary",
            ),
        ],
    )


def create_download_pipeline() -> Pipeline:
    """The spectra of a list of observation ids, from the archive."""
    fetch = Step(download.fetch_spectra, "source_list params:folder params:archive", "manifest")
    return wiring.side_pipeline(NAME, "download", [fetch])


def create_catalogue_pipeline() -> Pipeline:
    """A catalogue of millions of rows split by spectral class and sampled."""
    split = Step(
        download.split_and_sample, "params:sources params:folder params:catalogue", "counts"
    )
    return wiring.side_pipeline(NAME, "catalogue", [split])


def create_generation_pipeline() -> Pipeline:
    """Made spectra of the rare class, written as FITS files and as one table."""
    make = Step(
        generation.make_spectra,
        "generators params:features params:augmentation params:generation",
        "made_spectra made_table",
    )
    return wiring.side_pipeline(NAME, "generation", [make], inputs=["generators"])
