#!/bin/sh
# Installs what the tests with real clients need: clients.sh VENV. Debian's Chromium, and what
# tests/clients/package-lock.json pins, by the Node of the virtual environment. What cannot be had
# is named, and its tests skip.
set -eu
venv=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."

if ! command -v chromium >/dev/null; then
    install="apt-get install --yes --no-install-recommends chromium"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "clients: installing chromium"
        { apt-get update --quiet=2 && DEBIAN_FRONTEND=noninteractive $install --quiet=2; } \
            >/dev/null || echo "clients: chromium could not be installed" >&2
    else
        echo "clients: chromium is missing; run: sudo $install" >&2
    fi
fi

"$venv/bin/python" -m scripts.npm tests/clients ||
    echo "clients: the clients could not be installed; their tests skip" >&2
