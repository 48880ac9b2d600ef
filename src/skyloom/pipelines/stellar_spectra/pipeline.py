"""The study of stellar spectra: ingestion, features, augmentation, training, reporting."""

from kedro.pipeline import Pipeline

from skyloom.pipelines._node import stage_node as _node
from skyloom.pipelines.stellar_spectra.audit import audit_published_recipe
from skyloom.pipelines.stellar_spectra.augmentation import (
    draw_synthetic_spectra,
    make_split,
    train_generators,
)
from skyloom.pipelines.stellar_spectra.download import fetch_spectra, split_and_sample
from skyloom.pipelines.stellar_spectra.features import (
    draw_inputs,
    draw_sample_figure,
    measure_stars,
    prepare_sample,
)
from skyloom.pipelines.stellar_spectra.generation import make_spectra
from skyloom.pipelines.stellar_spectra.ingestion import configure_sweep, ingest_spectra
from skyloom.pipelines.stellar_spectra.prediction import (
    classify_spectra,
    ingest_unlabelled_spectra,
    summarise_classes,
)
from skyloom.pipelines.stellar_spectra.reporting import (
    describe_runs,
    explain_by_occlusion,
    measure_synthetic_quality,
    model_info,
    score_configurations,
    write_report,
    write_workbooks,
)
from skyloom.pipelines.stellar_spectra.simulation import simulate_spectra, simulate_truth
from skyloom.pipelines.stellar_spectra.training import (
    fit_baselines,
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
                ingest_spectra,
                ["spectra@files", "labels", "params:ingestion"],
                ["stars", "stacked_spectra", "rejected"],
                "ingestion",
            ),
            _node(
                measure_stars,
                ["stars", "stacked_spectra", "sweep_plan"],
                ["sample", "measurements"],
                "features",
            ),
            _node(
                prepare_sample,
                ["stars", "stacked_spectra", "sweep_plan"],
                ["prepared_spectra"],
                "features",
            ),
            _node(draw_inputs, ["prepared_spectra", "sweep_plan"], ["inputs"], "features"),
            _node(
                draw_sample_figure,
                ["sample", "prepared_spectra", "sweep_plan"],
                ["sample_figure"],
                "features",
            ),
            _node(
                make_split,
                ["sample", "sweep_plan", "params:augmentation"],
                ["split_manifest"],
                "augmentation",
            ),
            _node(
                train_generators,
                [
                    "sample",
                    "prepared_spectra",
                    "split_manifest",
                    *fits,
                    "params:generators",
                    "params:cluster",
                ],
                ["generators", "generator_history", "generator_films", "generator_sheets"],
                "augmentation",
            ),
            _node(
                draw_synthetic_spectra,
                [
                    "sample",
                    "prepared_spectra",
                    "split_manifest",
                    "generators",
                    "sweep_plan",
                    "params:synthetic",
                ],
                ["synthetic_spectra", "synthetic"],
                "augmentation",
            ),
            _node(
                fit_baselines,
                ["measurements", "split_manifest"],
                ["baseline_predictions"],
                "training",
            ),
            _node(
                run_sweep,
                [
                    "sample",
                    "split_manifest",
                    "inputs",
                    "synthetic_spectra",
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
                audit_published_recipe,
                ["sample", "stacked_spectra", *fits, "params:audit", "params:cluster"],
                ["audit", "audit_sentences"],
                "training",
            ),
            _node(
                fit_final_network,
                [
                    "sample",
                    "measurements",
                    "split_manifest",
                    "inputs",
                    "synthetic_spectra",
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
                    "sweep_plan",
                    "sweep",
                    "params:reporting",
                ],
                [
                    "success_rates",
                    "predictions",
                    "selection",
                    "arms",
                    "class_scores",
                    "rare_class",
                    "success_by_snr",
                ],
                "reporting",
            ),
            _node(
                explain_by_occlusion,
                [
                    "sample",
                    "prepared_spectra",
                    "split_manifest",
                    "classifier",
                    "classifier_description",
                    "params:reporting",
                ],
                ["occlusion"],
                "reporting",
            ),
            _node(
                measure_synthetic_quality,
                [
                    "sample",
                    "split_manifest",
                    "prepared_spectra",
                    "synthetic_spectra",
                    "synthetic",
                    "classifier",
                    "classifier_description",
                    "sweep_plan",
                ],
                ["synthetic_quality", "synthetic_lines"],
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
                    "prepared_spectra",
                    "split_manifest",
                    "success_rates",
                    "arms",
                    "class_scores",
                    "rare_class",
                    "success_by_snr",
                    "predictions",
                    "learning_curves",
                    "selection",
                    "occlusion",
                    "generator_history",
                    "synthetic",
                    "synthetic_quality",
                    "synthetic_lines",
                    "audit",
                    "audit_sentences",
                    "sweep_plan",
                    "sweep",
                    "model_info",
                ],
                [
                    "success_rate_figure",
                    "arms_figure",
                    "study_figure",
                    "rare_class_figure",
                    "snr_figure",
                    "learning_curves_figure",
                    "confusion_figure",
                    "confusion_by_prediction_figure",
                    "reliability_figure",
                    "occlusion_figure",
                    "generators_figure",
                    "lines_figure",
                    "audit_figure",
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
                    "audit",
                    "sweep_plan",
                    "sweep",
                ],
                ["runs"],
                "reporting",
            ),
        ],
        namespace="stellar_spectra",
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
            _node(simulate_spectra, ["truth", "params:simulation"], ["spectra@fits"], "simulation"),
        ],
        namespace="stellar_spectra",
    )


def create_prediction_pipeline() -> Pipeline:
    """A folder of new spectra classified by a finished network.

    Returns
    -------
    kedro.pipeline.Pipeline
    """
    return Pipeline(
        [
            _node(
                ingest_unlabelled_spectra,
                ["spectra", "params:ingestion"],
                ["stars", "stacked_spectra", "rejected"],
                "prediction",
            ),
            _node(
                classify_spectra,
                ["stars", "stacked_spectra", "classifier"],
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
        namespace="stellar_spectra.prediction",
        parameters={"params:ingestion": "params:stellar_spectra.ingestion"},
    )


def create_download_pipeline() -> Pipeline:
    """The spectra of a list of observation ids, from the archive.

    Returns
    -------
    kedro.pipeline.Pipeline
    """
    return Pipeline(
        [
            _node(
                fetch_spectra,
                ["ids", "params:folder", "params:archive"],
                ["manifest"],
                "download",
            )
        ],
        namespace="stellar_spectra.download",
        parameters={
            "params:archive": "params:stellar_spectra.archive",
            "params:folder": "params:folder",
        },
    )


def create_catalogue_pipeline() -> Pipeline:
    """A catalogue of millions of rows split by spectral class and sampled.

    Returns
    -------
    kedro.pipeline.Pipeline
    """
    return Pipeline(
        [
            _node(
                split_and_sample,
                ["params:sources", "params:folder", "params:catalogue"],
                ["counts"],
                "catalogue",
            )
        ],
        namespace="stellar_spectra.catalogue",
        parameters={
            "params:catalogue": "params:stellar_spectra.catalogue",
            "params:folder": "params:folder",
            "params:sources": "params:sources",
        },
    )


def create_generation_pipeline() -> Pipeline:
    """Made spectra of the rare class, written as FITS files and as one table.

    Returns
    -------
    kedro.pipeline.Pipeline
    """
    return Pipeline(
        [
            _node(
                make_spectra,
                ["generators", "params:features", "params:augmentation", "params:generation"],
                ["made_spectra", "made_table"],
                "generation",
            )
        ],
        namespace="stellar_spectra.generation",
        inputs={"generators": "stellar_spectra.generators"},
        parameters={
            f"params:{name}": f"params:stellar_spectra.{name}"
            for name in ("features", "augmentation", "generation")
        },
    )
