#!/usr/bin/env bash
# Makes .venv from requirements.lock (hashes checked) and puts the project itself into it, editable.
# Does nothing when nothing changed: the stamp holds the contents of both files, the place and the Python.
# Plain venv and pip: what every Python has, so that one way is taken, and tested, on every machine.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
new_enough() { "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

stamp=.venv/.ready
wanted=$( (cat requirements.lock pyproject.toml scripts/setup.sh; pwd) | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && new_enough .venv/bin/python; then
    exit 0
fi

python=""
for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.14; do
    if new_enough "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    found=$("${PYTHON:-python3}" --version 2>&1) || found="no Python at all"
    say "HybridGW needs Python 3.11 or newer; '${PYTHON:-python3}' is ${found}."
    say "Install one (Debian: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12 ..."
    exit 1
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

if ! new_enough .venv/bin/python; then
    say "Setting up .venv with $("$python" --version) ..."
    rm -rf .venv
    if ! why=$("$python" -m venv .venv 2>&1); then
        rm -rf .venv
        say "$why"
        say "'$python -m venv' does not work here. Debian and Ubuntu: apt-get install python3-venv"
        exit 1
    fi
fi

say "Installing what requirements.lock names, $(grep -c '==' requirements.lock) packages: a minute or two the first time ..."
.venv/bin/python -m pip install -qq --require-hashes -r requirements.lock
# The project itself has no hash: editable, without dependencies, built by the hatchling of the lock.
.venv/bin/python -m pip install -qq --no-deps --no-build-isolation -e .
printf '%s\n' "$wanted" >"$stamp"
