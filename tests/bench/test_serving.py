"""How apps of a comparison are served."""

from __future__ import annotations

import sys

import pytest
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bench import serving


def test_the_parser_is_httptools() -> None:
    config = serving.configuration(Starlette())
    config.load()
    assert config.http_protocol_class is HttpToolsProtocol


def test_without_httptools_nothing_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httptools", None)
    monkeypatch.delitem(sys.modules, HttpToolsProtocol.__module__)
    with pytest.raises(ImportError, match="httptools"):
        serving.configuration(Starlette()).load()


def test_the_loop_is_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    run = []
    monkeypatch.setattr("uvloop.run", lambda coroutine: run.append(coroutine.close()))
    serving.run(Starlette())
    assert run == [None]


def test_a_report_names_both() -> None:
    assert "httptools 0." in serving.SERVED_BY
    assert "uvloop 0." in serving.SERVED_BY
