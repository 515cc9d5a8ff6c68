"""docs/signals.md: its tables are the code's, and its configurations do what it says."""

from __future__ import annotations

import re
import tomllib
from http import HTTPStatus
from typing import Any

import pytest

from authsvc.domain.revocation_target import ProviderSessionTarget, SubjectTarget
from authsvc.server.config import Settings, SignalStreamSettings
from authsvc.signals.actions import DEFAULT_ACTIONS, Action
from authsvc.signals.errors import SignalErrorCode
from authsvc.signals.signals import Stream
from authsvc.signals.subjects import Subject, User, subject_of
from authsvc.signals.targets import Target, targets_of
from tests.support.processes import ROOT
from tests.support.signals import Sender
from tests.support.snippets import blocks_of

PAGE = "docs/signals.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")

KEYCLOAK = "https://sso.example.com/realms/acme"
OKTA = "https://acme.okta.com"
OKTA_API = f"{OKTA}/oauth2/aus1mcp2server"
AUTH0 = "https://acme.eu.auth0.com/"
GOOGLE = "https://accounts.google.com/"
USER: dict[str, object] = {"format": "iss_sub", "sub": "ada"}


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables of a section, without their headings."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    return [line.split(" | ") for line in lines]


def test_the_actions_are_the_defaults() -> None:
    listed = {
        name.strip("`"): Action(action.strip("`"))
        for name, _, action in rows("What each event does")[1:]
    }
    assert listed == dict(DEFAULT_ACTIONS)


def test_the_codes_are_those_of_the_code() -> None:
    cells = {cell.strip("`") for cell, *_ in rows("What the sender is answered")}
    assert {code.value for code in SignalErrorCode} <= cells


def test_the_statuses_are_statuses() -> None:
    (answers, *_) = zip(*rows("What the sender is answered"), strict=True)
    statuses = {int(it) for cell in answers for it in re.findall(r"\b[2345]\d\d\b", cell)}
    assert statuses == {200, 202, 400, 404, 405, 413, 415, 429, 503}
    assert all(HTTPStatus(it) for it in statuses)


def configured(provider: str) -> SignalStreamSettings:
    """The stream of a provider's section."""
    (section,) = re.findall(rf"^## {provider}\n(.*?)(?=^## )", TEXT, re.MULTILINE | re.DOTALL)
    block = re.search(r"```toml\n(.*?)```", section, re.DOTALL)
    assert block is not None
    given: dict[str, Any] = {
        "listen": "127.0.0.1:50051",
        "resources": ["https://mcp.example.com/mcp"],
        "issuers": [
            {"issuer": "https://idp.example.com", "algorithms": ["RS256"], "discover": True}
        ],
        **tomllib.loads(block[1]),
    }
    signals = Settings(**given).signals
    assert signals is not None
    return signals.streams[0]


def stream_of(settings: SignalStreamSettings) -> Stream:
    return Sender(settings.issuer).stream(
        audiences=settings.audiences,
        applies_to=settings.applies_to or (settings.issuer,),
        accepted_types=settings.accepted_types,
        subject_formats=settings.subject_formats,
    )


SIGNED_OUT = Subject((User(KEYCLOAK, "ada"),), "s1")
AUTH0_SIGNED_OUT = Subject((User(AUTH0, "ada"),), "s1")


@pytest.mark.parametrize(
    ("provider", "action", "subject", "ends"),
    [
        ("Keycloak", Action.SESSION, SIGNED_OUT, ProviderSessionTarget(KEYCLOAK, "s1", "ada")),
        ("Auth0", Action.SESSION, AUTH0_SIGNED_OUT, ProviderSessionTarget(AUTH0, "s1", "ada")),
        (
            "Okta",
            Action.SESSION,
            subject_of([{"user": {**USER, "iss": OKTA}}], ()),
            SubjectTarget(OKTA_API, "ada"),
        ),
        (
            "Google",
            Action.SUBJECT,
            subject_of([{"subject_type": "iss-sub", "iss": GOOGLE, "sub": "ada"}], ()),
            SubjectTarget(KEYCLOAK, "ada"),
        ),
        (
            "Any other provider",
            Action.SUBJECT,
            subject_of([{**USER, "iss": "https://idp.example.com"}], ()),
            SubjectTarget("https://idp.example.com", "ada"),
        ),
    ],
)
def test_a_signal_of_the_provider_ends_what_the_page_says(
    provider: str, action: Action, subject: Subject, ends: Target
) -> None:
    assert targets_of(action, subject, stream_of(configured(provider))) == (ends,)


def test_googles_types_are_accepted() -> None:
    assert stream_of(configured("Google")).set_types == {"", "jwt"}


def test_every_provider_of_the_page_is_linked() -> None:
    for heading in re.findall(r"^## (.*)$", TEXT, re.MULTILINE):
        anchor = heading.lower().replace(" ", "-")
        assert f"](#{anchor})" in TEXT or heading == "What each event does", heading


def test_every_table_with_a_stream_is_of_settings() -> None:
    streams = [block for block in blocks_of(PAGE) if "[[signals.streams]]" in block.text]
    assert len(streams) >= 7
