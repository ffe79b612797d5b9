"""Engines: the code that speaks one kind of queue each, and the registry that finds them."""

alone = False
"""Nobody else's code runs in this process, as the commands say of theirs: then a driver may leave
unimported what it does not use of its client, in ways that others would notice."""
