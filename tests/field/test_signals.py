"""Signals as the specifications show them and as providers send them: which tokens they end, and
which stay valid. No signal is an access token, and no other token is a signal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from authsvc.assertions.claims import claims_of
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Principal, Session, SessionState
from authsvc.domain.revocation import NotBefores, not_before_keys
from authsvc.domain.tokens import BearerToken, VerifiedToken
from authsvc.signals.errors import SignalError
from authsvc.signals.observing import SignalResult
from authsvc.tokens.audiences import Audiences
from authsvc.tokens.jwt import Issuer, JwtVerifier
from tests.authsvc.signals.desk import Desk
from tests.support.clock import START, Clock
from tests.support.signals import CAEP, CLIENT, LOGOUT_EVENT, RECEIVER, RISC, Sender
from tests.support.tokens import RESOURCE

pytestmark = pytest.mark.anyio

OIDC = "https://server.example.com"
OKTA = "https://org.okta.com"
OKTA_API = "https://org.okta.com/oauth2/default"
KEYCLOAK = "https://sso.example.com/realms/acme"
GOOGLE = "https://accounts.google.com/"
GOOGLE_TOKENS = "https://accounts.google.com"
SSF = "https://schemas.openid.net/secevent/ssf/event-type/"
OAUTH = "https://schemas.openid.net/secevent/oauth/event-type/"
MILLISECONDS = int(START * 1_000) - 168_000


@dataclass(frozen=True)
class Case:
    """A signal of a provider.

    Attributes:
        issuer: whose.
        typ: header ``typ``.
        claims: of the signal, beside ``iss``, ``iat`` and ``jti``.
        ends: tokens that it ends: issuer, subject and provider session, which may be empty.
        leaves: tokens that stay valid.
        stream: settings of its stream.
        result: of its first event.
    """

    issuer: str
    typ: str | None
    claims: dict[str, object]
    ends: list[tuple[str, str, str]]
    leaves: list[tuple[str, str, str]]
    stream: dict[str, Any] = field(default_factory=dict)
    result: SignalResult = SignalResult.REVOKED

    @property
    def is_logout(self) -> bool:
        events = self.claims["events"]
        return isinstance(events, dict) and LOGOUT_EVENT in events


def caep(name: str, **members: object) -> dict[str, object]:
    return {f"{CAEP}{name}": members}


def risc(name: str, **members: object) -> dict[str, object]:
    return {f"{RISC}{name}": members}


def iss_sub(issuer: str, subject: str) -> dict[str, object]:
    return {"format": "iss_sub", "iss": issuer, "sub": subject}


def opaque(value: str) -> dict[str, object]:
    return {"format": "opaque", "id": value}


KEYCLOAK_LOGOUT: dict[str, object] = {
    "aud": CLIENT,
    "sub": "f:8f1",
    "typ": "Logout",
    "sid": "5d8fe2c9",
    "events": {LOGOUT_EVENT: {}, "revoke_offline_access": True},
}
OKTA_SESSION: dict[str, object] = {
    "aud": RECEIVER,
    "events": caep(
        "session-revoked",
        subject={"user": iss_sub(OKTA, "00u1")},
        reason_admin={"en": "Policy Violation: C076E822"},
        event_timestamp=MILLISECONDS,
    ),
}
AUTHENTIK_SESSION: dict[str, object] = {
    "aud": RECEIVER,
    "events": caep(
        "session-revoked",
        subject={
            "session": opaque("9f86d081"),
            "user": {"format": "email", "email": "a@x.example"},
        },
        initiating_entity="user",
    ),
}
GOOGLE_SUBJECT = {"subject_type": "iss-sub", "iss": GOOGLE, "sub": "7375626A656374"}
FROM_GOOGLE: dict[str, Any] = {"applies_to": (GOOGLE_TOKENS,), "accepted_types": ("none", "JWT")}

CASES = {
    "OIDC Back-Channel Logout 1.0 section 2.4": Case(
        OIDC,
        "logout+jwt",
        {
            "sub": "248289761001",
            "aud": CLIENT,
            "exp": START + 120,
            "sid": "08a5019c-17e1-4977-8f42-65a12843ea02",
            "events": {LOGOUT_EVENT: {}},
        },
        ends=[
            (OIDC, "248289761001", "08a5019c-17e1-4977-8f42-65a12843ea02"),
            (OIDC, "248289761001", ""),
        ],
        leaves=[(OIDC, "248289761001", "other"), (OIDC, "bob", ""), (OIDC, "bob", "other")],
    ),
    "Keycloak, offline sessions too": Case(
        KEYCLOAK,
        "JWT",
        {**KEYCLOAK_LOGOUT, "exp": START + 120},
        ends=[(KEYCLOAK, "f:8f1", "5d8fe2c9"), (KEYCLOAK, "f:8f1", "")],
        leaves=[(KEYCLOAK, "f:8f1", "a second browser's")],
    ),
    "Keycloak of before, without exp": Case(
        KEYCLOAK,
        "JWT",
        KEYCLOAK_LOGOUT,
        ends=[(KEYCLOAK, "f:8f1", "5d8fe2c9"), (KEYCLOAK, "f:8f1", "")],
        leaves=[(KEYCLOAK, "f:8f1", "a second browser's")],
    ),
    "Keycloak, session not required": Case(
        KEYCLOAK,
        "JWT",
        {**KEYCLOAK_LOGOUT, "sid": None},
        ends=[(KEYCLOAK, "f:8f1", "5d8fe2c9"), (KEYCLOAK, "f:8f1", "")],
        leaves=[(KEYCLOAK, "bob", "5d8fe2c9")],
    ),
    "Auth0": Case(
        "https://acme.eu.auth0.com/",
        "logout+jwt",
        {
            "sub": "auth0|602c0dcab993d10073daf680",
            "aud": CLIENT,
            "exp": START + 120,
            "sid": "375UI-Q4J",
            "events": {LOGOUT_EVENT: {}},
        },
        # Its access tokens have no sid.
        ends=[("https://acme.eu.auth0.com/", "auth0|602c0dcab993d10073daf680", "")],
        leaves=[("https://acme.eu.auth0.com/", "auth0|other", "")],
    ),
    "a provider that names the session alone": Case(
        OIDC,
        None,
        {"aud": [CLIENT], "sid": "s1", "exp": START + 120, "events": {LOGOUT_EVENT: {}}},
        ends=[(OIDC, "alice", "s1")],
        leaves=[(OIDC, "alice", ""), (OIDC, "alice", "s2")],
    ),
    "CAEP 1.0 section 3.1: complex": Case(
        OIDC,
        "secevent+jwt",
        {
            "aud": RECEIVER,
            "txn": "8675309",
            "sub_id": {
                "format": "complex",
                "session": opaque("dMTlD|1600802906337.16|16008.16"),
                "user": iss_sub(OIDC, "99beb27c-c1c2-4955-882a-e0dc4996fcbc"),
                "tenant": opaque("123456789"),
            },
            "events": caep(
                "session-revoked",
                initiating_entity="policy",
                reason_admin={"en": "Landspeed Policy Violation: C076E82F"},
                event_timestamp=int(START) - 168,
            ),
        },
        ends=[
            (OIDC, "99beb27c-c1c2-4955-882a-e0dc4996fcbc", "dMTlD|1600802906337.16|16008.16"),
            (OIDC, "99beb27c-c1c2-4955-882a-e0dc4996fcbc", ""),
        ],
        leaves=[(OIDC, "99beb27c-c1c2-4955-882a-e0dc4996fcbc", "another"), (OIDC, "bob", "")],
    ),
    "CAEP 1.0 section 3.1: opaque": Case(
        OIDC,
        "secevent+jwt",
        {
            "aud": RECEIVER,
            "sub_id": opaque("dMTlD|1600802906337.16|16008.16"),
            "events": caep("session-revoked", event_timestamp=int(START)),
        },
        ends=[],
        leaves=[(OIDC, "alice", ""), (OIDC, "dMTlD|1600802906337.16|16008.16", "")],
        result=SignalResult.UNKNOWN_SUBJECT,
    ),
    "CAEP 1.0 section 3.3": Case(
        OIDC,
        "secevent+jwt",
        {
            "aud": [RECEIVER],
            "sub_id": iss_sub(OIDC, "jane"),
            "events": caep(
                "credential-change",
                credential_type="fido2-roaming",
                change_type="create",
                event_timestamp=int(START) - 168,
            ),
        },
        ends=[(OIDC, "jane", ""), (OIDC, "jane", "s1")],
        leaves=[(OIDC, "janet", "")],
    ),
    "CAEP 1.0 section 3.2, by a token's jti": Case(
        OIDC,
        "secevent+jwt",
        {
            "aud": RECEIVER,
            "sub_id": {"format": "jwt_id", "iss": OIDC, "jti": "of alice"},
            "events": caep("token-claims-change", claims={"role": "ro-admin"}),
        },
        ends=[(OIDC, "alice", "")],
        leaves=[(OIDC, "bob", "")],
    ),
    "CAEP 1.0 section 3.5: a device": Case(
        OIDC,
        "secevent+jwt",
        {
            "aud": RECEIVER,
            "sub_id": {"format": "complex", "device": iss_sub(OIDC, "e9297990")},
            "events": caep("device-compliance-change", current_status="not-compliant"),
        },
        ends=[],
        leaves=[(OIDC, "e9297990", "")],
        result=SignalResult.NONE,
    ),
    "SSF 1.0 section 3: aliases": Case(
        OIDC,
        "secevent+jwt",
        {
            "aud": RECEIVER,
            "sub_id": {
                "format": "aliases",
                "identifiers": [
                    {"format": "email", "email": "alice@example.com"},
                    iss_sub(OIDC, "alice"),
                    {"format": "phone_number", "phone_number": "+12065550100"},
                ],
            },
            "events": risc("account-disabled", reason="hijacking"),
        },
        ends=[(OIDC, "alice", "")],
        leaves=[(OIDC, "alice@example.com", "")],
    ),
    "RISC 1.0: an e-mail address": Case(
        OIDC,
        "secevent+jwt",
        {
            "aud": RECEIVER,
            "sub_id": {"format": "email", "email": "alice@example.com"},
            "events": risc("identifier-recycled"),
        },
        ends=[],
        leaves=[(OIDC, "alice@example.com", ""), (OIDC, "alice", "")],
        result=SignalResult.UNKNOWN_SUBJECT,
    ),
    "RISC 1.0: an e-mail address that is the subject of tokens": Case(
        OIDC,
        "secevent+jwt",
        {
            "aud": RECEIVER,
            "sub_id": {"format": "email", "email": "alice@example.com"},
            "events": risc("identifier-recycled"),
        },
        ends=[(OIDC, "alice@example.com", "")],
        leaves=[(OIDC, "alice", "")],
        stream={"subject_formats": ("email",)},
    ),
    "SSF 1.0 section 8.1.4.1": Case(
        OIDC,
        "secevent+jwt",
        {
            "aud": RECEIVER,
            "sub_id": opaque("f67e39a0a4d34d56b3aa1bc4cff0069f"),
            "events": {f"{SSF}verification": {"state": "VGhpcyBpcyBhbiBleGFtcGxl"}},
        },
        ends=[],
        leaves=[(OIDC, "alice", "")],
        result=SignalResult.NONE,
    ),
    "Okta, access tokens of an authorization server": Case(
        OKTA,
        "secevent+jwt",
        OKTA_SESSION,
        ends=[(OKTA_API, "00u1", ""), (OKTA_API, "00u1", "s1")],
        leaves=[(OKTA_API, "00u2", ""), (OKTA, "00u1", "")],
        stream={"applies_to": (OKTA_API,)},
    ),
    "Okta, access tokens of both": Case(
        OKTA,
        "secevent+jwt",
        OKTA_SESSION,
        ends=[(OKTA_API, "00u1", ""), (OKTA, "00u1", "")],
        leaves=[(OKTA_API, "00u2", ""), (OKTA, "00u2", "")],
        stream={"applies_to": (OKTA, OKTA_API)},
    ),
    "Okta, a credential": Case(
        OKTA,
        "secevent+jwt",
        {
            "aud": RECEIVER,
            "events": caep(
                "credential-change",
                subject=iss_sub(OKTA, "00u1"),
                credential_type="password",
                change_type="revoke",
                event_timestamp=MILLISECONDS,
            ),
        },
        ends=[(OKTA, "00u1", "")],
        leaves=[(OKTA, "00u2", "")],
    ),
    "authentik": Case(
        OIDC,
        "secevent+jwt",
        AUTHENTIK_SESSION,
        ends=[(OIDC, "hashed id", "9f86d081")],
        leaves=[(OIDC, "hashed id", "another"), (OIDC, "hashed id", "")],
    ),
    "authentik, whose tokens' subject is the e-mail address": Case(
        OIDC,
        "secevent+jwt",
        AUTHENTIK_SESSION,
        ends=[(OIDC, "a@x.example", "9f86d081"), (OIDC, "a@x.example", "")],
        leaves=[(OIDC, "a@x.example", "another")],
        stream={"subject_formats": ("email",)},
    ),
    "Google": Case(
        GOOGLE,
        "JWT",
        {"aud": RECEIVER, "events": risc("account-disabled", subject=GOOGLE_SUBJECT)},
        ends=[(GOOGLE_TOKENS, "7375626A656374", "")],
        leaves=[(GOOGLE_TOKENS, "other", "")],
        stream=FROM_GOOGLE,
    ),
    "Google, all tokens": Case(
        GOOGLE,
        None,
        {
            "aud": [CLIENT, "another-client"],
            "events": {
                f"{OAUTH}tokens-revoked": {
                    "subject": {**GOOGLE_SUBJECT, "subject_type": "id_token_claims"}
                }
            },
        },
        ends=[(GOOGLE_TOKENS, "7375626A656374", "")],
        leaves=[(GOOGLE_TOKENS, "other", "")],
        stream=FROM_GOOGLE,
    ),
    "Google, one refresh token by its hash": Case(
        GOOGLE,
        "JWT",
        {
            "aud": CLIENT,
            "events": {
                f"{OAUTH}token-revoked": {
                    "subject": {
                        "subject_type": "oauth_token",
                        "token_type": "refresh_token",
                        "token_identifier_alg": "hash_base64_sha512_sha512",
                        "token": "x",
                    }
                }
            },
        },
        ends=[],
        leaves=[(GOOGLE_TOKENS, "7375626A656374", "")],
        stream=FROM_GOOGLE,
        result=SignalResult.NONE,
    ),
    "a stream that names another issuer's user": Case(
        OIDC,
        "secevent+jwt",
        {
            "aud": RECEIVER,
            "sub_id": iss_sub(OKTA, "00u1"),
            "events": caep("session-revoked"),
        },
        ends=[],
        leaves=[(OKTA, "00u1", ""), (OIDC, "00u1", "")],
        result=SignalResult.UNKNOWN_SUBJECT,
    ),
    "a vendor that watches another issuer's users": Case(
        "https://xdr.example",
        "secevent+jwt",
        {
            "aud": RECEIVER,
            "sub_id": iss_sub(OKTA, "00u1"),
            "events": caep("session-revoked"),
        },
        ends=[(OKTA, "00u1", "")],
        leaves=[(OIDC, "00u1", ""), (OKTA, "00u2", "")],
        stream={"applies_to": (OKTA, OIDC)},
    ),
}

by_name = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


def sent(case: Case, sender: Sender) -> str:
    return sender.signed({"typ": case.typ}, case.claims)


async def access_token(sender: Sender, issuer: str, subject: str, sid: str) -> VerifiedToken:
    """A token of an issuer, as it is verified at each request."""
    claims = {
        "iss": issuer,
        "sub": subject,
        "aud": RESOURCE,
        "exp": START + 600,
        "jti": f"of {subject}",
        **({"sid": sid} if sid else {}),
    }
    verifier = JwtVerifier([Issuer(issuer, sender.keys)])
    token = BearerToken(sender.signed({"typ": "at+jwt"}, claims))
    return await verifier.verify(token, resource=RESOURCE, now=START)


async def not_befores(desk: Desk, token: VerifiedToken) -> NotBefores:
    return await desk.store.get_not_befores(not_before_keys(token))


@by_name
async def test_which_tokens_a_signal_ends(case: Case, clock: Clock) -> None:
    sender = Sender(case.issuer)
    desk = Desk(clock, sender.stream(**case.stream))
    receive = desk.receive_logout if case.is_logout else desk.receive_set
    assert await receive(sent(case, sender)) == [case.result]
    for tokens, is_ended in ((case.ends, True), (case.leaves, False)):
        for issuer, subject, sid in tokens:
            token = await access_token(sender, issuer, subject, sid)
            found = await not_befores(desk, token)
            assert found.reject(token) is is_ended, (issuer, subject, sid)


@by_name
async def test_the_other_endpoint_takes_none(case: Case, clock: Clock) -> None:
    sender = Sender(case.issuer)
    lax = {**case.stream, "accepted_types": ("none", "JWT", "secevent+jwt", "logout+jwt")}
    desk = Desk(clock, sender.stream(**lax))
    receive = desk.receive_set if case.is_logout else desk.receive_logout
    with pytest.raises(SignalError) as caught:
        await receive(sent(case, sender))
    assert caught.value.code == "invalid_request"
    assert desk.store.not_befores == []


TYPES = ("", "JWT", "at+jwt", "secevent+jwt", "logout+jwt")


@by_name
@pytest.mark.parametrize("types", [(), TYPES], ids=["usual", "lax"])
@pytest.mark.parametrize("typ", [None, "JWT", "at+jwt"])
async def test_no_signal_is_an_access_token(
    case: Case, types: tuple[str, ...], typ: str | None
) -> None:
    """Not with the claims of one, either, nor under the header of one."""
    sender = Sender(case.issuer)
    issuer = Issuer(
        case.issuer,
        sender.keys,
        token_types=types,
        audiences=Audiences({RESOURCE: [RECEIVER, CLIENT]}),
    )
    lure = {"sub": "alice", "exp": START + 600, **case.claims}
    for header, claims in ((case.typ, case.claims), (typ, lure), (case.typ, lure)):
        text = sender.signed({"typ": header}, claims)
        with pytest.raises(AuthError) as caught:
            await JwtVerifier([issuer]).verify(BearerToken(text), resource=RESOURCE, now=START)
        reasons = {Reason.TOKEN_MALFORMED}
        if claims is case.claims:
            reasons.add(Reason.TOKEN_CLAIM_MISSING)
        assert caught.value.reason in reasons


PRINCIPAL = Principal(OIDC, "alice", START + 600, client_id=CLIENT)
SESSION = Session("session", SessionState.AUTHENTICATED, 1, START, START + 600)
ASSERTION = claims_of(
    PRINCIPAL, SESSION, issuer=OIDC, resource=RECEIVER, now=START, lifetime_seconds=60
)
ID_TOKEN = {"aud": CLIENT, "sub": "alice", "exp": START + 600, "nonce": "n", "sid": "s1"}
ACCESS_TOKEN = {"aud": RECEIVER, "sub": "alice", "exp": START + 600, "scope": "read"}


@pytest.mark.parametrize(
    "claims", [ASSERTION, ID_TOKEN, ACCESS_TOKEN], ids=["assertion", "ID token", "access token"]
)
@pytest.mark.parametrize("typ", [None, "JWT", "at+jwt", "authsvc+jwt", "secevent+jwt"])
async def test_no_other_token_is_a_signal(
    claims: dict[str, object], typ: str | None, clock: Clock
) -> None:
    sender = Sender(OIDC)
    desk = Desk(clock, sender.stream(accepted_types=("none", "JWT", "at+jwt", "secevent+jwt")))
    for receive in (desk.receive_set, desk.receive_logout):
        with pytest.raises(SignalError) as caught:
            await receive(sender.signed({"typ": typ}, claims))
        assert caught.value.code == "invalid_request"
    assert desk.store.not_befores == []


async def test_apples_notifications_are_no_security_event_tokens(clock: Clock) -> None:
    """Their claim ``events`` is JSON in a string, and names no event of a specification."""
    sender = Sender("https://appleid.apple.com")
    desk = Desk(clock, sender.stream(accepted_types=("none", "JWT")))
    events = '{"type":"consent-revoked","sub":"001","event_time":1800000000000}'
    text = sender.signed({"typ": None}, {"aud": RECEIVER, "events": events})
    with pytest.raises(SignalError, match="Claim events is not an object"):
        await desk.receive_set(text)
