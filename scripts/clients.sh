#!/bin/sh
# Installs what the tests with real clients, proxies and helm need: clients.sh VENV. Debian's Chromium
# and nginx, and what the package-lock.json in tests/clients, tests/deploy/tools and protos pin, by the
# Node of the virtual environment. What cannot be had is named, and its tests skip.
set -eu
venv=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin

debian() { # COMMAND PACKAGE
    command -v "$1" >/dev/null && return
    install="apt-get install --yes --no-install-recommends $2"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "clients: installing $2"
        { apt-get update --quiet=2 && DEBIAN_FRONTEND=noninteractive $install --quiet=2; } \
            >/dev/null || echo "clients: $2 could not be installed" >&2
    else
        echo "clients: $1 is missing; run: sudo $install" >&2
    fi
}

debian chromium chromium
debian nginx nginx-light

for folder in tests/clients tests/deploy/tools protos; do
    "$venv/bin/python" -m scripts.npm "$folder" ||
        echo "clients: $folder could not be installed; its tests skip" >&2
done

# Envoy's official stubs have an environment of their own: they overwrite files of other packages.
official=tests/authsvc/gateways/official
stubs=var/official-stubs
if ! cmp -s $official/requirements.lock $stubs/requirements.lock; then
    rm -rf $stubs
    { "$venv/bin/python" -m venv --without-pip $stubs && "$venv/bin/python" -m scripts.install \
        --target $stubs/bin/python tests/authsvc/gateways/official/requirements.lock &&
        cp $official/requirements.lock $stubs; } ||
        echo "clients: $official could not be installed; its tests skip" >&2
fi
