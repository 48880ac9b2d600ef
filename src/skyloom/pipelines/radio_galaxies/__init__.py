"""Radio galaxies: their morphology, synthetic images of them, and their bending angles."""

from skyloom.pipelines.radio_galaxies.pipeline import create_pipeline

__all__ = ["create_pipeline"]
