"""The files of deploy/ are valid, and agree with each other and with what the programs read.

No container is built here. That the programs run behind these files is tested in
``test_installation.py``, without containers.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import math
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs

from authsvc.access.service_tokens import ServiceTokenFile
from authsvc.client.replicas import LOOK_UP_SECONDS
from authsvc.client.targets import Name, Targets
from authsvc.common.settings import load
from authsvc.console.config import ConsoleSettings
from authsvc.server.config import Settings
from authsvc.server.housekeeping import REPORT_INTERVAL_SECONDS
from bench.sizing.formulas import Assumptions
from bench.sizing.inputs import Inputs
from mcp_adapter.server.config import Settings as AdapterSettings
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.helm import validate
from tests.support.snippets import blocks_of

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CONFIG = DEPLOY / "config"
KUBERNETES = DEPLOY / "kubernetes"
PAGES = [ROOT / "docs" / name for name in ("deploy.md", "operations.md", "runbook.md")]

CONTAINERFILE = (DEPLOY / "Containerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = [
    document
    for name in KUSTOMIZATION["resources"]
    if name.endswith(".yaml")
    for document in yaml.safe_load_all((KUBERNETES / name).read_text())
]
PROGRAMS = ("authsvc", "adapter", "console", "valkey")
OVERLAYS = ("signals.yaml", "monitoring.yaml")
"""Files of compose that are given besides."""


CLUSTER_DNS_SECONDS = 30
"""How long a cluster's DNS remembers, where kubeadm has set it up."""

USERS = 100_000
MEASURED = Inputs.load()

MARGIN_SECONDS = 5
"""What a stop takes besides its waits: connections to close, and a busy node."""


@cache
def authsvc() -> Settings:
    return load(Settings, CONFIG / "authsvc.toml")


@cache
def adapter() -> AdapterSettings:
    return load(AdapterSettings, CONFIG / "adapter.toml")


@cache
def console() -> ConsoleSettings:
    return load(ConsoleSettings, CONFIG / "console.toml")


@cache
def valkey() -> dict[str, str]:
    lines = (CONFIG / "valkey.conf").read_text().splitlines()
    words = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    return dict(words)


def manifest(kind: str, name: str) -> dict[str, Any]:
    (found,) = [
        item for item in MANIFESTS if (item["kind"], item["metadata"]["name"]) == (kind, name)
    ]
    return found


def pod(program: str) -> dict[str, Any]:
    kind = "StatefulSet" if program == "valkey" else "Deployment"
    spec: dict[str, Any] = manifest(kind, program)["spec"]["template"]["spec"]
    return spec


def container(program: str) -> dict[str, Any]:
    (only,) = pod(program)["containers"]
    return dict(only)


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def ports() -> dict[str, int]:
    """Where each program listens, by its own configuration."""
    return {
        "authsvc": port_of(authsvc().listen),
        "adapter": port_of(adapter().listen),
        "console": port_of(console().listen),
        "valkey": int(valkey()["tls-port"]),
    }


def metrics_ports() -> dict[str, int]:
    """Where each program that has metrics listens for Prometheus."""
    of = {
        "authsvc": authsvc().metrics,
        "adapter": adapter().metrics,
        "console": console().metrics,
    }
    for it in of.values():
        assert it is not None
        assert it.listen.startswith("0.0.0.0:")
    return {name: port_of(it.listen) for name, it in of.items() if it is not None}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=TIMEOUT_SECONDS
    )


# What validators say.


@pytest.mark.parametrize(
    "document", MANIFESTS, ids=lambda item: f"{item['kind']}-{item['metadata']['name']}"
)
def test_kubernetes_knows_every_field(document: dict[str, Any]) -> None:
    validate(document)


@pytest.mark.parametrize("name", ["compose.yaml", *OVERLAYS])
def test_the_compose_files_fit_their_specification(name: str) -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    checked = run(sys.executable, "-m", "check_jsonschema", *schema, str(DEPLOY / "compose" / name))
    assert checked.returncode == 0, checked.stdout


def test_the_linter_of_container_files_has_nothing_to_say() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    checked = run(str(linter), str(DEPLOY / "Containerfile"))
    assert checked.returncode == 0, checked.stdout


def test_scripts_are_scripts() -> None:
    assert run("/bin/sh", "-n", str(KUBERNETES / "secrets.sh")).returncode == 0


# The image.


def test_the_image_runs_as_a_number_that_pods_run_as() -> None:
    (user,) = re.findall(r"^USER (\d+):(\d+)$", CONTAINERFILE, re.MULTILINE)
    for program in ("authsvc", "adapter", "console"):
        context = pod(program)["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"]) == tuple(map(int, user))


def test_both_stages_are_of_one_version() -> None:
    assert re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE) == ["${BUILD}", "${PYTHON}"]
    assert re.findall(r"^ARG BUILD=(\S+)", CONTAINERFILE, re.MULTILINE) == ["${PYTHON}"]
    (base,) = re.findall(r"^ARG PYTHON=(\S+)", CONTAINERFILE, re.MULTILINE)
    assert is_pinned(base)


def test_the_standard_library_is_compiled() -> None:
    """Debian's comes with bytecode; the official image of Python, which we build on, with none."""
    assert re.search(r"^RUN python3 -m compileall .*\n.*\n.*stdlib", CONTAINERFILE, re.MULTILINE)


def test_the_build_sees_what_it_copies_and_nothing_secret() -> None:
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def pins(lock: Path) -> dict[str, str]:
    """Each requirement's lines, by its name."""
    entries = re.split(r"\n(?=\S)", lock.read_text().replace(" \\\n    ", " ").strip())
    return {entry.split("==")[0]: entry for entry in entries}


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_the_image_has_what_was_tested(name: str) -> None:
    """`make lock` makes all locks; the image's are parts of the one that tests run on."""
    tested = pins(ROOT / "requirements.lock")
    shipped = pins(DEPLOY / name)
    assert shipped
    for requirement, pin in shipped.items():
        assert "--hash=sha256:" in pin
        # A marker may be another; the version and the hashes may not.
        assert version_and_hashes(pin) == version_and_hashes(tested[requirement])


def version_and_hashes(pin: str) -> tuple[str, set[str]]:
    return pin.split()[0], set(re.findall(r"sha256:[0-9a-f]{64}", pin))


def test_the_image_has_no_tools_of_tests_and_builds() -> None:
    assert not {"pytest", "moto", "hatchling", "pip", "uv"} & set(
        pins(DEPLOY / "requirements.lock")
    )


def is_pinned(image: str) -> bool:
    _, _, tag = image.partition(":")
    return re.fullmatch(r"v?\d+\.\d+\.\d+(-\S+)?", tag) is not None


def test_every_image_is_of_one_version() -> None:
    of_compose = {name: service["image"] for name, service in SERVICES.items()}
    assert all(map(is_pinned, of_compose.values()))
    (own,) = KUSTOMIZATION["images"]
    assert is_pinned(f"{own['newName']}:{own['newTag']}")
    assert container("valkey")["image"] == of_compose["valkey"]
    for program in ("authsvc", "adapter", "console"):
        assert of_compose[program] == f"authsvc:{own['newTag']}"
        assert container(program)["image"] == own["name"]


# Configurations, and the files that they name.


def test_both_programs_read_their_configuration() -> None:
    assert authsvc().store.kind == "redis"
    assert authsvc().store.redis_server().tls
    assert adapter().resource in authsvc().callers[0].resources
    assert console().authsvc.target == adapter().authsvc.target


def with_all_tables(name: str, folder: Path) -> Path:
    """A configuration with the tables at its end that are comments."""
    head, _, tail = (CONFIG / name).read_text().partition("\n# Below: off.")
    lines = [line for line in tail.splitlines()[1:] if re.match(r"# (\[|\w+ = )", line)]
    assert lines, name
    path = folder / name
    path.write_text("\n".join([head, *(line.removeprefix("# ") for line in lines)]))
    return path


def test_what_is_off_can_be_turned_on(tmp_path: Path) -> None:
    settings = load(Settings, with_all_tables("authsvc.toml", tmp_path))
    assert settings.signals is not None
    assert settings.signals.streams[0].issuer == settings.issuers[0].issuer
    assert settings.limits.calls_per_second_per_subject == 20
    served = load(AdapterSettings, with_all_tables("adapter.toml", tmp_path))
    assert (served.audit.calls, served.audit.file) == ("full", None)
    assert [it.name for it in served.rate_limits] == ["calls"]
    assert adapter().audit.calls == "off"
    assert authsvc().signals is None


def test_signals_are_received_at_the_port_that_is_opened(tmp_path: Path) -> None:
    signals = load(Settings, with_all_tables("authsvc.toml", tmp_path)).signals
    assert signals is not None
    assert signals.listen.startswith("0.0.0.0:")
    port = port_of(signals.listen)
    compose = yaml.safe_load((DEPLOY / "compose" / "signals.yaml").read_text())
    (published,) = compose["services"].pop("authsvc")["ports"]
    assert not compose["services"]
    where, _, target = published.rpartition(":")
    first, _, last = where.rpartition(":")[2].partition("-")
    assert int(target) == port
    assert int(last) - int(first) + 1 == SERVICES["authsvc"]["deploy"]["replicas"]
    # A network that is not internal: without one, Docker publishes nothing.
    assert not all(
        COMPOSE["networks"][it].get("internal") for it in SERVICES["authsvc"]["networks"]
    )
    component = yaml.safe_load((KUBERNETES / "signals" / "kustomization.yaml").read_text())
    assert set(re.findall(r"[pP]ort: (\d+)", json.dumps(component).replace('"', ""))) == {str(port)}


def named_files(program: str) -> set[str]:
    """Names under /run/secrets in a program's configuration and in what asks for its health."""
    config = "valkey.conf" if program == "valkey" else f"{program}.toml"
    spec = container(program)
    probes = [it for name, it in spec.items() if name.endswith("Probe")]
    health = SERVICES[program].get("healthcheck") or CONTAINERFILE
    return files_in(f"{(CONFIG / config).read_text()}{probes}{health}")


def files_in(text: str) -> set[str]:
    return set(re.findall(r"/run/secrets/([a-z0-9.-]+)", text))


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_file_that_is_named_is_mounted_and_no_other(program: str) -> None:
    wanted = named_files(program) | ({"ca.crt"} if program != "valkey" else set())
    by_variables = files_in(str(SERVICES[program].get("environment")))
    assert set(SERVICES[program]["secrets"]) == wanted | by_variables
    assert {path for _, _, path in mounted_secrets(program)} == wanted


def test_authsvc_gets_the_digests_of_tokens_and_each_token_is_with_its_caller_alone() -> None:
    digests = {path.name for it in authsvc().callers for path in it.service_token_files}
    assert digests == {f"{it.name}-token.sha256" for it in authsvc().callers}
    assert {it.name: it.admin for it in authsvc().callers} == {
        "adapter": False,
        "operator": True,
        "console": True,
    }
    for of in (SERVICES, {it: {"secrets": pod_files(it)} for it in PROGRAMS}):
        holders = {
            name: {it for it in PROGRAMS if name in of[it]["secrets"]}
            for name in ("adapter-token", "console-token", "operator-token")
        }
        assert holders == {
            "adapter-token": {"adapter"},
            "console-token": {"console"},
            "operator-token": set(),
        }


def pod_files(program: str) -> set[str]:
    return {path for _, _, path in mounted_secrets(program)}


def digest_files() -> list[str]:
    """What is in the Secret that is mounted as a whole."""
    return sorted(it for it in named_files("authsvc") if it.endswith("-token.sha256"))


def mounted_secrets(program: str) -> list[tuple[str, str, str]]:
    """(Secret, key, path under /run/secrets) of each file in a pod."""
    (sources,) = [it["projected"] for it in pod(program)["volumes"] if it["name"] == "secrets"]
    mounts = {it["name"]: it["mountPath"] for it in container(program)["volumeMounts"]}
    assert mounts["secrets"] == "/run/secrets"
    found = []
    for it in (source["secret"] for source in sources["sources"]):
        if it["name"] == "service-token-digests":
            assert "items" not in it
            found += [(it["name"], name, name) for name in digest_files()]
        else:
            found += [(it["name"], item["key"], item["path"]) for item in it["items"]]
    return found


def test_the_script_makes_every_secret_that_pods_want() -> None:
    script = (KUBERNETES / "secrets.sh").read_text()
    assert 'for file in "$folder"/*-token*.sha256; do' in script
    assert "\napply generic service-token-digests " in script
    (loop,) = re.findall(r"^for name in (.+); do$", script, re.MULTILINE)
    made = {(name, name) for name in loop.split()}
    made |= set(re.findall(r'apply generic (\S+) --from-file "\$folder/(\S+)"', script))
    made -= {('"$name"', "$name")}
    for name in re.findall(r"apply tls (\S+) ", script):
        made |= {(name, "tls.crt"), (name, "tls.key")}
    made |= {("service-token-digests", name) for name in digest_files()}
    # Of a component.
    made.remove(("valkey-exporter", "valkey-exporter.json"))
    wanted = {(name, key) for it in PROGRAMS for name, key, _ in mounted_secrets(it)}
    assert made == wanted


def test_no_secret_is_in_a_file() -> None:
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and "secrets/" not in str(path)]
    for path in files:
        text = path.read_text()
        assert "PRIVATE KEY-----" not in text, path
        assert not re.search(r"(?<!sha256:)\b[0-9a-f]{64}\b", text), path
    assert not [item for item in MANIFESTS if item["kind"] == "Secret"]
    for program in PROGRAMS:
        assert "env" not in container(program)
    variables = {name: it["environment"] for name, it in SERVICES.items() if "environment" in it}
    assert {name: sorted(it) for name, it in variables.items()} == {
        "console": [
            f"AUTHSVC_CONSOLE_{name}"
            for name in ("LISTEN", "TLS__CERTIFICATE_FILE", "TLS__KEY_FILE", "URL")
        ]
    }


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_program_finds_its_configuration(program: str) -> None:
    config = "valkey.conf" if program == "valkey" else f"{program}.toml"
    ((given),) = SERVICES[program]["configs"]
    assert given["source"] == config
    assert (DEPLOY / "compose" / COMPOSE["configs"][config]["file"]).resolve() == CONFIG / config
    service = SERVICES[program].get("command") or CONTAINERFILE
    assert given["target"] in str(service)
    mounts = {it["name"]: it["mountPath"] for it in container(program)["volumeMounts"]}
    assert f"{mounts['config']}/{config}" == given["target"] == container(program)["args"][-1]


def test_what_kustomize_puts_together_is_all_there_is() -> None:
    listed = {KUBERNETES / name for name in KUSTOMIZATION["resources"]}
    assert {path.resolve() for path in listed} == {
        *(path for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml"),
        CONFIG,
    }
    generators = yaml.safe_load((CONFIG / "kustomization.yaml").read_text())["configMapGenerator"]
    made = {it["name"]: it["files"] for it in generators}
    assert all((CONFIG / name).exists() for files in made.values() for name in files)
    for program in PROGRAMS:
        (wanted,) = [it["configMap"] for it in pod(program)["volumes"] if it["name"] == "config"]
        assert wanted["name"] in made


# Names and ports.


@pytest.mark.parametrize("program", PROGRAMS)
def test_ports_agree(program: str) -> None:
    named = {it["name"]: it["containerPort"] for it in container(program)["ports"]}
    first = next(iter(named))
    of_metrics = metrics_ports().get(program)
    assert named == {first: ports()[program]} | ({"metrics": of_metrics} if of_metrics else {})
    allowed = manifest("NetworkPolicy", program)["spec"].get("ingress", [])
    opened = [it["port"] for rule in allowed for it in rule["ports"]]
    if program == "console":
        assert opened == [of_metrics]
        assert not [it for it in MANIFESTS if it["kind"] == "Service" and "console" in str(it)]
        return
    assert opened == list(named.values())
    (service,) = manifest("Service", program)["spec"]["ports"]
    assert service["targetPort"] == first


@pytest.mark.parametrize("program", ["authsvc", "adapter", "console"])
def test_prometheus_alone_reaches_the_metrics(program: str) -> None:
    port = metrics_ports()[program]
    annotations = manifest("Deployment", program)["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"prometheus.io/scrape": "true", "prometheus.io/port": str(port)}
    (rule,) = (
        it
        for it in manifest("NetworkPolicy", program)["spec"]["ingress"]
        if {"protocol": "TCP", "port": port} in it["ports"]
    )
    assert rule["ports"] == [{"protocol": "TCP", "port": port}]
    # Both selectors in one item: Prometheus's pods of its namespace.
    (peer,) = rule["from"]
    assert set(peer) == {"namespaceSelector", "podSelector"}
    assert all(it["matchLabels"] for it in peer.values())


def test_prometheus_of_compose_scrapes_every_replica() -> None:
    scraped = yaml.safe_load((DEPLOY / "monitoring" / "prometheus-compose.yaml").read_text())
    found = {
        it["job_name"]: it["dns_sd_configs"][0]
        for it in scraped["scrape_configs"]
        if "dns_sd_configs" in it
    }
    elsewhere = yaml.safe_load((DEPLOY / "monitoring" / "prometheus.yaml").read_text())
    assert set(found) <= {it["job_name"] for it in elsewhere["scrape_configs"]}
    for job, program in (
        ("authsvc", "authsvc"),
        ("mcp-adapter", "adapter"),
        ("authsvc-console", "console"),
    ):
        assert found[job]["names"] == [program]
        assert found[job]["port"] == metrics_ports()[program]
    overlay = yaml.safe_load((DEPLOY / "compose" / "monitoring.yaml").read_text())
    services = overlay["services"]
    networks = set(services["prometheus"]["networks"])
    # Compose adds them to those that it has there.
    added = {"console": services.pop("console")["networks"]}
    assert added["console"] == ["console-metrics"]
    assert overlay["networks"]["console-metrics"] == {"internal": True}
    for program in metrics_ports():
        # One network: a second address of a replica would be a second target.
        assert len(networks & {*SERVICES[program]["networks"], *added.get(program, ())}) == 1
    for service in services.values():
        assert is_pinned(service["image"])
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    (published,) = services["prometheus"]["ports"]
    assert published.startswith("127.0.0.1:")


def test_the_console_is_for_its_pod_and_for_this_machine() -> None:
    assert console().listen.startswith("127.0.0.1:")
    for when in ("startup", "liveness"):
        command = container("console")[f"{when}Probe"]["exec"]["command"]
        assert command[-1] == f"http://{console().listen}/sign-in"
    variables = SERVICES["console"]["environment"]
    (published,) = SERVICES["console"]["ports"]
    assert published == f"127.0.0.1:{ports()['console']}:{ports()['console']}"
    changed = {
        "listen": variables["AUTHSVC_CONSOLE_LISTEN"],
        "url": variables["AUTHSVC_CONSOLE_URL"],
        "tls": {
            "certificate_file": variables["AUTHSVC_CONSOLE_TLS__CERTIFICATE_FILE"],
            "key_file": variables["AUTHSVC_CONSOLE_TLS__KEY_FILE"],
        },
    }
    in_compose = ConsoleSettings(**{**console().model_dump(), **changed})
    assert in_compose.is_secure
    assert port_of(in_compose.url) == port_of(in_compose.listen) == ports()["console"]
    assert manifest("Deployment", "console")["spec"]["replicas"] == 1


def test_the_image_and_its_health_check_name_the_ports() -> None:
    (exposed,) = re.findall(r"^EXPOSE (.+)$", CONTAINERFILE, re.MULTILINE)
    assert set(map(int, exposed.split())) == {ports()["authsvc"], ports()["adapter"]}
    (checked,) = re.findall(r"\"health\", \"127\.0\.0\.1:(\d+)\"", CONTAINERFILE)
    assert int(checked) == ports()["authsvc"]
    assert f"127.0.0.1:{ports()['adapter']}/readyz" in str(SERVICES["adapter"]["healthcheck"])
    (published,) = SERVICES["adapter"]["ports"]
    assert port_of(published) == ports()["adapter"]
    for when in ("startup", "liveness", "readiness"):
        command = container("authsvc")[f"{when}Probe"]["exec"]["command"]
        assert f"127.0.0.1:{ports()['authsvc']}" in command


def test_adapters_find_every_replica_by_a_name_that_its_certificate_has() -> None:
    (name,) = Targets.parse(adapter().authsvc.target).names
    assert name == Name("authsvc", ports()["authsvc"])
    service = manifest("Service", name.host)["spec"]
    assert service["clusterIP"] == "None"
    assert service["ports"][0]["port"] == name.port
    assert name.host in SERVICES
    assert "scale" not in SERVICES[name.host]
    for probe in (str(container("authsvc")["readinessProbe"]), CONTAINERFILE):
        assert re.search(rf"--name(=|\", \"){name.host}\b", probe)


def test_authsvc_finds_valkey() -> None:
    server = authsvc().store.redis_server()
    assert server.nodes == (("valkey", ports()["valkey"]),)
    assert manifest("Service", "valkey")["spec"]["ports"][0]["port"] == ports()["valkey"]
    users = (CONFIG / "users.acl").read_text()
    assert f"user {server.username} on " in users
    assert f"~{authsvc().store.prefix}:*" in users
    assert users.splitlines()[0].startswith("user default off ")


def test_valkeys_user_may_run_what_the_scripts_do() -> None:
    folder = ROOT / "authsvc" / "stores" / "redis"
    called = {
        command.lower()
        for script in folder.glob("*.lua")
        for command in re.findall(r"redis\.call\('(\w+)'", script.read_text())
    }
    (user,) = (
        line
        for line in (CONFIG / "users.acl").read_text().splitlines()
        if line.startswith("user authsvc ")
    )
    assert "pexpire" in called
    assert not called - set(re.findall(r"\+(\w+)", user))


# Time to end, room to live.


def test_authsvc_has_time_to_drain() -> None:
    assert authsvc().drain_seconds > REPORT_INTERVAL_SECONDS
    needed = authsvc().drain_seconds + authsvc().grace_seconds + MARGIN_SECONDS
    assert pod("authsvc")["terminationGracePeriodSeconds"] >= needed
    assert seconds(SERVICES["authsvc"]["stop_grace_period"]) >= needed


def test_the_adapter_has_time_to_drain() -> None:
    wait = container("adapter")["lifecycle"]["preStop"]["sleep"]["seconds"]
    readiness = container("adapter")["readinessProbe"]
    assert wait >= readiness["periodSeconds"]
    needed = adapter().grace_seconds + MARGIN_SECONDS
    assert pod("adapter")["terminationGracePeriodSeconds"] >= wait + needed
    assert seconds(SERVICES["adapter"]["stop_grace_period"]) >= needed


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def test_probes_wait_less_than_what_runs_them() -> None:
    # `authsvc health` gives up after 2 s by itself, and then says why.
    for when in ("startup", "liveness", "readiness"):
        assert container("authsvc")[f"{when}Probe"]["timeoutSeconds"] > 2
    assert "--timeout=3s" in CONTAINERFILE


RECORD_BYTES, TOKEN_BYTES, RESPONSE_BYTES = 2_600, 10_000, 20_000
"""What a cached entry may take on average; beyond it, fewer are cached."""


def test_the_caches_of_a_replica_fit_its_memory() -> None:
    most = RECORD_BYTES * authsvc().store.cached_sessions
    most += (TOKEN_BYTES + RESPONSE_BYTES) * authsvc().cached_tokens
    needed = MEASURED.base_bytes + most
    (limit,) = re.findall(r"^(\d+)Gi$", container("authsvc")["resources"]["limits"]["memory"])
    assert needed <= int(limit) << 30
    assert SERVICES["authsvc"]["mem_limit"] == f"{limit}g"
    # A test of sizes of its own holds the caches to these averages.
    described = {name: field.description or "" for name, field in Settings.model_fields.items()}
    assert "10 KB each on average, and as many responses, 20 KB each" in described["cached_tokens"]


def test_the_caches_serve_a_hundred_thousand_users() -> None:
    it = Assumptions()
    tokens = USERS * it.active * it.sessions_a_user
    assert authsvc().store.cached_sessions >= tokens
    calls = it.calls_a_minute / 60 * USERS
    for replicas in (2, 3):
        found = hit_ratio(
            authsvc().cached_tokens, tokens, calls / tokens / replicas, it.token_seconds
        )
        assert found > 0.99
        # The default holds few of them: half of what has been verified is verified again.
        assert hit_ratio(16_384, tokens, calls / tokens / replicas, it.token_seconds) < 0.6


def hit_ratio(cached: int, tokens: float, rate: float, token_seconds: float) -> float:
    """How many of the repeats of a token find it cached.

    Che's approximation of an LRU cache: an entry stays until as many others were asked for as there
    is room, here the valid tokens and those that have been replaced since.

    Args:
        cached: how many the cache holds.
        tokens: valid at once.
        rate: how often each is asked for, a second.
        token_seconds: until each is replaced.
    """

    def distinct(seconds: float) -> float:
        parts = 200
        replaced = sum(
            1 - math.exp(-rate * min(seconds * (at + 0.5) / parts, token_seconds))
            for at in range(parts)
        )
        valid = tokens * (1 - math.exp(-rate * seconds))
        return valid + tokens / token_seconds * seconds * replaced / parts

    stays, step = 0.0, 65_536.0
    while step > 1:
        stays, step = (stays + step if distinct(stays + step) < cached else stays), step / 2
    return 1 - math.exp(-rate * stays)


def test_the_store_has_room_for_a_hundred_thousand_users() -> None:
    needed = 4 / 3 * (USERS * Assumptions().sessions_kept * 860 + 500 * authsvc().store.events_kept)
    maxmemory = int(valkey()["maxmemory"].removesuffix("gb")) << 30
    assert needed <= maxmemory
    (claim,) = manifest("StatefulSet", "valkey")["spec"]["volumeClaimTemplates"]
    volume = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) << 30
    # The log grows to twice its size before it is written anew, beside itself.
    assert volume >= 4 * maxmemory


def test_valkey_drops_nothing_and_has_room_to_rewrite_its_log() -> None:
    settings = valkey()
    assert settings["maxmemory-policy"] == "noeviction"
    assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "always")
    most = int(settings["maxmemory"].removesuffix("gb")) << 30
    assert int(container("valkey")["resources"]["limits"]["memory"].removesuffix("Gi")) << 30 >= (
        2 * most
    )
    assert int(SERVICES["valkey"]["mem_limit"].removesuffix("g")) << 30 >= 2 * most


# Hardening.


@pytest.mark.parametrize("program", PROGRAMS)
def test_pods_can_do_nothing_that_they_need_not(program: str) -> None:
    spec, own = pod(program), container(program)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert own["resources"]["limits"]["memory"]
    assert own["resources"]["requests"]["cpu"]
    for mount in own["volumeMounts"]:
        assert mount.get("readOnly") or mount["name"] == "data"


@pytest.mark.parametrize("program", PROGRAMS)
def test_containers_can_do_nothing_that_they_need_not(program: str) -> None:
    service = SERVICES[program]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]


def test_liveness_does_not_depend_on_others() -> None:
    assert "--alive" in container("authsvc")["livenessProbe"]["exec"]["command"]
    assert "--alive" not in container("authsvc")["readinessProbe"]["exec"]["command"]
    assert container("adapter")["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container("adapter")["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_clients_know_a_new_replica_before_an_old_one_goes() -> None:
    needed = CLUSTER_DNS_SECONDS + LOOK_UP_SECONDS + MARGIN_SECONDS
    assert manifest("Deployment", "authsvc")["spec"]["minReadySeconds"] >= needed


@pytest.mark.parametrize("program", ["authsvc", "adapter"])
def test_one_replica_at_a_time_goes_and_a_new_one_comes_first(program: str) -> None:
    deployment = manifest("Deployment", program)["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    budget = manifest("PodDisruptionBudget", program)["spec"]
    assert budget["maxUnavailable"] == 1
    assert "replicas" not in deployment
    scaler = manifest("HorizontalPodAutoscaler", program)["spec"]
    assert scaler["scaleTargetRef"]["name"] == program
    assert scaler["minReplicas"] >= 2
    assert SERVICES[program]["deploy"]["replicas"] == 2
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == budget["selector"]["matchLabels"] == labels


# Who reaches whom.

REACHED = {("adapter", "authsvc"), ("console", "authsvc"), ("authsvc", "valkey")}
PAIRS = [(one, other) for one in PROGRAMS for other in PROGRAMS if one != other]


def selected(selector: dict[str, Any], program: str) -> bool:
    return bool(selector.get("matchLabels", {}).get("app.kubernetes.io/name") == program)


def test_nothing_is_allowed_that_no_rule_allows() -> None:
    denial = manifest("NetworkPolicy", "default-deny")["spec"]
    assert denial == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert {it["metadata"]["namespace"] for it in MANIFESTS if it["kind"] != "Namespace"} == {
        manifest("Namespace", "authsvc")["metadata"]["name"]
    }


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_pods_reach_those_alone_that_they_need(source: str, target: str) -> None:
    leaves = manifest("NetworkPolicy", source)["spec"].get("egress", [])
    enters = manifest("NetworkPolicy", target)["spec"].get("ingress", [])
    may_leave = any(
        selected(peer.get("podSelector", {}), target)
        and ports()[target] in [port["port"] for port in rule["ports"]]
        for rule in leaves
        for peer in rule["to"]
    )
    may_enter = any(
        selected(peer.get("podSelector", {}), source)
        and "namespaceSelector" not in peer
        and ports()[target] in [port["port"] for port in rule["ports"]]
        for rule in enters
        for peer in rule["from"]
    )
    assert may_leave is may_enter is ((source, target) in REACHED)


@pytest.mark.parametrize("program", ["authsvc", "adapter"])
def test_rules_to_the_internet_leave_out_what_is_inside(program: str) -> None:
    rules = manifest("NetworkPolicy", program)["spec"]["egress"]
    blocks = [it["ipBlock"] for rule in rules for it in rule["to"] if "ipBlock" in it]
    assert [it["cidr"] for it in blocks] == ["0.0.0.0/0", "::/0"]
    left_out = [ipaddress.ip_network(it) for block in blocks for it in block["except"]]

    def reached(address: str) -> bool:
        return not any(ipaddress.ip_address(address) in it for it in left_out)

    inside = ("10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "0.1.2.3")
    clouds = ("169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192")
    six = ("::1", "::ffff:10.1.2.3", "fe80::1", "fc00::1", "64:ff9b:1::a01:203", "ff02::1")
    assert [it for it in (*inside, *clouds, *six) if reached(it)] == []
    # 64:ff9b::/96 is how IPv4 is reached from IPv6 alone (RFC 6052), and not for private addresses.
    outside = ("52.1.2.3", "2600:1f00::1", "64:ff9b::3401:203")
    assert [it for it in outside if not reached(it)] == []


def test_names_are_looked_up_in_each_kind_of_cluster() -> None:
    spec = manifest("NetworkPolicy", "dns")["spec"]
    (rule,) = spec["egress"]
    (who,) = spec["podSelector"]["matchExpressions"]
    assert set(who["values"]) == {"authsvc", "adapter", "console"}
    assert {(it["protocol"], it["port"]) for it in rule["ports"]} == {
        (protocol, port) for protocol in ("UDP", "TCP") for port in (53, 5353)
    }
    by_labels = [it for it in rule["to"] if "ipBlock" not in it]
    assert all({"namespaceSelector", "podSelector"} == set(it) for it in by_labels)
    (kube, openshift) = by_labels
    (names,) = kube["podSelector"]["matchExpressions"]
    assert set(names["values"]) == {"kube-dns", "coredns", "node-local-dns"}
    assert openshift["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "openshift-dns"
    }
    assert [it["ipBlock"]["cidr"] for it in rule["to"] if "ipBlock" in it] == ["169.254.20.10/32"]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_containers_share_a_network_with_those_alone_that_they_need(
    source: str, target: str
) -> None:
    shared = set(SERVICES[source]["networks"]) & set(SERVICES[target]["networks"])
    assert bool(shared) is ((source, target) in REACHED or (target, source) in REACHED)
    assert all(COMPOSE["networks"][name].get("internal") for name in shared)


# The page.


def test_the_commands_of_the_page_make_a_token_and_its_digest(tmp_path: Path) -> None:
    (block,) = (it for it in blocks_of("docs/deploy.md") if "wiki.sha256" in it.text[-60:])
    made = subprocess.run(
        ["/bin/sh", "-euc", block.text], check=False, cwd=tmp_path, timeout=TIMEOUT_SECONDS
    )
    assert made.returncode == 0
    token = (tmp_path / "wiki.token").read_text().strip()
    stated = ServiceTokenFile(tmp_path / "wiki.sha256").digest()
    assert stated == hashlib.sha256(token.encode()).digest()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.name))
def test_the_page_names_what_exists(path: Path) -> None:
    page = path.read_text()
    for name in set(re.findall(r"`(deploy/[a-zA-Z/_.-]+)`", page)):
        # What make_secrets.py writes is there once it has run.
        assert (ROOT / name).exists() or name.startswith("deploy/secrets/"), name
    for name in set(re.findall(r"`(tests/[a-zA-Z/_.-]+)`", page)):
        assert (ROOT / name).exists(), name
