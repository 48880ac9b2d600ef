"""Skyloom: astronomical observations into trained networks and success rates one can believe."""

__version__ = "0.1.0"
