"""Protocols with their promises, nothing else: engine and queue, callback, reporter."""
