"""What docs/credentials/client-authentication.md shows of the chart."""

from __future__ import annotations

from pathlib import Path

import yaml  # type: ignore[import-untyped] # it has no stubs

from tests.support.helm import Helm, validate
from tests.support.processes import ROOT
from tests.support.snippets import blocks_of

CHART = ROOT / "deploy" / "helm" / "authsvc"


def test_the_chart_mounts_the_assertion(tmp_path: Path) -> None:
    """Where the page's settings name it."""
    blocks = blocks_of("docs/credentials/client-authentication.md")
    (values,) = [it for it in blocks if it.language == "yaml" and "serviceAccountToken" in it.text]
    given = yaml.safe_load(values.text)
    deployment = Helm.unpacked(tmp_path).rendered(CHART, given)["Deployment", "authsvc"]
    validate(deployment)
    pod = deployment["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "authsvc"
    (secrets,) = [it for it in pod["volumes"] if it["name"] == "secrets"]
    (token,) = [
        it["serviceAccountToken"]
        for it in secrets["projected"]["sources"]
        if "serviceAccountToken" in it
    ]
    (mount,) = [it for it in pod["containers"][0]["volumeMounts"] if it["name"] == "secrets"]
    file = f"{mount['mountPath']}/{token['path']}"
    assert any(f'client_assertion_file = "{file}"' in it.text for it in blocks)
