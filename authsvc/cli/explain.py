"""``authsvc explain``."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from authsvc.cli.configuration import config_errors, config_option, load_settings
from authsvc.cli.failing import Failure, Negative, Unreachable
from authsvc.cli.output import as_json_option, print_json, print_line
from authsvc.common.formats import spelled_resource
from authsvc.common.printable import printable

if TYPE_CHECKING:
    # Verifying takes cryptography.
    from authsvc.cli.explanation_steps import Explanation, Mapped, Step
    from authsvc.diagnosis.credentials import Expected
    from authsvc.server.config import Settings
    from authsvc.tokens.jwt import Issuer

MAX_INPUT_BYTES = 1 << 20
"""How much is read: more than the longest token that can be accepted."""

SHOWN_CHARACTERS = 400

_SCHEME = re.compile(r"^bearer(\s+|$)", re.IGNORECASE)
"""The scheme of a copied Authorization header."""

_WITHOUT_NAME = "(no name)"

_MARKS = {"ok": "ok  ", "fail": "FAIL", "skipped": "  - "}


@click.command(
    epilog="Examples: authsvc explain token.jwt --config authsvc.toml; pbpaste | authsvc explain "
    "--config authsvc.toml --resource https://mcp.example.com/mcp"
)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), default="-")
@config_option
@click.option("--resource", help="The MCP server's resource; optional if only one is configured.")
@click.option("--fetch", is_flag=True, help="Fetch keys from URLs; otherwise nothing is fetched.")
@as_json_option
def command(
    file: Path, config: Path | None, resource: str | None, fetch: bool, as_json: bool
) -> None:
    """Explain why a token would be accepted or rejected, check by check.

    FILE holds the token; - or nothing for standard input. A token is never an argument, because
    other users see arguments in the process list. It is never printed.

    Exit code 0 only if the token would be accepted; 3 if that is not known, because keys were not
    fetched. Only the running service knows whether it was revoked, and whether its session belongs
    to another subject.
    """
    settings = load_settings(config)
    resource = spelled_resource(resource) if resource else _only_resource(settings)
    token = _read(file)
    if _is_introspected(token, settings):
        raise Negative(
            "the token is introspected: only its issuer can verify it ([introspection]). `authsvc "
            "doctor` says whether it lets authsvc ask; `Look at an introspection "
            "answer` in docs/providers.md shows how to ask it about this token"
        )
    with config_errors():
        explanation, failures = asyncio.run(_explained(token, settings, resource, fetch=fetch))
    expected = _expected(explanation, settings, resource)
    if as_json:
        document = _document(explanation, resource)
        credentials = [_credentials(it) for it in expected]
        print_json({**document, "credentials": credentials, "key_failures": failures})
    else:
        _print(explanation, resource)
        _print_expected(expected)
        for issuer, failure in failures.items():
            print_line(printable(f"Keys of {issuer} cannot be fetched: {failure}"))
    if explanation.is_unknown:
        sys.exit(Unreachable.exit_code)
    sys.exit(0 if explanation.principal is not None else 1)


def _expected(explanation: Explanation, settings: Settings, resource: str) -> tuple[Expected, ...]:
    """The credentials that go with the claims; nothing of a token that has none."""
    from authsvc.diagnosis.credentials import expected_credentials

    if explanation.mapped is None:
        return ()
    return expected_credentials(settings.credentials, explanation.mapped.principal, resource)


def _is_introspected(token: str, settings: Settings) -> bool:
    from authsvc.tokens.router import names_no_other_issuer

    asked = settings.introspection
    if asked is None:
        return False
    return token.count(".") != 2 or (
        asked.tokens == "all" and names_no_other_issuer(token, asked.issuer)
    )


async def _explained(
    token: str, settings: Settings, resource: str, *, fetch: bool
) -> tuple[Explanation, dict[str, str]]:
    """The explanation; and why keys cannot be fetched, by issuer: each place of metadata, and what
    it answered."""
    from authsvc.cli.explanation import Policy, explain
    from authsvc.server.issuers import issuer_of

    now = time.time()
    issuers = {item.issuer: issuer_of(item) for item in settings.issuers}
    if fetch:
        await asyncio.gather(*(issuer.keys.refresh(now) for issuer in issuers.values()))
    policy = Policy(
        issuers=issuers,
        resource=resource,
        registered=_resources(settings),
        now=now,
        max_token_bytes=settings.max_token_bytes,
        retention_seconds=settings.revocations.retention_seconds,
        introspected=settings.introspection.issuer if settings.introspection else "",
        registered_in="callers.resources" if settings.callers else "resources",
        unfetched=[] if fetch else [name for name, it in issuers.items() if _is_fetched(it)],
    )
    explanation = await explain(token, policy)
    failures = {name: issuer.keys.failure for name, issuer in issuers.items()}
    return explanation, {name: failure for name, failure in failures.items() if failure}


def _is_fetched(issuer: Issuer) -> bool:
    from authsvc.tokens.sources import FetchedKeys

    return isinstance(issuer.keys, FetchedKeys)


def _resources(settings: Settings) -> list[str]:
    of_callers = (resource for caller in settings.callers for resource in caller.resources)
    return list(dict.fromkeys((*settings.resources, *of_callers)))


def _only_resource(settings: Settings) -> str:
    resources = _resources(settings)
    if len(resources) != 1:
        raise Failure(f"--resource: give one of {', '.join(resources)}")
    return resources[0]


def _read(file: Path) -> str:
    """The token. No part of it enters a message.

    Raises:
        Failure: it cannot be read, or is empty.
    """
    if str(file).count(".") == 2 and str(file).startswith("ey"):
        raise Failure(
            "FILE is the name of a file. If that was a token, other users may have seen it in the "
            "process list: revoke it, and give the next one on standard input"
        )
    if str(file) == "-":
        if sys.stdin.isatty():
            print_line("Paste the token, then press Ctrl-D on an empty line.", err=True)
        data = sys.stdin.buffer.read(MAX_INPUT_BYTES)
    else:
        try:
            with file.open("rb") as opened:
                data = opened.read(MAX_INPUT_BYTES)
        except OSError as error:
            raise Failure(f"{file}: {error.strerror}") from None
    text = data.decode("utf-8", "surrogateescape").strip()
    token = _SCHEME.sub("", text)
    if not token:
        raise Failure("there is no token")
    return token


def _print(explanation: Explanation, resource: str) -> None:
    print_line(f"For {resource}:")
    width = max(len(step.name) for step in explanation.steps)
    for step in explanation.steps:
        mark = _MARKS[step.outcome]
        text = printable(step.text)[:SHOWN_CHARACTERS]
        reason = f"{step.reason.name}: " if step.reason is not None else ""
        click.echo(f"  {_coloured(mark, step)} {step.name.ljust(width)}  {reason}{text}")
    if explanation.mapped is not None:
        _print_mapped(explanation.mapped)
    if explanation.principal is not None:
        print_line(f"It would be accepted, for {explanation.principal.subject}.")
    elif explanation.reason is not None:
        print_line(f"It would be rejected: {explanation.reason.name}. {explanation.reason.message}")
        print_line(_remedy(explanation))
        if explanation.setting:
            print_line(printable(f"Setting: {explanation.setting}"))
    else:
        print_line(
            "It is not known whether it would be accepted: the issuer's keys were not fetched, and "
            "no other check fails. --fetch fetches them, and checks the signature."
        )


def _print_expected(expected: tuple[Expected, ...]) -> None:
    if not expected:
        return
    print_line("Its credentials would come from, as far as authsvc decides (nothing is requested):")
    width = max(len(it.name or _WITHOUT_NAME) for it in expected)
    for it in expected:
        issuance = "" if it.issuance == "issued" else f"{it.issuance.replace('_', ' ')}: "
        table = f"{it.table}: " if it.table else ""
        text = printable(f"{issuance}{table}{it.text}")[:SHOWN_CHARACTERS]
        print_line(f"  {(it.name or _WITHOUT_NAME).ljust(width)}  {text}")


def _credentials(expected: Expected) -> dict[str, object]:
    return {
        "name": expected.name,
        "issuance": str(expected.issuance),
        "table": expected.table or None,
        "text": printable(expected.text)[:SHOWN_CHARACTERS],
    }


def _print_mapped(mapped: Mapped) -> None:
    print_line("Its claims describe:")
    for name, value, claims in mapped.parts():
        if value is None and name != "session":  # no actor, as most tokens
            continue
        text = _part_text(value) if value is not None else ""
        shown = printable(text)[:SHOWN_CHARACTERS] or "none"
        origin = f"  (claim {' and '.join(claims)})" if claims else ""
        print_line(f"  {name.ljust(11)}  {shown}{origin}")


def _part_text(value: object) -> str:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _coloured(mark: str, step: Step) -> str:
    colours = {"ok": "green", "fail": "red", "skipped": None}
    return click.style(mark, fg=colours[step.outcome])


def _remedy(explanation: Explanation) -> str:
    from authsvc.cli.remedies import remedy_of

    return "" if explanation.reason is None else remedy_of(explanation.reason, explanation.setting)


def _document(explanation: Explanation, resource: str) -> dict[str, object]:
    who, reason = explanation.principal, explanation.reason
    return {
        "accepted": None if explanation.is_unknown else who is not None,
        "reason": None if reason is None else reason.name,
        "remedy": _remedy(explanation) or None,
        "setting": explanation.setting or None,
        "resource": resource,
        "subject": None if who is None else who.subject,
        "issuer": None if who is None else who.issuer,
        "principal": None
        if explanation.mapped is None
        else {
            name: {"value": value, "claims": list(claims)}
            for name, value, claims in explanation.mapped.parts()
        },
        "checks": [
            {
                "name": step.name,
                "outcome": str(step.outcome),
                "reason": None if step.reason is None else step.reason.name,
                "text": printable(step.text)[:SHOWN_CHARACTERS],
                "setting": step.setting or None,
            }
            for step in explanation.steps
        ],
    }
