"""Human3.6M's protocols: what they score, how the literature prints it, and published numbers beside it."""
