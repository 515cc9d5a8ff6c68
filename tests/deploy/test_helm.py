"""The Helm chart: by default it is the kustomization, and its values do what they say."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs

from authsvc import __version__
from scripts import chart
from tests.support.helm import RELEASES, Helm, Key, Manifest, validate
from tests.support.processes import ROOT
from tests.support.snippets import blocks_of

CHART = ROOT / "deploy" / "helm" / "authsvc"
KUBERNETES = ROOT / "deploy" / "kubernetes"
PAGES = (ROOT / "docs" / "deploy.md", CHART / "README.md")
VALUES = CHART / "values.yaml"
ABOUT: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())
DEFAULTS: dict[str, Any] = yaml.safe_load(VALUES.read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())

OF_PROMETHEUS = {"PodMonitor", "PrometheusRule"}
"""Kinds of its operator, whose schemas are not Kubernetes's."""

OF_HELM = ("app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "helm.sh/chart")
"""Labels that objects of a release have besides."""

PEER = {"podSelector": {"matchLabels": {"app": "another"}}}
RULE = {"to": [PEER], "ports": [{"protocol": "TCP", "port": 6380}]}
SOURCE = {"serviceAccountToken": {"path": "sts-token", "audience": "sts.amazonaws.com"}}
PLACEMENT = {
    "podAnnotations": {"example.com/of": "pods"},
    "nodeSelector": {"example.com/pool": "auth"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
}
LIMITS = {"minReplicas": 4, "maxReplicas": 5, "targetCPUUtilizationPercentage": 60}
PROGRAM = {
    **PLACEMENT,
    "extraSecretSources": [SOURCE],
    "serviceAccountName": "own",
    "autoscaling": {"enabled": False},
    "replicas": 3,
    "resources": {"requests": {"cpu": "1"}},
}
OTHERS: dict[str, Any] = {
    "image": {"repository": "images.internal/authsvc", "digest": f"sha256:{'0' * 64}"},
    "imagePullSecrets": [{"name": "registry"}],
    "secrets": {name: f"own-{name.lower()}" for name in DEFAULTS["secrets"]},
    "authsvc": {
        **PROGRAM,
        "config": "of = 'authsvc'",
        "serveKeys": True,
        "receiveSignals": True,
        "probeArguments": ["--key-file=own.key"],
    },
    "adapter": {**PROGRAM, "config": "  # It is indented.\nof = 'the adapter'\n"},
    "console": {
        **PLACEMENT,
        "config": "of = 'the console'\n",
        "resources": {"limits": {"memory": "1Gi"}},
    },
    "monitoring": {
        "podMonitor": {"enabled": True, "labels": {"release": "own"}, "interval": "30s"},
        "prometheusRule": {"enabled": True, "labels": {"release": "own"}},
    },
    "valkey": {
        **PLACEMENT,
        "image": {"repository": "images.internal/valkey", "tag": "9.9.9"},
        "config": "port 0\n",
        "storage": {"size": "5Gi", "className": "fast"},
        "resources": {"limits": {"memory": "4Gi"}},
        "maxUnavailable": 0,
        "exporter": {
            "enabled": True,
            "image": {"repository": "images.internal/exporter", "tag": "9.9.9"},
            "resources": {"limits": {"memory": "96Mi"}},
        },
    },
    "networkPolicies": {
        **{
            name: [PEER]
            for name in (
                *("dns", "prometheus", "adapterClients", "callers", "keyReaders"),
                "signalSenders",
                *("issuers", "s3"),
            )
        },
        **{name: [RULE] for name in ("authsvcEgress", "adapterEgress")},
    },
}
"""Another value for each, but for those that a test of their own sets."""


@pytest.fixture(scope="module")
def helm() -> Iterator[Helm]:
    with tempfile.TemporaryDirectory() as folder:
        yield Helm.unpacked(Path(folder))


@pytest.fixture(scope="module")
def rendered(helm: Helm) -> dict[Key, Manifest]:
    return helm.rendered(CHART)


@pytest.fixture(scope="module")
def others(helm: Helm) -> dict[Key, Manifest]:
    return helm.rendered(CHART, OTHERS, namespace="elsewhere")


def pod(manifests: dict[Key, Manifest], program: str) -> dict[str, Any]:
    kind = "StatefulSet" if program == "valkey" else "Deployment"
    spec: dict[str, Any] = manifests[kind, program]["spec"]["template"]["spec"]
    return spec


def container(manifests: dict[Key, Manifest], program: str) -> dict[str, Any]:
    first, *_ = pod(manifests, program)["containers"]
    return dict(first)


def secrets(manifests: dict[Key, Manifest], program: str) -> dict[str, str]:
    """Which Secret each file under /run/secrets is from."""
    (volume,) = [it for it in pod(manifests, program)["volumes"] if it["name"] == "secrets"]
    sources = [it["secret"] for it in volume["projected"]["sources"] if "secret" in it]
    # One is mounted as a whole.
    every: list[dict[str, str]] = [{"path": "*"}]
    return {item["path"]: it["name"] for it in sources for item in it.get("items", every)}


def pod_annotations(manifests: dict[Key, Manifest], program: str) -> dict[str, str]:
    kind = "StatefulSet" if program == "valkey" else "Deployment"
    template = manifests[kind, program]["spec"]["template"]
    return dict(template["metadata"]["annotations"])


def checksums(manifests: dict[Key, Manifest]) -> dict[str, str]:
    programs = ("authsvc", "adapter", "console", "valkey")
    return {it: pod_annotations(manifests, it)["checksum/config"] for it in programs}


def policy(manifests: dict[Key, Manifest], name: str) -> dict[str, Any]:
    spec: dict[str, Any] = manifests["NetworkPolicy", name]["spec"]
    return spec


# The chart and the kustomization.


def without_what_helm_adds(manifest: Manifest) -> Manifest:
    plain = copy.deepcopy(manifest)
    for label in OF_HELM:
        del plain["metadata"]["labels"][label]
    template = plain["spec"]["template"] if plain["kind"] in {"Deployment", "StatefulSet"} else {}
    if template:
        annotations = template["metadata"]["annotations"]
        del annotations["checksum/config"]
        if not annotations:
            del template["metadata"]["annotations"]
    return plain


def without_digests(manifests: dict[Key, Manifest]) -> dict[Key, Manifest]:
    """Without the suffix by which kustomize rolls pods when a ConfigMap changes."""
    names = {name for kind, name in manifests if kind == "ConfigMap"}
    text = json.dumps(list(manifests.values()))
    for name in names:
        text = text.replace(f'"{name}"', f'"{re.sub("-[a-z0-9]{10}$", "", name)}"')
    return {(it["kind"], it["metadata"]["name"]): it for it in json.loads(text)}


def test_by_default_the_chart_is_the_kustomization(
    helm: Helm, rendered: dict[Key, Manifest]
) -> None:
    kustomized = without_digests(helm.kustomized(KUBERNETES))
    # A release would delete its Namespace with all that is in it; secrets.sh makes it.
    del kustomized["Namespace", "authsvc"]
    assert set(rendered) == set(kustomized)
    for key, manifest in rendered.items():
        assert without_what_helm_adds(manifest) == kustomized[key], key


def test_with_its_values_the_chart_is_the_kustomization_with_its_components(
    helm: Helm, tmp_path: Path
) -> None:
    for name in ("kubernetes", "config"):
        shutil.copytree(KUBERNETES.parent / name, tmp_path / name)
    kustomization = tmp_path / "kubernetes" / "kustomization.yaml"
    text, sep, rest = kustomization.read_text().partition("# components:\n")
    assert sep
    lines = re.findall(r"^#   - (\S+) +# .+$", rest, re.MULTILINE)
    assert {*lines} == {it.parent.name for it in KUBERNETES.glob("*/kustomization.yaml")}
    kustomization.write_text(text + re.sub(r"^# (?=  - )", "", sep[2:] + rest, flags=re.MULTILINE))
    kustomized = without_digests(helm.kustomized(kustomization.parent))
    senders = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}
    }
    rendered = helm.rendered(
        CHART,
        {
            "authsvc": {"receiveSignals": True},
            "networkPolicies": {"signalSenders": [senders]},
            "monitoring": {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
            "valkey": {"exporter": {"enabled": True}},
        },
    )
    del kustomized["Namespace", "authsvc"]
    assert set(rendered) == set(kustomized)
    for key, manifest in rendered.items():
        in_order = sorted_ingress(kustomized[key])
        assert sorted_ingress(without_what_helm_adds(manifest)) == in_order, key


def sorted_ingress(manifest: Manifest) -> Manifest:
    """With the rules in one order: which is first has no meaning, and components append theirs."""
    if manifest["kind"] == "NetworkPolicy":
        manifest.get("spec", {}).get("ingress", []).sort(key=json.dumps)
    return manifest


def test_the_operator_of_prometheus_gets_every_alert_and_every_port(
    helm: Helm, others: dict[Key, Manifest]
) -> None:
    alerts = yaml.safe_load((KUBERNETES.parent / "monitoring" / "alerts.yaml").read_text())
    jobs = yaml.safe_load((KUBERNETES.parent / "monitoring" / "prometheus.yaml").read_text())
    for rule in (
        others["PrometheusRule", "authsvc"],
        yaml.safe_load((KUBERNETES / "monitoring" / "rules.yaml").read_text()),
    ):
        assert rule["spec"] == alerts
    assert others["PrometheusRule", "authsvc"]["metadata"]["labels"]["release"] == "own"
    monitors = {name: it for (kind, name), it in others.items() if kind == "PodMonitor"}
    assert set(monitors) == {"authsvc", "adapter", "console", "valkey"}
    known = {"valkey", *(it["job_name"] for it in jobs["scrape_configs"])}
    for name, it in monitors.items():
        kind = "StatefulSet" if name == "valkey" else "Deployment"
        labels = others[kind, name]["spec"]["template"]["metadata"]["labels"]
        assert it["spec"]["selector"]["matchLabels"].items() <= labels.items()
        (endpoint,) = it["spec"]["podMetricsEndpoints"]
        (relabelled,) = endpoint["relabelings"]
        assert relabelled["targetLabel"] == "job"
        assert relabelled["replacement"] in known
        assert endpoint["interval"] == "30s"
        assert it["metadata"]["labels"]["release"] == "own"
        named = [
            port["containerPort"]
            for container in pod(others, name)["containers"]
            for port in container["ports"]
            if port["name"] == endpoint["port"]
        ]
        assert [pod_annotations(others, name)["prometheus.io/port"]] == list(map(str, named))
    fewer = {
        "monitoring": {"podMonitor": {"enabled": True}},
        "adapter": {"enabled": False},
        "console": {"enabled": False},
        "valkey": {"enabled": False},
    }
    found = [name for kind, name in helm.rendered(CHART, fewer) if kind == "PodMonitor"]
    assert found == ["authsvc"]


def test_the_exporter_reaches_valkey_by_the_name_of_its_certificate(
    others: dict[Key, Manifest],
) -> None:
    (alias,) = pod(others, "valkey")["hostAliases"]
    assert alias == {"ip": "127.0.0.1", "hostnames": ["valkey"]}
    (exporter,) = pod(others, "valkey")["containers"][1:]
    assert exporter["image"] == "images.internal/exporter:9.9.9"
    assert exporter["resources"]["limits"] == {"memory": "96Mi"}
    arguments = dict(it.removeprefix("--").split("=") for it in exporter["args"] if "=" in it)
    assert arguments["redis.addr"] == "rediss://valkey:6379"
    users = (KUBERNETES.parent / "config" / "users.acl").read_text()
    (rights,) = re.findall(rf"^user {arguments['redis.user']} on \S+ (.+)$", users, re.MULTILINE)
    assert rights == "resetchannels -@all +ping +info"
    assert exporter["securityContext"] == container(others, "valkey")["securityContext"]
    (volume,) = [it for it in pod(others, "valkey")["volumes"] if it["name"] == "exporter-secrets"]
    mounted = {item["path"] for it in sources_of(volume) for item in it["items"]}
    assert {f"/run/secrets/{it}" for it in mounted} == {
        arguments["redis.password-file"],
        arguments["tls-ca-cert-file"],
    }
    compose = yaml.safe_load((KUBERNETES.parent / "compose" / "monitoring.yaml").read_text())
    assert compose["services"]["valkey-exporter"]["command"] == exporter["args"]


def sources_of(volume: Manifest) -> list[Manifest]:
    return [it["secret"] for it in volume["projected"]["sources"]]


def test_a_drain_takes_valkey_away_or_waits(
    rendered: dict[Key, Manifest], others: dict[Key, Manifest]
) -> None:
    most = [it["PodDisruptionBudget", "valkey"]["spec"] for it in (rendered, others)]
    assert [it["maxUnavailable"] for it in most] == [1, 0]
    for manifests in (rendered, others):
        annotations = pod_annotations(manifests, "valkey")
        assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
        assert annotations["karpenter.sh/do-not-disrupt"] == "true"


def test_kubernetes_knows_every_field(
    rendered: dict[Key, Manifest], others: dict[Key, Manifest]
) -> None:
    for manifest in (*rendered.values(), *others.values()):
        if manifest["kind"] not in OF_PROMETHEUS:
            validate(manifest)


# The chart by itself.


def test_the_linter_has_nothing_to_say(helm: Helm) -> None:
    linted = helm.run("lint", "--strict", "--quiet", CHART)
    assert (linted.returncode, linted.stdout.strip()) == (0, ""), linted.stdout


def test_its_version_is_that_of_authsvc() -> None:
    assert ABOUT["version"] == str(ABOUT["appVersion"]) == __version__


def test_a_package_of_it_is_complete(
    helm: Helm, tmp_path: Path, rendered: dict[Key, Manifest]
) -> None:
    packed = helm.run("package", CHART, "--destination", tmp_path)
    assert packed.returncode == 0, packed.stderr
    assert helm.rendered(tmp_path / f"authsvc-{__version__}.tgz") == rendered


def test_it_says_which_configurations_are_examples(helm: Helm) -> None:
    def notes(*arguments: str) -> str:
        done = helm.run("install", "release", CHART, "--dry-run=client", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("NOTES:")[2]

    assert re.findall(r"--set-file (\S+)=", notes()) == ["authsvc.config", "adapter.config"]
    assert "--set-file" not in notes("--set", "authsvc.config=of=1,adapter.config=of=1")


# Values.


def keys(values: dict[str, Any], within: str = "") -> Iterator[str]:
    """Each key that has a value of its own; what is empty or free is one value."""
    for name, value in values.items():
        described = f"{within}{name}" in DESCRIBED
        if described or not isinstance(value, dict):
            yield f"{within}{name}"
        else:
            yield from keys(value, f"{within}{name}.")


DESCRIBED = dict(chart.described(VALUES.read_text()))


def test_every_value_is_described() -> None:
    assert list(keys(DEFAULTS)) == list(DESCRIBED)


def test_the_schema_has_the_values_and_no_others() -> None:
    def in_schema(schema: dict[str, Any], within: str = "") -> Iterator[str]:
        schema = SCHEMA["definitions"].get(schema.get("$ref", "").rpartition("/")[2], schema)
        if within.removesuffix(".") in DESCRIBED or "properties" not in schema:
            yield within.removesuffix(".")
            return
        assert schema["additionalProperties"] is False, within
        for name, below in schema["properties"].items():
            yield from in_schema(below, f"{within}{name}.")

    assert set(in_schema(SCHEMA)) - {"global"} == set(DESCRIBED)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("image.tga=1.0.0", "/image"),
        ("authsvc.replicas=two", "/authsvc/replicas"),
        ("secrets.ca=", "/secrets/ca"),
        ("image.digest=sha256:short", "/image/digest"),
    ],
)
def test_a_wrong_value_is_refused_and_named(helm: Helm, value: str, named: str) -> None:
    refused = helm.run("template", CHART, "--set", value)
    assert refused.returncode != 0
    assert f"at '{named}'" in refused.stderr


def test_an_image_without_tag_and_digest_is_refused(helm: Helm) -> None:
    refused = helm.run("template", CHART, "--set", "valkey.image.tag=")
    assert "an image needs a tag or a digest" in refused.stderr


def test_these_tests_set_every_value() -> None:
    elsewhere = {"enabled", "tag", "digest", *LIMITS}
    assert {it.rpartition(".")[2] for it in set(DESCRIBED) - set(keys(OTHERS))} == elsewhere


def test_images(helm: Helm, others: dict[Key, Manifest]) -> None:
    own = f"images.internal/authsvc@sha256:{'0' * 64}"
    for program in ("authsvc", "adapter", "console"):
        assert container(others, program)["image"] == own
    assert container(others, "valkey")["image"] == "images.internal/valkey:9.9.9"
    for program in ("authsvc", "adapter", "console", "valkey"):
        assert pod(others, program)["imagePullSecrets"] == [{"name": "registry"}]
    digest = f"sha256:{'1' * 64}"
    by = helm.rendered(CHART, {"image": {"tag": "2.0.0"}, "valkey": {"image": {"digest": digest}}})
    assert container(by, "authsvc")["image"] == f"{DEFAULTS['image']['repository']}:2.0.0"
    assert container(by, "valkey")["image"] == f"valkey/valkey@{digest}"


def test_secrets_go_by_their_names(helm: Helm, others: dict[Key, Manifest]) -> None:
    assert "Secret" not in {kind for kind, _ in others}
    assert secrets(others, "authsvc") == {
        "ca.crt": "own-ca",
        "authsvc.crt": "own-authsvctls",
        "authsvc.key": "own-authsvctls",
        "valkey-password": "own-valkeypassword",
        "*": "own-servicetokendigests",
    }
    assert secrets(others, "adapter") == {"ca.crt": "own-ca", "adapter-token": "own-adaptertoken"}
    assert secrets(others, "console") == {
        "ca.crt": "own-ca",
        "console-token": "own-consoletoken",
        "console-operators": "own-consoleoperators",
    }
    assert secrets(others, "valkey") == {
        "ca.crt": "own-ca",
        "valkey.crt": "own-valkeytls",
        "valkey.key": "own-valkeytls",
        "users.acl": "own-valkeyusers",
    }
    none = dict.fromkeys(("valkeyPassword", "adapterToken", "serviceTokenDigests"), "")
    fewer = helm.rendered(CHART, {"secrets": none})
    assert set(secrets(fewer, "authsvc")) == {"ca.crt", "authsvc.crt", "authsvc.key"}
    assert set(secrets(fewer, "adapter")) == {"ca.crt"}


def test_a_configuration_is_given_as_text_and_rolls_its_own_pods_alone(
    helm: Helm, rendered: dict[Key, Manifest], others: dict[Key, Manifest]
) -> None:
    assert others["ConfigMap", "authsvc"]["data"] == {"authsvc.toml": "of = 'authsvc'\n"}
    assert others["ConfigMap", "adapter"]["data"] == {"adapter.toml": OTHERS["adapter"]["config"]}
    assert others["ConfigMap", "console"]["data"] == {"console.toml": "of = 'the console'\n"}
    assert others["ConfigMap", "valkey"]["data"] == {"valkey.conf": "port 0\n"}
    before = checksums(rendered)
    for program, checksum in before.items():
        (text,) = rendered["ConfigMap", program]["data"].values()
        assert checksum == hashlib.sha256(text.encode()).hexdigest()
    for program in before:
        after = checksums(helm.rendered(CHART, {program: {"config": "of = 'another'\n"}}))
        assert [it for it in before if before[it] != after[it]] == [program]


@pytest.mark.parametrize("program", ["authsvc", "adapter", "console", "valkey"])
def test_where_pods_run_and_what_they_get(others: dict[Key, Manifest], program: str) -> None:
    spec = pod(others, program)
    assert {name: spec[name] for name in ("nodeSelector", "tolerations")} == {
        name: PLACEMENT[name] for name in ("nodeSelector", "tolerations")
    }
    assert pod_annotations(others, program)["example.com/of"] == "pods"
    for name, value in OTHERS[program]["resources"].items():
        assert value.items() <= container(others, program)["resources"][name].items()


@pytest.mark.parametrize("program", ["authsvc", "adapter"])
def test_a_program_without_an_autoscaler(others: dict[Key, Manifest], program: str) -> None:
    assert ("HorizontalPodAutoscaler", program) not in others
    assert others["Deployment", program]["spec"]["replicas"] == 3
    assert pod(others, program)["serviceAccountName"] == "own"
    (volume,) = [it for it in pod(others, program)["volumes"] if it["name"] == "secrets"]
    assert SOURCE in volume["projected"]["sources"]


@pytest.mark.parametrize("program", ["authsvc", "adapter"])
def test_an_autoscaler_has_its_limits(helm: Helm, program: str) -> None:
    manifests = helm.rendered(CHART, {program: {"autoscaling": LIMITS}})
    spec = manifests["HorizontalPodAutoscaler", program]["spec"]
    (metric,) = spec["metrics"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (4, 5)
    assert metric["resource"]["target"]["averageUtilization"] == 60


def test_storage(others: dict[Key, Manifest]) -> None:
    (claim,) = others["StatefulSet", "valkey"]["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"] == {"requests": {"storage": "5Gi"}}


def test_everything_is_in_the_namespace_of_the_release(others: dict[Key, Manifest]) -> None:
    assert {it["metadata"]["namespace"] for it in others.values()} == {"elsewhere"}


def test_authsvc_alone(helm: Helm) -> None:
    alone = helm.rendered(
        CHART, {name: {"enabled": False} for name in ("adapter", "console", "valkey")}
    )
    assert {name for _, name in alone} == {"authsvc", "default-deny", "dns"}
    assert len(policy(alone, "authsvc")["egress"]) == 1
    calls, _ = policy(alone, "authsvc")["ingress"]
    assert calls["from"] == [
        {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "adapter"}}}
    ]


def test_ports_beside_that_of_the_calls_are_open_where_they_are_wanted(
    helm: Helm, rendered: dict[Key, Manifest], others: dict[Key, Manifest]
) -> None:
    def ports(manifests: dict[Key, Manifest]) -> list[tuple[str, int]]:
        service = manifests["Service", "authsvc"]["spec"]["ports"]
        of_pods = {
            it["name"]: it["containerPort"] for it in container(manifests, "authsvc")["ports"]
        }
        return [(it["name"], of_pods[it["targetPort"]]) for it in service]

    assert ports(rendered) == [("grpc", 50051)]
    assert ports(others) == [
        ("grpc", 50051),
        ("https-keys", 50053),
        ("https-signals", 50054),
    ]
    closed = {"networkPolicies": {"keyReaders": [PEER], "signalSenders": [PEER]}}
    assert len(policy(helm.rendered(CHART, closed), "authsvc")["ingress"]) == 2


def test_probes_get_their_arguments(others: dict[Key, Manifest]) -> None:
    for when in ("startup", "liveness", "readiness"):
        command = container(others, "authsvc")[f"{when}Probe"]["exec"]["command"]
        assert command[-1] == "--key-file=own.key"


def test_the_values_of_the_page_about_gateways(helm: Helm) -> None:
    """The yaml of docs/gateways.md."""
    blocks = blocks_of("docs/gateways.md")
    (block,) = (it for it in blocks if it.language == "yaml" and "serveKeys" in it.text)
    manifests = helm.rendered(CHART, yaml.safe_load(block.text))
    for manifest in manifests.values():
        validate(manifest)
    calls, _, keys = policy(manifests, "authsvc")["ingress"]
    assert len(calls["from"]) == 3
    assert len(keys["from"]) == 1
    mounted = secrets(manifests, "authsvc")
    command = container(manifests, "authsvc")["readinessProbe"]["exec"]["command"]
    for argument in command[-2:]:
        assert argument.rpartition("/run/secrets/")[2] in mounted
    assert {"clients-ca.crt", "assertions.key"} <= mounted.keys()


# Network policies.


def test_peers_and_rules_are_those_that_are_given(others: dict[Key, Manifest]) -> None:
    rules = policy(others, "authsvc")["ingress"]
    calls, metrics, keys, signals = rules
    assert calls["from"][2:] == metrics["from"] == keys["from"] == signals["from"] == [PEER]
    opened = [it["port"] for rule in rules for it in rule["ports"]]
    assert opened == [50051, 9464, 50053, 50054]
    for program, port in (("adapter", 9564), ("console", 9664), ("valkey", 9121)):
        watched = policy(others, program)["ingress"][-1]
        assert watched == {"from": [PEER], "ports": [{"protocol": "TCP", "port": port}]}
    assert policy(others, "authsvc")["egress"][1]["to"] == [PEER]
    assert policy(others, "authsvc")["egress"][2:] == [RULE]
    assert policy(others, "adapter")["ingress"][0]["from"] == [PEER]
    assert policy(others, "adapter")["egress"][1]["to"] == [PEER]
    assert policy(others, "adapter")["egress"][2:] == [RULE]
    assert policy(others, "dns")["egress"][0]["to"] == [PEER]


def test_an_empty_list_of_peers_lets_nobody_in_or_out(helm: Helm) -> None:
    """In a rule, no peers mean all of them."""
    empty: dict[str, list[Manifest]] = {
        name: [] for name, value in DEFAULTS["networkPolicies"].items() if name != "enabled"
    }
    manifests = helm.rendered(
        CHART, {"networkPolicies": empty, "valkey": {"enabled": False}}, namespace="authsvc"
    )
    names = [name for kind, name in manifests if kind == "NetworkPolicy"]
    assert set(names) == {"default-deny", "dns", "authsvc", "adapter", "console"}
    for name in names:
        spec = policy(manifests, name)
        assert spec["policyTypes"]
        for rule in spec.get("ingress") or []:
            assert rule["from"], name
        for rule in spec.get("egress") or []:
            assert rule["to"], name
        validate(manifests["NetworkPolicy", name])


def test_another_server_is_let_in_as_the_page_says(helm: Helm) -> None:
    """The yaml of docs/operations.md."""
    (block,) = (it for it in blocks_of("docs/operations.md") if it.language == "yaml")
    (peer,) = peers = yaml.safe_load(block.text)
    assert set(peer) == {"namespaceSelector", "podSelector"}
    manifests = helm.rendered(CHART, {"networkPolicies": {"callers": peers}})
    validate(manifests["NetworkPolicy", "authsvc"])
    assert policy(manifests, "authsvc")["ingress"][0]["from"][-1] == peer


def test_without_network_policies(helm: Helm) -> None:
    manifests = helm.rendered(CHART, {"networkPolicies": {"enabled": False}})
    assert "NetworkPolicy" not in {kind for kind, _ in manifests}


# The pages.


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_the_commands_of_a_page_run(helm: Helm, tmp_path: Path, page: Path) -> None:
    shell = "".join(re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL))
    (command,) = re.findall(r"^helm (install .+)$", shell.replace("\\\n", ""), re.MULTILINE)
    for name in re.findall(r"--set-file \S+=(\S+)", command):
        (tmp_path / name).write_text("of = 'this test'\n")
    words = [
        str(ROOT / word) if word.startswith("deploy/") else word for word in shlex.split(command)
    ]
    done = helm.run(*words, "--dry-run=client", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("of = 'this test'") == 2


def test_the_values_of_the_page_put_a_store_elsewhere(helm: Helm) -> None:
    (text,) = re.findall(r"```yaml\n# values.yaml.*?\n(.*?)```", PAGES[0].read_text(), re.DOTALL)
    values = yaml.safe_load(text)
    manifests = helm.rendered(CHART, values)
    assert "valkey" not in {name for _, name in manifests}
    rules = policy(manifests, "authsvc")["egress"]
    assert [rule for rule in rules if rule in values["networkPolicies"]["authsvcEgress"]]
    validate(manifests["NetworkPolicy", "authsvc"])


def test_what_the_chart_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)", (CHART / "README.md").read_text())
    assert links
    assert [link for link in links if not (CHART / link).exists()] == []


def test_the_page_says_what_was_checked(helm: Helm) -> None:
    page = PAGES[0].read_text()
    checked = re.search(r"schemas of Kubernetes (\S+), (\S+) and (\S+)", page)
    assert checked is not None
    assert set(checked.groups()) == set(RELEASES)
    version = re.match(r"v(\d+\.\d+)\.", helm.run("version", "--short").stdout)
    assert version is not None
    assert f"with Helm {version[1]}," in page


def test_the_oldest_kubernetes_of_the_page_knows_every_field(
    rendered: dict[Key, Manifest],
) -> None:
    (oldest,) = re.findall(r"Both need Kubernetes (\S+) or newer", PAGES[0].read_text())
    assert ABOUT["kubeVersion"] == f">={oldest}.0-0"
    for manifest in rendered.values():
        validate(manifest, [oldest])
