"""What the pages of docs/credentials say is what the settings have.

The chart's values are those of docs/credentials/client-authentication.md.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs

from authsvc.domain.credential_requests import MAX_BUCKETS, MAX_REQUESTS
from authsvc.server.config.clients import AuthMethod
from authsvc.server.config.exchange import ExchangeProfile
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


def first_table(page: str, header: str, column: int) -> list[str]:
    """The first code of each row's cell, of the first table with that header."""
    _, found, rest = (ROOT / page).read_text(encoding="utf-8").partition(f"\n{header}\n|---")
    assert found
    rows = rest.partition("\n\n")[0].splitlines()[1:]
    return [re.findall(r"`([^`]+)`", row.split("|")[column])[0] for row in rows]


@pytest.mark.parametrize(
    ("page", "header", "column", "wanted"),
    [
        ("apis.md", "| to get | `profile` | what is sent |", 2, get_args(ExchangeProfile)),
        (
            "client-authentication.md",
            "| `auth_method` | what is sent | settings |",
            1,
            get_args(AuthMethod),
        ),
    ],
    ids=["profiles", "methods"],
)
def test_the_table_has_each_value(
    page: str, header: str, column: int, wanted: tuple[str, ...]
) -> None:
    assert first_table(f"docs/credentials/{page}", header, column) == [*wanted]


def test_the_first_page_says_what_a_request_may_ask_for() -> None:
    page = (ROOT / "docs" / "credentials.md").read_text(encoding="utf-8")
    said = f"more than {MAX_REQUESTS} credentials, or more than {MAX_BUCKETS} buckets for one"
    assert said in page


@pytest.mark.parametrize("profile", get_args(ExchangeProfile))
def test_the_first_page_leads_to_each_profile(profile: str) -> None:
    page = (ROOT / "docs" / "credentials.md").read_text(encoding="utf-8")
    table = page.partition("| what you want |")[2].partition("\n\n")[0]
    assert f'"{profile}"' in table or (profile == "rfc8693" and "RFC 8693" in table)
