"""How a minion runs Python functions.

A clean interpreter (zygote.py) imports the function once and forks a child (child.py) for each
slot, and another whenever one died. The minion (crew.py, slot.py) feeds the children batches of
params and reads what became of them (records.py). `--inline` does without all that (inline.py).
"""
