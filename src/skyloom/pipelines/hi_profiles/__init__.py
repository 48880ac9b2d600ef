"""HI profiles: ring images of 21-cm lines, and whether the galaxy is lopsided."""

from skyloom.pipelines.hi_profiles.pipeline import create_pipeline

__all__ = ["create_pipeline"]
