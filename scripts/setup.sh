#!/usr/bin/env bash
# Make .venv with everything that building, testing and the demo need, at the versions in constraints.txt.
# Called by the Makefile when pyproject.toml or constraints.txt changed; safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."

# A name on PATH proves nothing (version managers put shims there), so each candidate is asked.
usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    local name
    for name in ${PYTHON:-} python3.11 python3.12 python3.13 python3 python; do
        if usable "$name"; then
            printf '%s\n' "$name"
            return
        fi
    done
    echo "setup: Python 3.11 or newer is needed and was not found; install it, or name it: make PYTHON=/path/to/python3" >&2
    exit 1
}

make_venv() {
    local python=$1
    if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
        echo "setup: $python cannot make virtual environments; install its venv package (on Debian: python3-venv)" >&2
        exit 1
    fi
    echo "setup: making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
}

# pip is silent while it resolves and long-winded otherwise: one short line for each package and step is enough.
install() {
    PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install --no-input --progress-bar off \
        -c constraints.txt "$@" |
        awk '/^Collecting /      { printf "  %s\n", $2; fflush() }
             /^Installing build|^Preparing|^Building/ { print "  preparing storage-gateway"; fflush() }
             /^Installing coll/  { print "  installing what was fetched"; fflush() }
             /^Successfully inst/ { print "  done"; fflush() }'
}

# The virtual environment of another machine or of a removed interpreter does not start.
if ! usable .venv/bin/python; then
    python=$(find_python)
    make_venv "$python"
fi
started=$SECONDS
echo "setup: fetching the packages listed in constraints.txt (a minute or two on the first run)"
# The build backend is installed first and used from here, so that it is pinned like everything else.
install hatchling editables
install --no-build-isolation -e '.[all,dev]'
echo "setup: ready after $((SECONDS - started)) s"
