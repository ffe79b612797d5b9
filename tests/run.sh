#!/bin/sh
# Checks and tests, in an environment of their own:
#
#   sh tests/run.sh [unit|all] [OPTIONS OF PYTEST]
#
#   (nothing)  lint, types, floors, and all tests that need nothing installed into the system
#   unit       the same with the fast tests alone
#   all        all tests; one that lacks its server has failed. As root on Debian it installs
#              what the servers are made of. CI=true asks for it as well
#
# The environment is made once, in ${XDG_CACHE_HOME:-~/.cache}/minionize-tests, and anew when
# pyproject.toml changes. PYTHON=python3.12 chooses the Python. The last line is pytest's own.
set -u

cd "$(dirname "$0")/.." || exit 2
clone=$(pwd -P)
. examples/environment.sh

which=some
[ "${CI:-}" != true ] || which=all
case "${1:-}" in
unit | all) which=$1 && shift ;;
esac

section() { printf '\n=== %s\n' "$*"; }

python=$(find_python) || exit 2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/minionize-tests
environment=$(environment_for "$clone" "$python" "$cache/tests") || exit 2
section "environment: $environment"
make_environment "$environment" "$python" -e "$clone[dev]" || exit 2
PATH="$environment/bin:$PATH"
export PATH
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
python --version

if [ "$which" = all ]; then
    section "servers"
    sh tests/services/install.sh
fi

failed=""
check() {
    name=$1
    shift
    section "$name"
    "$@" || failed="$failed, $name"
}
check "ruff check" ruff check
check "ruff format" ruff format --check
check "mypy" mypy
check "import-linter" lint-imports

case "$which" in
unit) tests=tests/unit ;;
*) tests=tests ;;
esac
# Options that name files or tests take the place of the folder.
for word in "$@"; do
    [ -e "${word%%::*}" ] && tests=""
done
slots=$(python -c 'import os; print(min(4, 2 * len(os.sched_getaffinity(0))))')
section "pytest"
[ -z "$failed" ] || echo "(before it: ${failed#, } failed, see above)"
MINIONIZE_TESTS=$which python -m pytest -n "$slots" --dist worksteal -q $tests "$@"
status=$?
[ -z "$failed" ] || [ "$status" -ne 0 ] || status=1
exit "$status"
