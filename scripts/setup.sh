#!/bin/sh
# Makes the virtual environment: setup.sh FOLDER. PYTHON names the interpreter, 3.11 or newer.
set -eu
venv=$1
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "setup: Python 3.11 or newer is needed; PYTHON=/path/to/python make … names one" >&2
    exit 1
}

# Debian keeps what makes virtual environments in a package of its own.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    install="apt-get install --yes --no-install-recommends python3-venv"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing python3-venv"
        apt-get update --quiet=2 && $install
    else
        echo "setup: python3-venv is missing; run: sudo $install" >&2
        exit 1
    fi
fi

echo "setup: making $venv"
"$python" -m venv --clear "$venv"
echo "setup: installing the locked dependencies (a minute or so)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
    --requirement requirements.lock
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
    --no-build-isolation --editable .
echo "setup: done"
