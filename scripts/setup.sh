#!/bin/sh
# Makes the virtual environment, or completes it: setup.sh FOLDER. PYTHON names the interpreter,
# 3.11 or newer; without it, an environment that is whole stays as it is.
set -eu
venv=$1
python=${PYTHON:-python3}
cd "$(dirname "$0")/.."

# Empty where the interpreter is missing or does not run.
base=
if [ -n "${PYTHON:-}" ]; then
    base=$("$python" -c 'import sys; print(sys.base_prefix)' 2>/dev/null || true)
fi
if [ -x "$venv/bin/python" ] && "$venv/bin/python" -m scripts.setup --check --base "$base" "$venv" \
    2>/dev/null; then
    exit 0
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
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

exec "$python" -m scripts.setup "$venv"
