"""Fitting one configuration."""
