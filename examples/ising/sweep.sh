#!/bin/sh
# Builds the program, fills the queue, works on it with two minions here, and draws the result.
# On a cluster: the same up to the feed, then a job script (../slurm, ../oar) for the minions.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cc -O2 -o ising "$here/ising.c" -lm

minion feed -q runs --grid temperature=1.5:3.5:0.1 seed=0:8

for _ in 1 2; do
    minionize -q runs --capture ./ising --temperature {temperature} --seed {seed} &
done
minion wait -q runs
wait

minion results -q runs --parse json -o results.csv
python3 "$here/plot.py" results.csv
