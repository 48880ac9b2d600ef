"""Two-dimensional science: ring images."""
