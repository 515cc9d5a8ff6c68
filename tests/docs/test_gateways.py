"""docs/gateways.md from an empty folder to its last answer: files, commands, servers and calls as
they stand on the page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import grpc
import httpx2
import jwt
import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs
from cryptography.hazmat.primitives.asymmetric import ec

from authsvc.internal.v1.ext_authz_pb2 import ExtAuthzRequest, ExtAuthzResponse
from authsvc.net.development_certificates import write_development_certificates
from tests.support import node
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.commands import environment
from tests.support.envoy import envoy, running_envoy
from tests.support.envoy_files import (
    check_of,
    clusters_of,
    host_of,
    installed,
    loaded,
    manager_of,
)
from tests.support.processes import ROOT, spawn
from tests.support.snippets import Block, blocks_of
from tests.support.valkey import free_port

BLOCKS = blocks_of("docs/gateways.md")
EXAMPLE = ROOT / "examples" / "behind_envoy"
PORTS = ("50051", "50053", "8080", "3000")
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "whoami"}}
CHECK = "/envoy.service.auth.v3.Authorization/Check"


def block(language: str, has: str) -> Block:
    """The first block of the page with a text in it."""
    return next(it for it in BLOCKS if it.language == language and has in it.text)


SERVERS = ("server.mjs", "server.py")
FILES = {
    "authsvc.toml": block("toml", "[development]"),
    "server.mjs": block("js", "createMcpHandler"),
    "assertions.py": block("python", "PyJWKClient"),
    "server.py": block("python", "FastMCP("),
    "envoy.yaml": block("yaml", "static_resources"),
}


class Folder:
    """The reader's folder, with ports that are free.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ports = {port: str(free_port()) for port in PORTS}
        for name, it in FILES.items():
            (path / name).write_text(self.moved(it.text))
        (path / "node_modules").symlink_to(node.FOLDER / "node_modules")

    def moved(self, text: str) -> str:
        """A text of the page, with the folder's own ports."""
        return re.sub(rf"\b(?:{'|'.join(PORTS)})\b", lambda found: self._ports[found[0]], text)

    def shell(self, script: str) -> str:
        """What a script prints, with the programs on the PATH."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["/bin/bash", "-e", "-u", "-c", self.moved(script)],
            cwd=self.path,
            env=environment({"PATH": path}),
            stdout=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=True,
        ).stdout


@pytest.fixture(scope="module", params=SERVERS)
def folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Folder]:
    """The folder, and the three servers of the page in it: that of MCP in either language."""
    if request.param == "server.mjs":
        node.installed("jose")
    made = Folder(tmp_path_factory.mktemp("reader"))
    make_secrets, serve = block("sh", "assertions.key").text.splitlines()
    made.shell(make_secrets)
    with ExitStack() as running:
        program, *arguments = serve.split()
        authsvc = running.enter_context(spawn(program, *arguments, cwd=made.path))
        authsvc.wait_for("listening on", TIMEOUT_SECONDS)
        running.enter_context(served(made, request.param))
        running.enter_context(running_envoy(loaded(made.path / "envoy.yaml"), made.path))
        yield made


@contextmanager
def served(folder: Folder, name: str) -> Iterator[None]:
    """The server of the page."""
    assert block("sh", "node server").text == "node server.mjs\n"
    program = node.NODE if name.endswith(".mjs") else sys.executable
    with subprocess.Popen(
        [program, name],
        cwd=folder.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        reading = None
        try:
            assert any("unning on http" in line for line in process.stdout)
            reading = threading.Thread(target=process.stdout.read)  # a full pipe would stop it
            reading.start()
            yield
        finally:
            process.terminate()
            if reading is not None:
                reading.join(TIMEOUT_SECONDS)


CALLS = block("sh", "ask()").text
FUNCTIONS, _, QUESTIONS = CALLS.partition("\n\n")


def answers_of(question: str) -> str:
    """What is written beside a question, up to a comma or a colon that begins an explanation."""
    return question.rpartition("# ")[2]


@pytest.mark.parametrize("question", QUESTIONS.splitlines(), ids=answers_of)
def test_the_server_answers_what_is_written_beside_the_question(
    folder: Folder, question: str
) -> None:
    promised = answers_of(question)
    status = re.match(r"(\d{3})[:,]", promised)
    if status is None:
        answer = folder.shell(f"{FUNCTIONS}\n{question}")
        assert f'"text":"{promised}"' in answer
    else:
        answer = folder.shell(f"{FUNCTIONS}\n{question.replace('ask ', 'ask --include ')}")
        assert answer.startswith(f"HTTP/1.1 {status[1]} "), answer


def test_answers_name_the_metadata_and_the_scope(folder: Folder) -> None:
    without, *_ = (folder.shell(f"{FUNCTIONS}\n{it}") for it in QUESTIONS.splitlines()[:1])
    (url,) = re.findall(r'resource_metadata="([^"]+)"', without)
    document = folder.shell(f"curl --silent --show-error {url}")
    assert folder.moved('"resource":"http://127.0.0.1:8080/mcp"') in document
    (asked,) = (it for it in QUESTIONS.splitlines() if "# 403" in it)
    assert 'scope="notes.publish"' in folder.shell(
        f"{FUNCTIONS}\n{asked.replace('ask ', 'ask --include ')}"
    )


# A tool refuses without a caller, whichever way a request has come.


def called(http: httpx2.Client, url: str, tool: str, **headers: str) -> str:
    """What a tool says; it has to be a failure."""
    message = {**CALL, "params": {"name": tool, "arguments": {}}}
    accept = {"Accept": "application/json, text/event-stream"}
    answer = http.post(url, json=message, headers=accept | headers)
    assert answer.status_code == 200, answer.text
    # An event of a stream, or JSON.
    result = json.loads(answer.text.partition("data: ")[2] or answer.text)["result"]
    assert result["isError"]
    return str(result["content"][0]["text"])


def test_a_tool_refuses_without_a_caller(folder: Folder, tmp_path: Path) -> None:
    token = folder.shell("authsvc token --config authsvc.toml --sub ada --scope notes.publish")
    presented = {"Authorization": f"Bearer {token.strip()}"}
    server = folder.moved("http://127.0.0.1:3000/mcp")
    # A colleague's Envoy, while authsvc is stopped.
    configuration = loaded(folder.path / "envoy.yaml")
    check_of(configuration)["failure_mode_allow"] = True
    (endpoint,) = clusters_of(configuration)["authsvc"]["load_assignment"]["endpoints"]
    (address,) = (it["endpoint"]["address"]["socket_address"] for it in endpoint["lb_endpoints"])
    address["port_value"] = 1
    with envoy(configuration, tmp_path) as listening:
        through = httpx2.HTTPTransport(uds=str(listening))
        for transport, url in (
            (httpx2.HTTPTransport(), server),
            (through, folder.moved("http://127.0.0.1:8080/mcp")),
        ):
            with httpx2.Client(transport=transport, timeout=TIMEOUT_SECONDS) as http:
                for tool in ("whoami", "publish"):
                    for headers in ({}, presented):
                        assert called(http, url, tool, **headers) == "This tool needs a caller."


def test_a_tool_checks_its_scope_again(folder: Folder) -> None:
    assertion = {"x-authsvc-assertion": assertion_of(folder)}
    with httpx2.Client(timeout=TIMEOUT_SECONDS) as http:
        said = called(http, folder.moved("http://127.0.0.1:3000/mcp"), "publish", **assertion)
    assert said == "This tool needs the scope notes.publish."


def test_python_goes_on_with_its_keys_for_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {}
    key = jwt.algorithms.ECAlgorithm.to_jwk(
        ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True
    )
    fetched = [{"keys": [{**key, "kid": "a", "alg": "ES256"}]}]

    def fetch(_: jwt.PyJWKClient) -> dict[str, Any]:
        if not fetched:
            raise jwt.PyJWKClientConnectionError("refused")
        return fetched.pop()

    clock = Clock(1_000.0)
    exec(block("python", "PyJWKClient").text, names)  # noqa: S102 - the page's own code
    monkeypatch.setattr(jwt.PyJWKClient, "fetch_data", fetch)
    monkeypatch.setattr("time.monotonic", clock)
    keys = names["KEYS"]
    for seconds in (0.0, 400.0, 3_000.0):
        clock.advance(seconds)
        assert keys.get_signing_key("a").key_id == "a"
    clock.advance(400.0)
    with pytest.raises(jwt.PyJWKClientConnectionError):
        keys.get_signing_key("a")
    with pytest.raises(jwt.PyJWKClientConnectionError):
        names["Keys"]("http://127.0.0.1:1/keys").get_signing_key("a")


# The assertion.


def assertion_of(folder: Folder) -> str:
    """What the server gets for a request of ada's."""
    token = folder.shell("authsvc token --config authsvc.toml --sub ada --role reader").strip()
    request = ExtAuthzRequest()
    request.attributes.context_extensions["resource"] = folder.moved("http://127.0.0.1:8080/mcp")
    http = request.attributes.request.http
    http.method, http.path, http.host = "POST", "/mcp", folder.moved("127.0.0.1:8080")
    http.raw_body = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'
    http.headers["content-type"] = "application/json"
    http.headers["content-length"] = str(len(http.raw_body))
    http.headers["authorization"] = f"Bearer {token}"
    with grpc.insecure_channel(folder.moved("127.0.0.1:50051")) as channel:
        check = channel.unary_unary(
            CHECK, ExtAuthzRequest.SerializeToString, ExtAuthzResponse.FromString
        )
        response = check(request, timeout=TIMEOUT_SECONDS)
    headers = {it.header.key: it.header.value for it in response.ok_response.headers}
    return str(headers["x-authsvc-assertion"])


def test_python_verifies_the_assertion(folder: Folder) -> None:
    names: dict[str, Any] = {}
    text = folder.moved(block("python", "PyJWKClient").text)
    exec(text, names)  # noqa: S102 - the page's own code
    assertion = assertion_of(folder)
    caller = names["caller_of"](assertion)
    assert (caller["sub"], caller["idp"]) == ("ada", "https://idp.example.com")
    assert set(caller) <= claims_of_the_page()
    exec(text.replace("/mcp", "/another"), names)  # noqa: S102 - the page's own code
    with pytest.raises(jwt.InvalidAudienceError):
        names["caller_of"](assertion)


def claims_of_the_page() -> set[str]:
    text = (ROOT / "docs" / "gateways.md").read_text(encoding="utf-8")
    table = text.partition("| claim | |\n")[2].partition("\n\n")[0]
    return {
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }


# The files.


def test_the_page_shows_the_files_of_the_example() -> None:
    for name, it in FILES.items():
        assert it.text == (EXAMPLE / name).read_text(encoding="utf-8"), name
    packages = re.findall(r"(\S+)@(\d\S+)", block("sh", "npm install").text)
    package = json.loads((EXAMPLE / "package.json").read_text(encoding="utf-8"))
    assert dict(packages) == package["dependencies"]
    for name, version in packages:
        installed_version = json.loads(
            (node.installed(name) / "package.json").read_text(encoding="utf-8")
        )["version"]
        assert installed_version == version


# Several servers.


def test_two_servers_behind_one_envoy(folder: Folder, tmp_path: Path) -> None:
    """The yaml and toml of docs/gateways.md about another server at /notes."""
    added = yaml.safe_load(folder.moved(block("yaml", "/notes").text))
    resources, table = folder.moved(block("toml", "/notes").text).split("\n\n")
    first, second = (folder.moved(f"http://127.0.0.1:8080/{it}") for it in ("mcp", "notes"))
    assert resources.endswith(f"resources = {json.dumps([first, second])}")
    text = (folder.path / "authsvc.toml").read_text()
    for listener in ("50051", "50053"):
        text = text.replace(
            f'listen = "127.0.0.1:{folder.moved(listener)}"', 'listen = "127.0.0.1:0"'
        )
    text = text.replace(f'["{first}"]', json.dumps([first, second]))
    for name in ("secret", "assertions.key"):
        (tmp_path / name).write_bytes((folder.path / name).read_bytes())
        (tmp_path / name).chmod(0o600)
    (tmp_path / "authsvc.toml").write_text(f"{text}\n{table}")
    configuration = loaded(folder.path / "envoy.yaml")
    host_of(configuration)["routes"][:0] = added
    clusters = configuration["static_resources"]["clusters"]
    clusters.append({**clusters_of(configuration)["mcp_server"], "name": "notes_server"})
    with spawn("authsvc", "serve", "--config", "authsvc.toml", cwd=tmp_path) as authsvc:
        address = str(authsvc.wait_for("listening on 127", TIMEOUT_SECONDS)["address"])
        (endpoints,) = clusters_of(configuration)["authsvc"]["load_assignment"]["endpoints"]
        (it,) = endpoints["lb_endpoints"]
        it["endpoint"]["address"]["socket_address"]["port_value"] = int(address.rpartition(":")[2])
        with envoy(configuration, tmp_path) as listening:
            transport = httpx2.HTTPTransport(uds=str(listening))
            with httpx2.Client(transport=transport, timeout=TIMEOUT_SECONDS) as http:
                for resource in (first, second):
                    challenge = http.post(resource, json=CALL).headers["www-authenticate"]
                    (url,) = re.findall(r'resource_metadata="([^"]+)"', challenge)
                    assert http.get(url).json()["resource"] == resource
                assert http.get(f"{url}/other").status_code == 404


# Pages in browsers.


def test_a_page_in_a_browser_may_call(folder: Folder, tmp_path: Path) -> None:
    """The yaml fragments of docs/gateways.md about CORS."""
    configuration = loaded(folder.path / "envoy.yaml")
    cors, policy = (
        yaml.safe_load(it.text) for it in BLOCKS if it.language == "yaml" and ".cors.v3" in it.text
    )
    manager_of(configuration)["http_filters"].insert(0, cors)
    host_of(configuration)["typed_per_filter_config"] |= policy
    page, asked = "https://app.example.com", {"Access-Control-Request-Method": "POST"}
    with envoy(configuration, tmp_path) as listening:
        transport = httpx2.HTTPTransport(uds=str(listening))
        url = folder.moved("http://127.0.0.1:8080/mcp")
        with httpx2.Client(transport=transport, timeout=TIMEOUT_SECONDS) as http:
            answers = {
                "preflight": http.options(url, headers={"Origin": page, **asked}),
                "denial": http.post(url, json=CALL, headers={"Origin": page}),
                "another": http.options(url, headers={"Origin": "https://evil.example", **asked}),
            }
    allowed = {name: it.headers.get("access-control-allow-origin") for name, it in answers.items()}
    assert allowed == {"preflight": page, "denial": page, "another": None}
    assert answers["preflight"].status_code == 200
    assert answers["denial"].status_code == 401
    assert "www-authenticate" in answers["denial"].headers["access-control-expose-headers"]


# A service token in place of a certificate.

OVER_TLS = """
listen = "127.0.0.1:0"
[store]
kind = "memory"
[tls]
certificate_file = "server.pem"
key_file = "server.key"
[[callers]]
name = "gateway"
resources = ["https://mcp.example.com/mcp"]
service_token_files = ["service-token"]
[[issuers]]
issuer = "https://idp.example.com"
algorithms = ["HS256"]
secret_file = "secret"
[assertions]
issuer = "https://authsvc.example.com"
listen = "127.0.0.1:0"
[ext_authz]
"""


def with_service_token(folder: Path, port: int) -> dict[str, Any]:
    """The configuration of deploy/envoy, changed as the page says, for an authsvc at this port."""
    for name, has in (("authsvc-token", "generic_secret"), ("filters", "credential_injector")):
        text = block("yaml", has).text.replace("/etc/envoy", str(folder))
        (folder / f"{name}.yaml").write_text(text)
    configuration = loaded(installed(folder))
    cluster = clusters_of(configuration)["authsvc"]
    (options,) = cluster["typed_extension_protocol_options"].values()
    options |= loaded(folder / "filters.yaml")
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    address |= {"address": "127.0.0.1", "port_value": port}
    tls = cluster["transport_socket"]["typed_config"]
    tls["sni"] = "localhost"
    common = tls["common_tls_context"]
    del common["tls_certificate_sds_secret_configs"]
    common["validation_context"] = {"trusted_ca": {"filename": str(folder / "ca.pem")}}
    del configuration["admin"]
    return configuration


def test_envoy_is_known_by_a_service_token(tmp_path: Path) -> None:
    """The yaml fragments of docs/gateways.md."""
    write_development_certificates(tmp_path, client_name="spiffe://dev/none")
    for name in ("service-token", "secret"):
        (tmp_path / name).write_text(token_hex(32))
        (tmp_path / name).chmod(0o600)
    (tmp_path / "authsvc.toml").write_text(OVER_TLS)
    token = tmp_path / "authsvc-token"
    with spawn("authsvc", "serve", "--config", "authsvc.toml", cwd=tmp_path) as authsvc:
        address = str(authsvc.wait_for("listening on 127", TIMEOUT_SECONDS)["address"])
        configuration = with_service_token(tmp_path, int(address.rpartition(":")[2]))
        for presented, status in (((tmp_path / "service-token").read_text(), 401), ("x" * 64, 503)):
            token.write_text(f"Bearer {presented}")
            with envoy(configuration, tmp_path) as listening:
                transport = httpx2.HTTPTransport(uds=str(listening))
                with httpx2.Client(transport=transport, timeout=TIMEOUT_SECONDS) as http:
                    answer = http.post("http://mcp.example.com/mcp", json=CALL)
            assert answer.status_code == status, answer.text
