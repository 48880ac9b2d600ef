"""Fits, sweeps and nested cross-validation of configurations, and generative networks."""
