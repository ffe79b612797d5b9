"""Command lines: the only floor that prints."""
