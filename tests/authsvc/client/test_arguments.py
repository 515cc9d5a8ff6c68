"""What the clients are given is checked at once, by name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from authsvc.client import AdminClient, AuthClient, BlockingAuthClient, ClientTls
from authsvc.net.development_certificates import write_development_certificates

CLIENTS: list[Callable[..., object]] = [AuthClient, BlockingAuthClient, AdminClient]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        *(("target", value, TypeError) for value in (None, 7, b"127.0.0.1:1", [7], [b"x"])),
        *(("target", value, ValueError) for value in ("", [], [""], "authsvc", "http://h:1")),
        *(("target", value, ValueError) for value in ("127.0.0.1", ["127.0.0.1:1", "h"])),
        *(("deadline_seconds", value, TypeError) for value in ("2", None, True, [2])),
        *(
            ("deadline_seconds", value, ValueError)
            for value in (0, -1, 0.0, math.nan, math.inf, -math.inf)
        ),
        *(("tls", value, TypeError) for value in (True, "ca.pem", Path("ca.pem"), ClientTls)),
    ],
)
def test_a_client(
    client: Callable[..., object], name: str, value: object, error: type[Exception]
) -> None:
    given: dict[str, Any] = {"target": "127.0.0.1:1", name: value}
    with pytest.raises(error, match="target" if name == "target" else name):
        client(given.pop("target"), **given)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "target",
    [
        *("192.0.2.1:50051", "authsvc.internal:50051", "0.0.0.0:1", "[2001:db8::1]:1"),
        *("127.0.0.1.x:1", ["127.0.0.1:1", "192.0.2.1:1"], "localhost:1,authsvc:1"),
    ],
)
def test_tokens_cross_no_network_in_the_clear(
    client: Callable[..., object], target: str | list[str]
) -> None:
    with pytest.raises(ValueError, match="in the clear"):
        client(target)


@pytest.mark.parametrize("target", ["dns:///authsvc.internal:50051", "127.0.0.1:1,dns:///b:2"])
@pytest.mark.parametrize("client", [AuthClient, BlockingAuthClient])
def test_no_name_is_looked_up_without_tls(client: Callable[..., object], target: str) -> None:
    with pytest.raises(ValueError, match="in the clear"):
        client(target)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("target", ["127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/run/a.sock"])
def test_this_machine_needs_no_tls(client: Callable[..., object], target: str) -> None:
    client(target)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("streams", "no"), ("streams", 1), ("traceparent", ""), ("clock", 0.0)),
        *(("traceparent", len), ("clock", len), ("look_up", len)),
    ],
)
def test_what_a_client_alone_is_given(name: str, value: object) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(TypeError, match=name):
        AuthClient("127.0.0.1:1", **given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ca_file", "ca.pem"),
        ("ca_file", None),
        ("certificate_file", "certificate.pem"),
        ("key_file", b"key.pem"),
        ("service_token_file", "token"),
    ],
)
def test_files_are_paths(name: str, value: object) -> None:
    given: dict[str, Any] = {"ca_file": Path("ca.pem"), name: value}
    with pytest.raises(TypeError, match=name):
        ClientTls(**given)


def test_no_file_has_a_nul_in_its_path() -> None:
    with pytest.raises(ValueError, match="ca_file has a NUL"):
        ClientTls(Path("a\0.pem"))


@pytest.mark.parametrize("name", ["certificate_file", "key_file"])
def test_a_certificate_has_its_key(name: str) -> None:
    given: dict[str, Any] = {name: Path("x.pem")}
    with pytest.raises(ValueError, match="certificate_file and key_file go together"):
        ClientTls(Path("ca.pem"), **given)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("missing", ["ca_file", "certificate_file", "key_file"])
def test_a_file_that_is_missing_is_named_with_its_argument(
    client: Callable[..., object], missing: str, tmp_path: Path
) -> None:
    write_development_certificates(tmp_path, client_name="spiffe://dev/client")
    names = {"ca_file": "ca.pem", "certificate_file": "client.pem", "key_file": "client.key"}
    files = {name: tmp_path / file for name, file in names.items()}
    files[missing].unlink()
    with pytest.raises(FileNotFoundError) as caught:
        client("127.0.0.1:1", tls=ClientTls(**files))
    assert f"{missing} {files[missing]}: No such file" in str(caught.value)


def test_of_a_relative_path_the_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"relative to {tmp_path}"):
        ClientTls(Path("ca.pem")).channel_credentials()


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("ca_file", "ca_file {ca_file}"),
        ("certificate_file", "certificate_file {certificate_file} and key_file {key_file}"),
        ("key_file", "certificate_file {certificate_file} and key_file {key_file}"),
    ],
)
def test_a_file_that_holds_something_else_is_named_with_its_argument(
    name: str, about: str, tmp_path: Path
) -> None:
    write_development_certificates(tmp_path, client_name="spiffe://dev/client")
    names = {"ca_file": "ca.pem", "certificate_file": "client.pem", "key_file": "client.key"}
    files = {argument: tmp_path / file for argument, file in names.items()}
    files[name].write_text("rubbish")
    with pytest.raises(OSError, match=re.escape(about.format(**files))):
        AuthClient("127.0.0.1:1", tls=ClientTls(**files))


def test_several_targets_may_be_gone_through_once() -> None:
    for client in CLIENTS:
        client(target for target in ["127.0.0.1:1", "127.0.0.1:2"])
