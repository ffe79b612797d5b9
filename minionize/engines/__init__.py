"""Engines: the code that speaks one kind of queue each, and the registry that finds them."""
