#!/bin/sh
# The whole of minionize in under a minute: sh examples/quickstart.sh
#
# Sweeps the 2-D Ising model (examples/ising) over temperatures and seeds with three minions, kills
# one of them with -9 on the way, and draws the result. Needs Python >= 3.10 and a shell; without a
# C compiler the Python twin of the program runs. All that it makes is in .quickstart, in the clone.
set -eu

cd "$(dirname "$0")/.."
clone=$(pwd -P)
. examples/environment.sh

say() { printf '\n# %s\n' "$*"; }
typed() {
    printf '$ %s\n' "$*"
    "$@"
}

python=$(find_python)
environment=$(environment_for "$clone" "$python" "$clone/.quickstart/environment")
[ -e "$environment/complete" ] || say "Once: a virtual environment in .quickstart, with this clone"
make_environment "$environment" "$python" -e "$clone"
PATH="$environment/bin:$PATH"
export PATH
unset PYTHONPATH PYTHONHOME
# Only the settings that stand here.
for name in $(env | sed -n 's/^\(MINION_[A-Z_]*\|REPORTER_[A-Z_]*\|EXECO_[A-Z_]*\)=.*/\1/p'); do
    unset "$name"
done

work=$clone/.quickstart/ising
rm -rf "$work"
mkdir -p "$work"
cd "$work"

compiler=""
for candidate in ${CC:-cc gcc clang}; do
    if command -v "$candidate" >/dev/null 2>&1; then compiler=$candidate && break; fi
done
if [ -n "$compiler" ] && "$compiler" -O2 -o ising "$clone/examples/ising/ising.c" -lm 2>compiler.log
then
    say "The program: examples/ising/ising.c, one temperature and one seed at a time"
    size=64 sweeps=2000
else
    say "The program: examples/ising/ising.py (no C compiler here), a smaller lattice"
    printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$environment/bin/python" \
        "$clone/examples/ising/ising.py" >ising
    chmod +x ising
    size=16 sweeps=300
fi
typed ./ising --temperature 2.0 --seed 1 --size $size --sweeps $sweeps

say "The queue: every temperature with every seed, in the folder minion-queue"
typed minion feed --grid temperature=1.5:3.5:0.1 seed=0:8

say "Three minions work on it. On a cluster each would be a job of its own."
set -- minionize --capture --quiet \
    ./ising --temperature '{temperature}' --seed '{seed}' --size $size --sweeps $sweeps
printf '$ %s &   (three times)\n' "$*"
"$@" 2>minion-1.log & first=$!
"$@" 2>minion-2.log & second=$!
"$@" 2>minion-3.log & third=$!
trap 'kill $first $third 2>/dev/null || true' EXIT

# How many are done: looks until there are 40.
counted='import json, sys; print(json.load(sys.stdin)["done"])'
tries=0
until [ "$(minion status --json | python -c "$counted")" -ge 40 ]; do
    tries=$((tries + 1))
    if [ $tries -gt 200 ] || ! kill -0 "$second"; then
        cat minion-*.log >&2
        echo "the minions end, or do nothing: see above" >&2
        exit 1
    fi
done
say "One of them dies, as when its node fails or its job is preempted."
printf '$ kill -9 %s\n' "$second"
kill -9 "$second"
wait "$second" 2>/dev/null || true

say "The others take over what it held."
typed minion wait
wait "$first" "$third"
trap - EXIT
typed minion status

say "Nothing is missing: a row of results for each param, each only once."
echo '$ minion results --parse json -o results.csv'
minion results --parse json -o results.csv
typed head -n 4 results.csv
rows=$(($(wc -l <results.csv) - 1))
different=$(tail -n +2 results.csv | cut -d, -f1,2 | sort -u | wc -l)
echo "$rows rows, $different different, of 160 params"
[ "$rows" -eq 160 ] && [ "$different" -eq 160 ] || exit 1

say "The result: below 2.27 the spins order."
echo '$ python plot.py results.csv'
python "$clone/examples/ising/plot.py" results.csv

say "All of it is in .quickstart: look around there with minion list, minion show 1, minion failures."
