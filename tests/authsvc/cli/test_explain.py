"""``authsvc explain``: of one mind with the verifier, and silent about the token."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.cli import main
from authsvc.cli.explanation import Policy, explain
from authsvc.cli.explanation_steps import Explanation, StepOutcome
from authsvc.cli.remedies import REMEDIES
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.provider_session import session_digest
from authsvc.domain.tokens import BearerToken
from authsvc.tokens.audiences import Audiences
from authsvc.tokens.claim_paths import ClaimPath
from authsvc.tokens.claims import ClaimMapping
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeySet, VerificationKey
from authsvc.tokens.sources import FetchedKeys
from tests.support.clock import START
from tests.support.commands import run_on_terminal
from tests.support.keys import signer
from tests.support.tokens import ISSUER, OTHER_RESOURCE, RESOURCE, IdentityProvider

SECRET = b"s" * 32
MAX_TOKEN_BYTES = 2_000
SIGNERS = [signer("k1"), signer("k2")]
PUBLIC = [VerificationKey(it.kid, "ES256", it.key.public_key()) for it in SIGNERS]


async def _never() -> Any:  # noqa: ANN401 - it does not return
    raise AssertionError("nobody asked for a fetch")


ISSUERS = {
    it.issuer: it
    for it in (
        Issuer(
            ISSUER,
            KeySet((VerificationKey(None, "HS256", SECRET),)),
            required_claims=("exp", "iat", "aud"),
        ),
        Issuer(
            "https://es.example",
            KeySet(tuple(PUBLIC)),
            mapping=ClaimMapping.of("quilt", subject=(ClaimPath("id"),)),
            required_claims=("sub",),
            token_types=("at+jwt",),
            audiences=Audiences({RESOURCE: ("api", "other")}),
        ),
        Issuer(
            "https://away.example", FetchedKeys("https://away.example", _never, max_stale_seconds=1)
        ),
    )
}

texts = st.sampled_from(["", "a", "é", "s3://x", "\x1b[31m", "1", "api", RESOURCE, "x" * 300])
values = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-10, 10**12),
    texts,
    st.lists(texts, max_size=3),
    st.dictionaries(texts, texts, max_size=2),
)
times = st.one_of(
    values, st.integers(-100, 100).map(lambda it: START + it), st.just(START - 400 * 86_400)
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "iss": st.one_of(st.sampled_from([*ISSUERS, f"{ISSUER}/"]), values),
        "aud": st.one_of(
            st.sampled_from([RESOURCE, OTHER_RESOURCE, "api", [RESOURCE], ["x", "api"], [1]]),
            values,
        ),
        "exp": times,
        "iat": times,
        "nbf": times,
        "sub": values,
        "id": values,
        "jti": values,
        "sid": values,
        "roles": values,
        "scope": values,
        "scp": values,
        "buckets": values,
        "b": values,
        "p": values,
        "client_id": values,
        "act": st.one_of(values, st.dictionaries(st.sampled_from(["sub", "iss", "act"]), values)),
    },
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "kid": st.one_of(st.sampled_from(["k1", "k2", "K1"]), values),
        "typ": st.sampled_from(["JWT", "at+jwt", "application/at+jwt", "logout+jwt", None, 1]),
        "alg": st.sampled_from(["none", "HS256", "ES256", "RS256", 7]),
        "crit": st.just(["x"]),
        "zip": st.just("DEF"),
        "cty": st.just("JWT"),
    },
)
Damage = tuple[str, int, str]
damages: st.SearchStrategy[Damage | None] = st.one_of(
    st.none(),
    st.tuples(
        st.sampled_from(["replace", "insert", "cut"]),
        st.integers(0, 400),
        st.sampled_from(["A", "=", ".", "-", " ", "\n", "é", "\ud800"]),
    ),
)


def minted(claims: Mapping[str, object], header: Mapping[str, object], key: str) -> str:
    """A token with claims and header members as given; those of None are left out."""
    payload = {
        "iss": ISSUER,
        "sub": "ada",
        "id": "ada",
        "aud": RESOURCE,
        "iat": START - 10,
        "exp": START + 600,
        **claims,
    }
    payload = {name: value for name, value in payload.items() if value is not None}
    algorithm = "HS256" if key == "secret" else "ES256"
    signing: Any = SECRET if key == "secret" else next(it.key for it in SIGNERS if it.kid == key)
    parts = [jwt.utils.base64url_encode(json.dumps(it).encode()).decode()
             for it in ({"alg": algorithm, **header}, payload)]  # fmt: skip
    signed = ".".join(parts)
    signature = jwt.get_algorithm_by_name(algorithm).sign(signed.encode(), signing)
    return f"{signed}.{jwt.utils.base64url_encode(signature).decode()}"


def damaged(token: str, damage: Damage | None) -> str:
    if damage is None:
        return token
    kind, where, character = damage
    if kind == "cut":
        return token[:where]
    return token[:where] + character + token[where + (kind == "replace") :]


def explained(
    token: str, now: float = START, retention_seconds: float = float("inf")
) -> Explanation:
    policy = Policy(ISSUERS, RESOURCE, [RESOURCE], now, MAX_TOKEN_BYTES, retention_seconds)
    return asyncio.run(explain(token, policy))


def verdict(token: str, now: float = START) -> Reason | None:
    """The real verifier's."""
    verifier = JwtVerifier(ISSUERS.values(), max_token_bytes=MAX_TOKEN_BYTES)
    try:
        asyncio.run(verifier.verify(BearerToken(token), resource=RESOURCE, now=now))
    except AuthError as error:
        return error.reason
    return None


@settings(max_examples=500)
@given(changes, headers, st.sampled_from(["secret", "k1", "k2"]), damages)
def test_it_agrees_with_the_verifier(
    claims: dict[str, object], header: dict[str, object], key: str, damage: Damage | None
) -> None:
    token = damaged(minted(claims, header, key), damage)
    explanation = explained(token)
    assert explanation.reason is verdict(token)
    assert (explanation.principal is None) is (explanation.reason is not None)
    if explanation.reason is not None:
        assert explanation.reason in REMEDIES


@settings(max_examples=300)
@given(changes, st.sampled_from(["k1", "k2"]))
def test_it_agrees_with_the_verifier_on_validly_signed_tokens(
    claims: dict[str, object], key: str
) -> None:
    whose = {"iss": "https://es.example", "aud": "api"}
    token = minted({**whose, **claims}, {"kid": key, "typ": "at+jwt"}, key)
    assert explained(token).reason is verdict(token)


@pytest.mark.parametrize("offset", [-30.1, -30, -29.9, 0, 599, 629.9, 630, 631])
def test_leeway_counts_as_in_the_verifier(offset: float) -> None:
    token = minted({"iat": START, "nbf": START}, {}, "secret")
    assert explained(token, START + offset).reason is verdict(token, START + offset)


def test_all_failures_are_shown_and_the_first_is_the_verdict() -> None:
    token = minted({"exp": START - 100, "aud": OTHER_RESOURCE}, {}, "secret")
    explanation = explained(token)
    failed = [(it.name, it.reason) for it in explanation.steps if it.outcome is StepOutcome.FAIL]
    assert failed == [
        ("lifetime", Reason.TOKEN_EXPIRED),
        ("aud", Reason.TOKEN_AUDIENCE_MISMATCH),
    ]
    assert explanation.reason is Reason.TOKEN_EXPIRED
    assert "1 min 40 s ago" in next(it.text for it in explanation.steps if it.name == "lifetime")


def test_a_token_older_than_revocations_is_rejected_as_by_the_resolver() -> None:
    token = minted({"iat": START - 1_000}, {}, "secret")
    assert explained(token, retention_seconds=999).reason is Reason.TOKEN_EXPIRED
    assert explained(token, retention_seconds=1_001).reason is None


# The command


@pytest.fixture
def provider() -> IdentityProvider:
    return IdentityProvider(time.time)


@pytest.fixture
def config(tmp_path: Path, provider: IdentityProvider) -> Path:
    path = tmp_path / "authsvc.toml"
    path.write_text(
        f'resources = ["{RESOURCE}"]\n[[issuers]]\nissuer = "{ISSUER}"\nalgorithms = ["HS256"]\n'
        f'secret_file = "{provider.write_secret(tmp_path)}"\n'
    )
    return path


def invoked(config: Path, *arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(
        main, ["explain", "--config", str(config), *arguments], input=given, color=True
    )


def test_a_valid_token_from_a_file_and_from_standard_input(
    config: Path, provider: IdentityProvider, tmp_path: Path
) -> None:
    token = provider.token("ada")
    (tmp_path / "token").write_text(f"{token}\n")
    for ran in (
        invoked(config, str(tmp_path / "token")),
        invoked(config, given=f"Bearer {token}\n"),
        invoked(config, "-", "--resource", RESOURCE, given=token),
    ):
        assert ran.exit_code == 0
        assert "It would be accepted, for ada." in ran.output
        assert "fail" not in ran.output.lower()


def test_an_actor_is_shown_where_there_is_one(config: Path, provider: IdentityProvider) -> None:
    act = {"sub": "agent", "act": {"sub": "first\x1b"}}
    alone = invoked(config, given=provider.token("ada"))
    assert "actor" not in alone.output
    ran = invoked(config, given=provider.token("ada", act={"sub": "agent", "act": {"sub": "é"}}))
    assert ran.exit_code == 0
    assert 'actor        {"sub": "agent", "act": {"sub": "é"}}  (claim act)' in ran.output
    shown = json.loads(invoked(config, "--json", given=provider.token("ada")).output)
    assert shown["principal"]["actor"] == {"value": None, "claims": []}
    shown = json.loads(
        invoked(config, "--json", given=provider.token("ada", act={"sub": "agent"})).output
    )
    assert shown["principal"]["actor"] == {"value": {"sub": "agent"}, "claims": ["act"]}
    ran = invoked(config, given=provider.token("ada", act=act))
    assert ran.exit_code == 1
    assert "claim /act/act/sub has characters that cannot be printed" in ran.output
    assert "Setting: issuers[https://idp.example].claims.actor" in ran.output


def test_a_rejected_token_shows_reason_and_remedy(config: Path, provider: IdentityProvider) -> None:
    ran = invoked(config, given=provider.token(ttl_seconds=-100))
    assert ran.exit_code == 1
    assert "It would be rejected: TOKEN_EXPIRED." in ran.output
    assert REMEDIES[Reason.TOKEN_EXPIRED] in ran.output
    answer = json.loads(invoked(config, "--json", given="x").output)
    assert (answer["accepted"], answer["reason"]) == (False, "TOKEN_MALFORMED")
    assert answer["remedy"] == REMEDIES[Reason.TOKEN_MALFORMED]
    assert [it["name"] for it in answer["checks"]][:4] == ["resource", "size", "format", "payload"]


@pytest.mark.parametrize("arguments", [(), ("--json",)])
@pytest.mark.parametrize("ttl_seconds", [600, -600])
def test_the_token_is_never_printed(
    config: Path, provider: IdentityProvider, arguments: tuple[str, ...], ttl_seconds: float
) -> None:
    token = provider.token(ttl_seconds=ttl_seconds)
    output = invoked(config, *arguments, given=token).output
    for part in token.split("."):
        assert part not in output
        assert part[:16] not in output


def test_the_tables_of_its_credentials(config: Path, provider: IdentityProvider) -> None:
    token = provider.token("ada", roles=["reader"])
    assert "credentials would come" not in invoked(config, given=token).output
    assert json.loads(invoked(config, "--json", given=token).output)["credentials"] == []
    table = f'resources = ["{RESOURCE}"]\naccess_key_id = "AKIA"\nsecret_access_key_file = "s"\n'
    with config.open("a") as file:
        for more in (
            'role = "admin"',
            'role = "reader"',
            'role = "admin"\nname = "api"',
            'role = "reader"\nname = "logs"\nfor_scopes = ["logs"]',
        ):
            file.write(f"[[credentials.static]]\n{more}\n{table}")
    shown = json.loads(invoked(config, "--json", given=token).output)["credentials"]
    assert [(it["name"], it["table"]) for it in shown] == [
        ("", "credentials.static[1]"),
        ("api", None),
        ("logs", None),
    ]
    output = invoked(config, given=token).output
    assert "  (no name)  credentials.static[1]: the access key of role reader\n" in output
    assert "  api        none: credentials.static[2]: the token lacks role admin\n" in output
    # Nothing of a token that cannot be read.
    assert "credentials would come" not in invoked(config, given="x").output


def test_a_token_is_no_argument(config: Path, provider: IdentityProvider) -> None:
    token = provider.token()
    ran = invoked(config, token)
    assert ran.exit_code == 2
    assert "standard input" in ran.output
    assert token[:16] not in ran.output


@pytest.mark.parametrize("resource", ["mcp.example/mcp", OTHER_RESOURCE])
def test_an_unregistered_resource(config: Path, provider: IdentityProvider, resource: str) -> None:
    ran = invoked(config, "--resource", resource, given=provider.token(aud=resource))
    assert ran.exit_code == 1
    assert "RESOURCE_INVALID" in ran.output or "CALLER_NOT_ALLOWED" in ran.output


def test_keys_that_would_have_to_be_fetched_are_not(config: Path) -> None:
    config.write_text(
        config.read_text().partition("[[")[0]
        + f'[[issuers]]\nissuer = "{ISSUER}"\nalgorithms = ["ES256"]\n'
        'jwks_url = "http://127.0.0.1:1/keys"\n'
    )
    token = SIGNERS[0].token(time.time())
    ran = invoked(config, given=token)
    assert ran.exit_code == 3
    assert "It is not known whether it would be accepted" in ran.output
    assert "--fetch" in ran.output
    assert "rejected" not in ran.output
    answer = json.loads(invoked(config, "--json", given=token).output)
    assert (answer["accepted"], answer["reason"], answer["remedy"]) == (None, None, None)
    # What fails whatever its signature is a rejection.
    ran = invoked(config, given=SIGNERS[0].token(time.time(), aud=OTHER_RESOURCE))
    assert ran.exit_code == 1
    assert "It would be rejected: TOKEN_AUDIENCE_MISMATCH" in ran.output
    ran = invoked(config, "--fetch", given=token)
    assert ran.exit_code == 1
    assert "It would be rejected: KEYS_UNAVAILABLE" in ran.output
    assert "explain --fetch" not in ran.output


@pytest.mark.parametrize(
    ("claims", "remedy"),
    [
        ({"iss": f"{ISSUER}/"}, "Do not add a table"),
        ({"iss": "https://another.example"}, "add an [[issuers]] table"),
        ({"iss": "https://opaque.example"}, 'set tokens = "all" in [introspection]'),
        ({"iss": None}, "have the issuer include iss"),
    ],
)
def test_the_remedy_for_an_unknown_issuer_fits_its_cause(
    config: Path, claims: dict[str, object], remedy: str
) -> None:
    introspect(config, "opaque")
    token = minted({"iat": time.time(), "exp": time.time() + 600, **claims}, {}, "secret")
    answer = json.loads(invoked(config, "--json", given=token).output)
    assert answer["reason"] == "TOKEN_ISSUER_UNKNOWN"
    assert remedy.lower() in answer["remedy"].lower()
    assert ("To trust the issuer" in answer["remedy"]) == remedy.startswith("add")


@pytest.mark.parametrize("given_text", ["", "  \n", "Bearer "])
def test_no_token(config: Path, given_text: str) -> None:
    ran = invoked(config, given=given_text)
    assert (ran.exit_code, "there is no token" in ran.output) == (2, True)


def test_what_a_token_says_does_not_reach_the_terminal(
    config: Path, provider: IdentityProvider, tmp_path: Path
) -> None:
    escape = "\x1b]0;owned\x07\x1b[2J\u202e"
    file = tmp_path / "token"
    for claims in ({f"claim{escape}": 1, "jti": escape}, {"iss": escape}, {"aud": [escape]}):
        file.write_text(provider.token(claims=claims))
        ran = run_on_terminal("explain", "--config", config, file)
        assert "For https://mcp.example/mcp" in ran.out
        for part in ("\x1b]0", "\x07", "\x1b[2J", "\u202e"):
            assert part not in ran.out


def introspect(config: Path, tokens: str) -> None:
    (config.parent / "client").write_text("hush")
    table = (
        f'\n[introspection]\nissuer = "https://opaque.example"\ntokens = "{tokens}"\n'
        'endpoint = "https://opaque.example/introspect"\nclient_id = "authsvc"\n'
        f'client_secret_file = "{config.parent}/client"\n'
    )
    config.write_text(config.read_text() + table)


@pytest.mark.parametrize("tokens", ["opaque", "all"])
def test_a_token_that_is_introspected(
    config: Path, provider: IdentityProvider, tokens: str
) -> None:
    introspect(config, tokens)
    named = IdentityProvider(time.time, "https://opaque.example").token()
    for token, is_introspected in (
        ("opaque", True),
        ("a.b.c", tokens == "all"),
        (named, tokens == "all"),
        (provider.token(), False),
    ):
        result = invoked(config, given=token)
        for advice in ("only its issuer can verify it", "`authsvc doctor`", "docs/providers.md"):
            assert (advice in result.output) == is_introspected
    assert result.exit_code == 0


def test_a_provider_session_is_shown_as_a_digest(config: Path, provider: IdentityProvider) -> None:
    assert "session      none" in invoked(config, given=provider.token("ada")).output
    token = provider.token("ada", sid="sid-of-the-provider")
    digest = session_digest(ISSUER, "sid-of-the-provider")[:8]
    ran, as_json = invoked(config, given=token), invoked(config, "--json", given=token)
    assert f"session      {digest}  (claim sid)" in ran.output
    shown = json.loads(as_json.output)["principal"]["session"]
    assert shown == {"value": digest, "claims": ["sid"]}
    assert "sid-of-the-provider" not in ran.output + as_json.output
    wrong = invoked(config, given=provider.token("ada", sid=7))
    assert wrong.exit_code == 1
    assert "claim sid is not a string" in wrong.output
    assert ".claims.session" in wrong.output
