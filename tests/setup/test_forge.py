"""The forge's files: workflows that parse, pinned actions, and the checks before a release."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs

from authsvc import __version__
from scripts import release
from scripts.pythons import SUPPORTED
from tests.support.bounds import TIMEOUT_SECONDS

ROOT = Path(__file__).parents[2]
FORGE = ROOT / ".github"
WORKFLOWS = sorted((FORGE / "workflows").glob("*.yml"))
FORMS = [FORGE / "ISSUE_TEMPLATE" / name for name in ("bug.yml", "feature.yml")]


def loaded(path: Path) -> dict[str, Any]:
    """The YAML of a file. A workflow's ``on`` is the truth value True there."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = loaded(path)["jobs"]
    return found


@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.dependabot", [FORGE / "dependabot.yml"]),
    ],
    ids=["workflows", "dependabot"],
)
def test_they_are_what_the_forge_reads(schema: str, paths: list[Path]) -> None:
    program = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    command = [*program, *map(str, paths)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: str(path.name))
def test_actions_are_pinned_by_their_commit(path: Path) -> None:
    uses = re.findall(r"uses: *(\S+)(.*)", path.read_text(encoding="utf-8"))
    assert uses
    for action, comment in uses:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+(\.\d+)+", comment), action


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: str(path.name))
def test_a_job_may_read_and_no_more_unless_it_says_so(path: Path) -> None:
    assert loaded(path)["permissions"] == {"contents": "read"}
    for name, job in jobs(path).items():
        assert job["timeout-minutes"] <= 60, name
        assert job.get("permissions", {}) in ({}, {"id-token": "write"}), name


def test_ci_runs_what_a_developer_runs_on_each_python() -> None:
    job = jobs(FORGE / "workflows" / "ci.yml")["run"]
    assert tuple(job["strategy"]["matrix"]["python"]) == SUPPORTED
    assert ".ci/run" in [step.get("run") for step in job["steps"]]


def test_a_release_is_published_without_a_stored_token() -> None:
    publish = jobs(FORGE / "workflows" / "publish.yml")["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"]
    assert "secrets." not in (FORGE / "workflows" / "publish.yml").read_text(encoding="utf-8")


def test_forms_ask_for_what_is_needed() -> None:
    for path in FORMS:
        form = loaded(path)
        assert form["name"]
        assert form["description"]
        assert any(item.get("validations", {}).get("required") for item in form["body"])
    assert loaded(FORGE / "ISSUE_TEMPLATE" / "config.yml")["blank_issues_enabled"] is False


def test_updates_look_at_every_lock_and_wait() -> None:
    updates = {it["package-ecosystem"]: it for it in loaded(FORGE / "dependabot.yml")["updates"]}
    for ecosystem, name in (("pip", "requirements.lock"), ("npm", "package-lock.json")):
        found = subprocess.run(
            ["/usr/bin/git", "ls-files", f"*{name}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=True,
        ).stdout.split()
        folders = {f"/{Path(it).parent}".removesuffix("/.") or "/" for it in found}
        assert set(updates[ecosystem]["directories"]) == folders
    assert all(it["cooldown"]["default-days"] >= 7 for it in updates.values())


def test_hooks_use_the_ruff_of_the_environment() -> None:
    (repository,) = loaded(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert all(hook["entry"].startswith(".venv/bin/ruff ") for hook in repository["hooks"])


def made(folder: Path, *, urls: str, version: str = "1.2.3", heading: str = "1.2.3") -> Path:
    (folder / "authsvc").mkdir()
    (folder / "authsvc" / "__init__.py").write_text(f'__version__ = "{version}"\n')
    (folder / "pyproject.toml").write_text(f'[project]\nname = "x"\n{urls}')
    (folder / "CHANGELOG.md").write_text(f"# Changelog\n\n## {heading} (2026-11-29)\n")
    return folder


URLS = "[project.urls]\n" + "".join(f'{it} = "https://x.test"\n' for it in release.URLS)


def test_a_tree_that_is_complete_can_be_released(tmp_path: Path) -> None:
    assert release.faults(made(tmp_path, urls=URLS), "v1.2.3") == []


def test_a_release_without_an_address_is_stopped(tmp_path: Path) -> None:
    (fault,) = release.faults(made(tmp_path, urls=""))
    assert "[project.urls]" in fault


def test_a_release_of_another_version_is_stopped(tmp_path: Path) -> None:
    found = release.faults(made(tmp_path, urls=URLS, heading="1.2.2"), "v1.2.4")
    assert len(found) == 2


def test_the_changelog_begins_with_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    (first, *_) = re.findall(r"^## (\S+) \(", changelog, re.MULTILINE)
    assert first == __version__
