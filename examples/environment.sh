# For other scripts to source (plain POSIX sh): finds a Python and makes virtual environments.

# Prints the first Python >= 3.10: $PYTHON, python3, python3.14 ... python3.10. 1 where there is none.
find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return 0
        fi
    done
    if [ -n "${PYTHON:-}" ]; then
        echo "PYTHON=$PYTHON is no Python >= 3.10: name another, or unset it" >&2
    else
        echo "no Python >= 3.10 here: install one, or name one with PYTHON=/path/to/python3" >&2
    fi
    return 1
}

# environment_for CLONE PYTHON PREFIX: prints the folder of the environment. Its name says for which
# clone, Python and pyproject.toml it is, so that a change of any of them makes a new one.
environment_for() {
    "$2" - "$1" "$3" <<'PY'
import hashlib, os, sys
clone, prefix = sys.argv[1:]
with open(os.path.join(clone, "pyproject.toml"), "rb") as file:
    made_of = hashlib.sha256(file.read() + sys.executable.encode()).hexdigest()[:10]
where = hashlib.sha256(os.path.realpath(clone).encode()).hexdigest()[:10]
version = "%d.%d.%d" % sys.version_info[:3]
print(f"{prefix}-{where}-{version}-{made_of}")
PY
}

# make_environment FOLDER PYTHON WHAT...: a virtual environment with what pip is told to install.
# What is there and whole already is taken as it is, without a look at the network.
make_environment() {
    folder=$1 python=$2
    shift 2
    [ -e "$folder/complete" ] && return 0
    rm -rf "$folder"
    mkdir -p "$(dirname "$folder")" || return 1
    if ! "$python" -m venv "$folder" >"$folder.log" 2>&1; then
        # Debian's python3 comes without ensurepip.
        rm -rf "$folder"
        if ! { uv venv --seed --python "$python" "$folder" || "$python" -m virtualenv "$folder"; } \
            >>"$folder.log" 2>&1; then
            cat "$folder.log" >&2
            echo "$python can't make a virtual environment: install python3-venv, uv or virtualenv" >&2
            return 1
        fi
    fi
    if ! "$folder/bin/python" -m pip install --disable-pip-version-check "$@" >"$folder.log" 2>&1; then
        tail -n 20 "$folder.log" >&2
        echo "pip can't install $*: see above, and $folder.log" >&2
        return 1
    fi
    rm -f "$folder.log"
    : >"$folder/complete"
    # What older versions of pyproject.toml asked for is of no use any more.
    for old in "${folder%-*}"-*; do
        [ "$old" = "$folder" ] || rm -rf "$old"
    done
}
