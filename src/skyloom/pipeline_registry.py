"""The project's pipelines, by study and by stage."""

from importlib import import_module

from kedro.pipeline import Pipeline

STUDIES = ("hi_profiles", "radio_galaxies")


def register_pipelines() -> dict[str, Pipeline]:
    """Register the pipelines.

    Returns
    -------
    dict of str to kedro.pipeline.Pipeline
        ``<study>``, ``<study>.<stage>``, ``<study>.simulation``, ``<study>.prediction``, where an
        archive has the files ``<study>.download``, and ``__default__``.
    """
    from skyloom.pipelines._node import STAGES

    pipelines = {}
    for name in STUDIES:
        study = import_module(f"skyloom.pipelines.{name}.pipeline")
        pipelines[name] = study.create_pipeline()
        pipelines[f"{name}.simulation"] = study.create_simulation_pipeline()
        pipelines[f"{name}.prediction"] = study.create_prediction_pipeline()
        if hasattr(study, "create_download_pipeline"):
            pipelines[f"{name}.download"] = study.create_download_pipeline()
        for stage in STAGES:
            pipelines[f"{name}.{stage}"] = pipelines[name].only_nodes_with_tags(stage)
    pipelines["__default__"] = pipelines["hi_profiles.simulation"] + pipelines["hi_profiles"]
    return pipelines
