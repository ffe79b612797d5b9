"""Filling: from files, pipes and grids to params as JSON texts, and into a queue."""
