"""A world of hosts, processes and one shared disk, all in memory and in one thread, in which the
real file engine runs: every system call of its `calls.py` is answered here."""
