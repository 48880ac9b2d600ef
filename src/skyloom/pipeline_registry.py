"""The project's pipelines, by study and by stage."""

from kedro.pipeline import Pipeline


def register_pipelines() -> dict[str, Pipeline]:
    """Register the pipelines.

    Returns
    -------
    dict of str to kedro.pipeline.Pipeline
        ``<study>``, ``<study>.<stage>``, ``<study>.simulation``, ``<study>.prediction`` and
        ``__default__``.
    """
    from skyloom.pipelines.hi_profiles import pipeline as hi_profiles

    study = hi_profiles.create_pipeline()
    simulation = hi_profiles.create_simulation_pipeline()
    pipelines = {
        "hi_profiles": study,
        "hi_profiles.simulation": simulation,
        "hi_profiles.prediction": hi_profiles.create_prediction_pipeline(),
    }
    for stage in hi_profiles.STAGES:
        pipelines[f"hi_profiles.{stage}"] = study.only_nodes_with_tags(stage)
    pipelines["__default__"] = simulation + study
    return pipelines
