"""Splits, scores, chance and baselines."""
