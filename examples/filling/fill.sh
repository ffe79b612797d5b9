#!/bin/sh
# Fills a queue from a shell, in all the ways there are: sh fill.sh
set -eu

# Each line is a param, a string.
seq 3 | minion feed -q strings

# Each row is an object; --typed makes numbers of what reads as one.
cat >runs.csv <<'CSV'
lr,layers
0.1,2
0.01,4
CSV
minion feed -q trains --typed runs.csv

# All combinations: values, and ranges without their end.
minion feed -q trains --grid lr=0.1,0.01 layers=2:5 seed=0:10

# JSON, one param a line.
printf '%s\n' '{"lr": 0.5, "tags": ["a", "b"]}' '{"lr": 0.6, "tags": []}' |
    minion feed -q trains --format jsonl

# What is in the queue already is left out.
minion feed -q trains --typed --dedupe runs.csv

# A slow producer: its params run while it goes on, and no minion calls the queue drained before.
for i in 4 5; do echo $i && sleep 0.1; done | minion feed -q strings

minion list -q strings
