"""Stars in sky images: where they are, how bright, and which of them are found."""

from skyloom.pipelines.star_fields.pipeline import create_pipeline

__all__ = ["create_pipeline"]
