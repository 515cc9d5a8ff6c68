#!/bin/sh
# Installs what the tests with real clients, proxies, helm and Prometheus need: clients.sh VENV.
# Debian's Chromium, nginx and Prometheus, and what the package-lock.json in tests/clients, tests/deploy/tools and protos pin, by the
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

# Unpacked, not installed: the package would start a service, and this needs no root.
prometheus=var/prometheus
if ! command -v promtool >/dev/null && ! [ -x $prometheus/promtool ]; then
    echo "clients: unpacking Prometheus"
    mkdir -p var
    fetched=$(mktemp -d var/prometheus.XXXXXX)
    chmod 755 "$fetched"
    { [ "$(id -u)" != 0 ] || apt-get update --quiet=2; } >/dev/null 2>&1 || true
    { (cd "$fetched" && apt-get download --quiet=2 -o APT::Sandbox::User=root prometheus &&
        dpkg-deb --extract prometheus_*.deb .) >/dev/null && rm -rf $prometheus &&
        mv "$fetched/usr/bin" $prometheus; } ||
        echo "clients: Debian's package prometheus could not be unpacked; its tests skip" >&2
    rm -rf "$fetched"
fi

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
