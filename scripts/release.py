"""``python -m scripts.release [--tag TAG]``: check that the tree can be released, and build it.

What is wrong is named, all of it, and nothing is built then. ``dist/`` gets the sdist, the wheel,
and the protos as an archive. Nothing is uploaded: .github/workflows/publish.yml does that.
"""

from __future__ import annotations

import argparse
import gzip
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PUBLIC_PROTOS = ("authsvc/v1", "google")
URLS = frozenset({"Documentation", "Source", "Changelog", "Issues"})


def faults(root: Path, tag: str = "") -> list[str]:
    """Why the tree cannot be released, each in a sentence.

    Args:
        root: the checkout.
        tag: what the release is tagged with; empty where there is no tag yet.
    """
    found = []
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = _version(root)
    if missing := sorted(URLS - set(project.get("urls", {}))):
        found.append(f"pyproject.toml: set [project.urls] first; it lacks {', '.join(missing)}")
    if tag not in {"", f"v{version}"}:
        found.append(f"the tag is {tag}, and authsvc/__init__.py has version {version}")
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", changelog, re.MULTILINE):
        found.append(f"CHANGELOG.md: there is no section '## {version} (year-month-day)'")
    return found


def archive_protos(root: Path, folder: Path) -> Path:
    """Write ``authsvc-protos-VERSION.tar.gz``: the public protos, and all that they import.

    The same files give the same bytes, on any machine and at any time.

    Args:
        root: the checkout.
        folder: where to write it.

    Returns:
        The archive.
    """
    name = f"authsvc-protos-{_version(root)}"
    protos = root / "protos"
    packed = {f"{name}/LICENSE": root / "LICENSE"} | {
        f"{name}/{path.relative_to(protos)}": path
        for public in PUBLIC_PROTOS
        for path in sorted((protos / public).rglob("*.proto"))
    }
    target = folder / f"{name}.tar.gz"
    with (
        gzip.GzipFile(target, "wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as archive,
    ):
        for member, path in packed.items():
            entry = tarfile.TarInfo(member)
            entry.size = path.stat().st_size
            with path.open("rb") as content:
                archive.addfile(entry, content)
    return target


def _version(root: Path) -> str:
    text = (root / "authsvc" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    return match[1] if match else ""


def main() -> None:
    """Check, then build."""
    parser = argparse.ArgumentParser(prog="python -m scripts.release", description=__doc__)
    parser.add_argument("--tag", default="", help="what the release is tagged with, such as v0.1.0")
    if found := faults(ROOT, parser.parse_args().tag):
        raise SystemExit("\n".join(["This tree cannot be released:", *found]))
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(dist)]
    subprocess.run(build, cwd=ROOT, check=True)  # noqa: S603 - a fixed command
    archive_protos(ROOT, dist)


if __name__ == "__main__":
    main()
