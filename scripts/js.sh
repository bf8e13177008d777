#!/usr/bin/env bash
# Installs what clients/package-lock.json names (hashes checked) and builds the JavaScript client into clients/js/dist.
# Does nothing when nothing changed. Exit code 3: there is no Node that is new enough.
#
#   scripts/js.sh                   install and build
#   scripts/js.sh dashboard [DIR]   check and build the dashboard into DIR, without it hybridgw_daemon/static
#   scripts/js.sh extension [DIR]   check, build and lint the browser extension into DIR, without it clients/extension/dist
#   scripts/js.sh lock              write clients/package-lock.json anew from the package.json files
set -euo pipefail
from=$PWD
cd "$(dirname "$0")/../clients"

say() { printf '%s\n' "$*" >&2; }

if ! node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
    say "The JavaScript client needs Node 20 or newer, with npm, to be built."
    exit 3
fi
npm=(npm --no-audit --no-fund --no-update-notifier --ignore-scripts --loglevel=error)

if [ "${1:-}" = lock ]; then
    "${npm[@]}" install --package-lock-only
    # Where to give authors money is no part of a lock, and a lock names no host.
    node -e '
        const { readFileSync, writeFileSync } = require("node:fs")
        const lock = JSON.parse(readFileSync("package-lock.json", "utf8"))
        for (const found of Object.values(lock.packages)) delete found.funding
        writeFileSync("package-lock.json", JSON.stringify(lock, null, 2) + "\n")'
    exit
fi

wanted=$( (cat package.json js/package.json dashboard/package.json extension/package.json package-lock.json; pwd) | cksum)
if [ "$(cat node_modules/.ready 2>/dev/null)" != "$wanted" ]; then
    say "Installing what clients/package-lock.json names ..."
    "${npm[@]}" ci >/dev/null
    printf '%s\n' "$wanted" >node_modules/.ready
fi
if [ "${1:-}" = dashboard ]; then
    out=$(cd "$from" && realpath -m "${2:-$OLDPWD/../hybridgw_daemon/static}")
    (cd dashboard && "${npm[@]}" run --silent check && "${npm[@]}" run --silent build -- "$out" && "${npm[@]}" run --silent build:charts -- "$out")
    exit
fi
if [ "${1:-}" = extension ]; then
    out=$(cd "$from" && realpath -m "${2:-$OLDPWD/extension/dist}")
    wanted=$( (cat package-lock.json extension/*.* $(find extension/src extension/public js/src dashboard/src -type f | sort); pwd) | cksum)
    if [ "$(cat "$out/.ready" 2>/dev/null)" != "$wanted" ]; then
        (cd extension && "${npm[@]}" run --silent check && "${npm[@]}" run --silent build -- "$out" && "${npm[@]}" run --silent lint -- "$out")
        printf '%s\n' "$wanted" >"$out/.ready"
    fi
    say "The extension is in $out: folders chrome and firefox to load unpacked, and a package for each store."
    exit
fi
wanted=$( (cat package-lock.json js/package.json js/tsconfig.json js/src/*.ts js/examples/*/*; pwd) | cksum)
if [ "$(cat js/dist/.ready 2>/dev/null)" != "$wanted" ]; then
    say "Building the JavaScript client ..."
    rm -rf js/dist
    (cd js && "${npm[@]}" run --silent build)
    printf '%s\n' "$wanted" >js/dist/.ready
fi
say "The JavaScript client is in clients/js/dist."
