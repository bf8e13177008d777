#!/usr/bin/env bash
# Writes requirements.lock: every dependency for every platform, with hashes and without the name of any host.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v uv >/dev/null 2>&1 || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
new=$(mktemp)
trap 'rm -f "$new"' EXIT
cat >"$new" <<'HEAD'
# All dependencies with hashes, for Python >= 3.11 on every platform. Written by `make lock`, not by hand.
HEAD
UV_PYTHON_DOWNLOADS=never uv pip compile --quiet --universal --python-version 3.11 --python .venv/bin/python \
    --generate-hashes --no-strip-extras --no-header --no-emit-index-url --extra relay --group dev pyproject.toml >>"$new"
if grep -n '://' "$new"; then echo "requirements.lock would name a host; not written." >&2; exit 1; fi
cp "$new" requirements.lock
