"""The project's pipelines, by study and by stage."""

from importlib import import_module

from kedro.pipeline import Pipeline

STUDIES = ("hi_profiles", "radio_galaxies", "stellar_spectra", "star_fields")
FURTHER = ("download", "catalogue", "generation")  # what not every study has


def register_pipelines() -> dict[str, Pipeline]:
    """Register the pipelines.

    Returns
    -------
    dict of str to kedro.pipeline.Pipeline
        ``<study>``, ``<study>.<stage>``, ``<study>.simulation``, ``<study>.prediction``, where an
        archive has the files ``<study>.download`` and perhaps ``<study>.catalogue``, where networks
        make observations ``<study>.generation``, and ``__default__``. Nodes are called
        ``<stage>.<study>.<function>``.
    """
    from skyloom.pipelines.wiring import STAGES

    pipelines = {}
    for name in STUDIES:
        study = import_module(f"skyloom.pipelines.{name}.pipeline")
        pipelines[name] = study.create_pipeline()
        pipelines[f"{name}.simulation"] = study.create_simulation_pipeline()
        pipelines[f"{name}.prediction"] = study.create_prediction_pipeline()
        for further in FURTHER:
            if hasattr(study, f"create_{further}_pipeline"):
                pipelines[f"{name}.{further}"] = getattr(study, f"create_{further}_pipeline")()
        for stage in STAGES:
            pipelines[f"{name}.{stage}"] = pipelines[name].only_nodes_with_tags(stage)
    first = STUDIES[0]
    pipelines["__default__"] = pipelines[f"{first}.simulation"] + pipelines[first]
    return pipelines
