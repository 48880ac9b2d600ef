"""Stellar spectra: classes of stars, made spectra of the rare ones, and the archive's catalogue."""

from skyloom.pipelines.stellar_spectra.pipeline import create_pipeline

__all__ = ["create_pipeline"]
