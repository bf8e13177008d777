#!/usr/bin/env bash
# Debian packages that some tests need: a real keyring on a real D-Bus, strace for the power-loss recording, browsers,
# namespaces and filters for the test networks.
# Only as root on a Debian system; otherwise it says what is missing, and those tests skip naming the package.
# Never fails the build.
set -uo pipefail
packages=(gnome-keyring dbus libsecret-tools dbus-user-session strace chromium firefox-esr fonts-dejavu-core iproute2 nftables)

command -v dpkg-query >/dev/null 2>&1 || exit 0
missing() {
    for package in "${packages[@]}"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || printf '%s ' "$package"
    done
}
need=$(missing)
[ -z "$need" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing test packages: $need" >&2
    export DEBIAN_FRONTEND=noninteractive
    guard=/usr/sbin/policy-rc.d # 101: no package may start a system service while it installs
    made=""
    if [ ! -e "$guard" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$guard" && chmod +x "$guard" && made=yes
        trap '[ -n "$made" ] && rm -f "$guard"' EXIT
    fi
    # shellcheck disable=SC2086
    install() { timeout 300 apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold $need >/dev/null 2>&1; }
    install || { timeout 120 apt-get update -qq >/dev/null 2>&1; install; } || true
fi
need=$(missing)
[ -z "$need" ] || echo "Some tests will skip. They need these Debian packages: $need(as root: apt-get install $need)" >&2
exit 0
