"""What the pages name exists: identifiers in the code, files, and headings that links lead to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
SOURCE = "\n".join(
    path.read_text(encoding="utf-8")
    for folder in ("authsvc", "mcp_adapter", "protos", "deploy", "scripts", "tests", "bench")
    for pattern in ("*.py", "*.proto", "*.yaml", "*.toml", "*.conf")
    for path in sorted((ROOT / folder).rglob(pattern))
    if "node_modules" not in path.parts
)
FILES = {path.stem for path in ROOT.glob("tests/**/*.py")}
OTHERS = {
    # of libraries, programs and specifications
    *("client_secret_basic", "overcommit_memory", "transport_security", "my_tools"),
    *("process_cpu_seconds_total",),
    *("aof_rewrite_in_progress", "uptime_in_seconds", "used_memory", "limit_conn"),
    *("client_header_timeout", "client_body_timeout", "send_timeout", "ext_authz"),
    *("jwt_authn", "data_version", "https_proxy", "http_proxy", "grpc_proxy", "no_proxy"),
    *(
        "mmap_size",
        "error_description",
        "offline_access",
        "insufficient_scope",
        "session_id",
        "required_scopes",
    ),
    *("round_robin", "too_many_pings"),
    *("via_upstream", "envoy_cluster_upstream_rq", "internal_address_config"),
    *("ext_authz_denied", "cx_connect_fail", "rq_timeout"),
    "grant_types_supported",
    *("backchannel_logout_supported", "backchannel_logout_urls", "oidc_logout"),
    *("backchannel_logout_initiators", "events_requested", "mtls_endpoint_aliases", "jwt_svids"),
    *("proxy_set_header", "proxy_next_upstream", "http_503", "non_idempotent"),
}


def named(page: Path) -> set[str]:
    """Identifiers with an underscore that a page has in backticks, alone or before a bracket."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    code = re.findall(r"`([^`\n]+)`", text)
    name = re.compile(r"(?<![\w-])[a-z]+(?:_[a-z0-9]+)+\b")
    return {it for span in code for it in name.findall(span)}


def exposed(metric: str) -> str:
    """A metric as the code names it: Prometheus' client adds the rest."""
    return metric.removesuffix("_total").removesuffix("_info")


def slug(heading: str) -> str:
    """The anchor that a forge gives a heading."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()).strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {slug(it) for it in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_in_the_code(page: Path) -> None:
    if "decisions" in page.parts:
        return  # they tell of their time
    names = {it for it in named(page) if it not in SOURCE and exposed(it) not in SOURCE}
    assert names - OTHERS - FILES == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_headings_that_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    for target, anchor in links:
        path = page.parent / target if target else page
        if path.suffix == ".md":
            assert anchor in anchors(path), f"{target}#{anchor}"


def test_the_index_has_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    folders = ("docs", "docs/credentials", "docs/reference")
    for page in (it for folder in folders for it in sorted((ROOT / folder).glob("*.md"))):
        name = str(page.relative_to(ROOT / "docs"))
        assert name == "README.md" or f"]({name})" in index, name
