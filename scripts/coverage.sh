#!/bin/sh
# Compares the coverage of the last whole `make test` with its floors: coverage.sh BIN. Lines and
# branches together; pyproject.toml has the floor of both packages, FULL has no line untested. What
# the folders of tests in _COVERED (tests/conftest.py) run counts.
set -eu
coverage="$1/coverage"
FULL="authsvc/domain/* authsvc/resolver/* authsvc/tokens/* authsvc/access/* authsvc/audit/*
authsvc/assertions/* authsvc/signals/* authsvc/http_auth/* authsvc/gateways/* mcp_adapter/gate/*"

changed=$(find authsvc mcp_adapter -name '*.py' -newer .coverage 2>/dev/null | head -n 1)
if ! [ -f .coverage ] || [ -n "$changed" ]; then
    echo "Coverage of the code as it is has not been measured: run \`make test\` without TESTS." >&2
    [ -z "${CI_STRICT:-}" ]
    exit
fi
"$coverage" report --skip-covered --fail-under=100 --include="$(printf %s "$FULL" | tr '\n ' ',,')"
"$coverage" report --format=total >/dev/null || { "$coverage" report --skip-covered; exit 1; }
echo "The coverage is $("$coverage" report --format=total) %, of lines and branches."
