"""Which virtual host and which routes a request may take."""

from __future__ import annotations

import re
from collections.abc import Iterable

from authsvc.diagnosis.envoy.configuration import VirtualHost
from authsvc.diagnosis.envoy.fields import Fields

_PATHS = frozenset({"prefix", "path", "safe_regex", "path_separated_prefix", "case_sensitive"})
"""Fields of a ``RouteMatch`` that are about the path, and are known here."""

_NO_MATCH = (0, 0)

_MAX_TEXT = 64
"""Longest text that a regular expression is tried on: RE2 is linear, and Python's are not."""


def host_for(hosts: Iterable[VirtualHost], authority: str) -> VirtualHost | None:
    """The virtual host of a request; None where none takes it.

    Args:
        hosts: of one connection manager.
        authority: the request's host, with its port unless that is the scheme's own.
    """
    # A manager may be told to leave the port out.
    spellings = (authority, re.sub(r":[0-9]+$", "", authority))
    found = [
        (rank, host)
        for host in hosts
        for domain in host.domains
        if (rank := max(_rank(domain, it) for it in spellings)) > _NO_MATCH
    ]
    return max(found, key=lambda it: it[0])[1] if found else None


def has_host(host: VirtualHost, authority: str) -> bool:
    """Whether one virtual host may take a request; ``authority`` as of ``host_for``."""
    return host_for([host], authority) is not None


def _rank(domain: str, authority: str) -> tuple[int, int]:
    """How closely a domain matches; Envoy takes the closest."""
    domain, authority = domain.lower(), authority.lower()
    if domain == authority:
        return (4, 0)
    if domain == "*":
        return (1, 0)
    if domain.startswith("*") and authority.endswith(domain[1:]):
        return (3, len(domain))
    if domain.endswith("*") and authority.startswith(domain[:-1]):
        return (2, len(domain))
    return _NO_MATCH


def may_match(match: Fields, path: str) -> bool:
    """Whether a route may take a path: what cannot be decided here may be."""
    if not match.items.get("case_sensitive", match.items.get("caseSensitive", True)):
        match = Fields({k: v.lower() if isinstance(v, str) else v for k, v in match.items.items()})
        path = path.lower()
    if "prefix" in match:
        return path.startswith(match.text("prefix"))
    if "path" in match:
        return path == match.text("path")
    if "path_separated_prefix" in match:
        prefix = match.text("path_separated_prefix")
        return path == prefix or path.startswith(f"{prefix}/")
    if "safe_regex" in match:
        return matches(match.table("safe_regex").text("regex"), path)
    return True


def is_conditional(match: Fields) -> bool:
    """Whether a route looks at more than the path."""
    known = {re.sub("([A-Z])", lambda it: f"_{it[1].lower()}", name) for name in match.items}
    return bool(known - _PATHS)


def path_of(match: Fields) -> str:
    """The path or the prefix that a route is for; empty where it is neither."""
    names = ("prefix", "path_separated_prefix", "path")
    return next((match.text(name) for name in names if name in match), "")


def shown(match: Fields) -> str:
    """The path of a route, for people."""
    for name in ("prefix", "path_separated_prefix"):
        if name in match:
            return f"{match.text(name)}*"
    if "safe_regex" in match:
        return match.table("safe_regex").text("regex")
    return match.text("path") or "(another match)"


def matches(pattern: str, text: str) -> bool:
    """Whether a whole text matches; True where that cannot be told, since Envoy's are RE2's."""
    try:
        return len(text) > _MAX_TEXT or re.fullmatch(pattern, text) is not None
    except (re.error, RecursionError, OverflowError):
        return True


def is_listed(header: str, matchers: Iterable[Fields]) -> bool:
    """Whether one of the ``StringMatcher`` matches the name of a header."""
    return any(_is_matched(header, it) for it in matchers)


def _is_matched(header: str, matcher: Fields) -> bool:
    ignores_case = matcher.flag("ignore_case")

    def given(name: str) -> str:
        return matcher.text(name).lower() if ignores_case else matcher.text(name)

    return (
        ("exact" in matcher and header == given("exact"))
        or ("prefix" in matcher and header.startswith(given("prefix")))
        or ("suffix" in matcher and header.endswith(given("suffix")))
        or ("contains" in matcher and given("contains") in header)
        or ("safe_regex" in matcher and matches(matcher.table("safe_regex").text("regex"), header))
    )
