"""Roles assumed for principals, at a real STS and at one that fails."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import pytest

from authsvc.credentials import sts as sts_module
from authsvc.credentials.attribution import Claim, session_name
from authsvc.credentials.aws import ClientToken, Identity, KeyFiles, Sts, WebIdentity, sts_client
from authsvc.credentials.cache import FAILURE_SECONDS, RENEWAL_FRACTION
from authsvc.credentials.sts import RoleRule, StsBroker
from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.resolution import Actor, AwsCredentials, Principal, Secret
from demo.s3 import serving_s3
from tests.authsvc.credentials.conftest import FakeSts
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START, Clock
from tests.support.tokens import ISSUER, RESOURCE

pytestmark = pytest.mark.anyio

READER = "arn:aws:iam::123456789012:role/reader"
ANALYST = "arn:aws:iam::123456789012:role/team/analyst"
RULES = (RoleRule(ANALYST, ISSUER, "analyst"), RoleRule(READER, ISSUER, "reader"))
TOKEN = Secret("the-clients-token")


def principal(subject: str = "alice", *, seconds: float = 600, **changes: object) -> Principal:
    values: dict[str, object] = {
        "client_id": "client",
        "roles": ("reader",),
        "buckets": ("alpha",),
        "permissions": ("s3:GetObject", "s3:ListBucket"),
        **changes,
    }
    return Principal(ISSUER, subject, START + seconds, **values)  # type: ignore[arg-type]  # as named


@pytest.fixture
def keys(tmp_path: Path) -> KeyFiles:
    path = tmp_path / "aws.key"
    path.write_text("our-own-secret\n")
    return KeyFiles("AKIAAUTHSVC", path)


@asynccontextmanager
async def broker_at(
    url: str,
    identity: Identity,
    *rules: RoleRule,
    claims: Mapping[str, Claim] | None = None,
    role_confines: bool = False,
    **options: bool,
) -> AsyncIterator[StsBroker]:
    async with sts_client(identity, region="eu-west-1", endpoint_url=url) as client:
        broker = StsBroker(
            Sts(client, identity, **options),
            rules or RULES,
            region="eu-west-1",
            claims=claims or {},
            role_confines=role_confines,
        )
        try:
            yield broker
        finally:
            await broker.close()


@pytest.fixture
async def broker(fake_sts: FakeSts, keys: KeyFiles, clock: Clock) -> AsyncIterator[StsBroker]:
    fake_sts.clock_time = clock()
    async with broker_at(fake_sts.url, keys) as broker:
        yield broker


async def issued(
    broker: StsBroker,
    who: Principal,
    now: float = START,
    *,
    buckets: Sequence[str] = (),
    token: Secret = TOKEN,
) -> AwsCredentials:
    wanted = CredentialRequest(buckets=tuple(buckets))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        got = await broker.issue(who, token=token, resource=RESOURCE, now=now, wanted=wanted)
    assert isinstance(got, AwsCredentials)
    return got


async def refused(
    broker: StsBroker,
    who: Principal,
    now: float = START,
    *,
    buckets: Sequence[str] = (),
    token: Secret = TOKEN,
) -> AuthError:
    with pytest.raises(AuthError) as caught:
        await issued(broker, who, now, buckets=buckets, token=token)
    return caught.value


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with serving_s3({}) as url:
        yield url


async def test_a_role_is_assumed_at_a_real_sts(moto: str, keys: KeyFiles) -> None:
    now = time.time()
    who = Principal(
        ISSUER, "alice", now + 1200.5, "", (), ("reader",), ("alpha",), ("s3:GetObject",)
    )
    async with broker_at(moto, keys) as broker:
        credentials = await issued(broker, who, now)
        again = await issued(broker, who, now + 1)
    assert credentials.access_key_id.startswith("ASIA")
    assert credentials.secret_access_key
    assert credentials.session_token
    assert credentials.region == "eu-west-1"
    # To the second: STS gave it until then, and the policy ends then.
    assert int(now) + 1199 <= credentials.expire_time <= int(now + 1200.5)
    assert again is credentials


async def test_the_parameters_of_a_call_of_sts(broker: StsBroker, fake_sts: FakeSts) -> None:
    await issued(broker, principal(seconds=1800.9))
    (call,) = fake_sts.calls
    policy = json.loads(call.pop("Policy"))
    name = session_name(principal())
    assert call == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": READER,
        "RoleSessionName": name,
        "SourceIdentity": name,
        "DurationSeconds": "1800",
        "Tags.member.1.Key": "issuer",
        "Tags.member.1.Value": ISSUER,
        "Tags.member.2.Key": "subject",
        "Tags.member.2.Value": "alice",
        "Tags.member.3.Key": "client_id",
        "Tags.member.3.Value": "client",
    }
    end = {"DateLessThan": {"aws:CurrentTime": "2027-01-15T08:30:00Z"}}
    assert [statement["Condition"] for statement in policy["Statement"]] == [end, end]
    assert "Credential=AKIAAUTHSVC/" in fake_sts.signers[0]
    assert TOKEN.reveal() not in str(fake_sts.calls)


async def test_clients_and_actors_of_one_subject_share_no_session(
    broker: StsBroker, fake_sts: FakeSts
) -> None:
    """A role's policy may go by the tags."""
    who = principal()
    others = (
        replace(who, client_id="other"),
        replace(who, actor=Actor("agent")),
        replace(who, actor=Actor("agent", "https://agents.example")),
        replace(who, actor=Actor("agent", actor=Actor("first"))),
    )
    for one in (who, *others, who, *others):
        await issued(broker, one)
    tagged = [[call[key] for key in call if key.startswith("Tags.")] for call in fake_sts.calls]
    assert [tags[5] for tags in tagged] == ["client", "other", "client", "client"]
    assert [tags[6:] for tags in tagged] == [
        [],
        [],
        ["actor", "agent", "actor_issuer", ISSUER],
        ["actor", "agent", "actor_issuer", "https://agents.example"],
    ]


async def test_tags_and_source_identity_can_be_left_out(fake_sts: FakeSts, keys: KeyFiles) -> None:
    fake_sts.clock_time = START
    async with broker_at(fake_sts.url, keys, tags=False, source_identity=False) as broker:
        await issued(broker, principal())
    assert not {"SourceIdentity", "Tags.member.1.Key"} & {*fake_sts.calls[0]}


async def test_a_web_identity_is_authsvcs_own_and_follows_its_file(
    fake_sts: FakeSts, tmp_path: Path
) -> None:
    """Kubernetes rotates it. The client's token is not sent to AWS."""
    token = tmp_path / "token"
    token.write_text("workload-token-1\n")
    fake_sts.clock_time = START
    async with broker_at(fake_sts.url, WebIdentity(token)) as broker:
        await issued(broker, principal("alice"))
        token.write_text("workload-token-2\n")
        await issued(broker, principal("bob"))
    assert [call["Action"] for call in fake_sts.calls] == 2 * ["AssumeRoleWithWebIdentity"]
    assert [call["WebIdentityToken"] for call in fake_sts.calls] == [
        "workload-token-1",
        "workload-token-2",
    ]
    assert all("Policy" in call for call in fake_sts.calls)
    assert fake_sts.signers == ["", ""]
    assert TOKEN.reveal() not in str(fake_sts.calls)


JWT = Secret("header.of-alice.signature")
SECOND_JWT = Secret("header.of-alice-again.signature")


async def test_the_clients_token_where_the_roles_trust_its_issuer(
    fake_sts: FakeSts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAMBIENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient")
    caplog.set_level(logging.DEBUG, "authsvc")
    fake_sts.clock_time = START
    async with broker_at(fake_sts.url, ClientToken()) as broker:
        first = await issued(broker, principal(seconds=1800), token=JWT)
        again = await issued(broker, principal(seconds=1800), token=JWT)
        # Two tokens of one subject may have different tags for AWS.
        second = await issued(broker, principal(seconds=1800), token=SECOND_JWT)
        shown = f"{caplog.text} {broker.__dict__!r}"
    assert first is again
    assert second.access_key_id != first.access_key_id
    assert [call["WebIdentityToken"] for call in fake_sts.calls] == [
        JWT.reveal(),
        SECOND_JWT.reveal(),
    ]
    call = fake_sts.calls[0]
    assert {*call} == {
        *("Action", "Version", "RoleArn", "RoleSessionName", "Policy", "DurationSeconds"),
        "WebIdentityToken",
    }
    assert call["Action"] == "AssumeRoleWithWebIdentity"
    assert call["DurationSeconds"] == "1800"
    assert "2027-01-15T08:30:00Z" in call["Policy"]
    assert fake_sts.signers == ["", ""]
    assert "of-alice" not in shown


async def test_a_token_that_another_may_act_with_is_not_sent(
    fake_sts: FakeSts, keys: KeyFiles
) -> None:
    """AWS does not know the claim, and authsvc has no client there that it could name."""
    fake_sts.clock_time = START
    who = principal(claims_json=b'{"may_act": {"sub": "admin.example"}}')
    async with broker_at(fake_sts.url, ClientToken()) as broker:
        error = await refused(broker, who, token=JWT)
    assert error.reason is Reason.CREDENTIALS_REFUSED
    assert error.setting == "credentials.sts.use_client_token"
    assert not fake_sts.calls
    # authsvc's own key says who it is; the token is not sent.
    async with broker_at(fake_sts.url, keys) as broker:
        await issued(broker, who, token=JWT)


async def test_long_tags_take_no_more_memory_than_is_accounted_for(
    fake_sts: FakeSts, keys: KeyFiles
) -> None:
    fake_sts.clock_time = START
    claims: dict[str, Claim] = {f"t{n}": itemgetter("team") for n in range(45)}
    who = principal(
        claims_json=json.dumps({"team": "\N{MATHEMATICAL BOLD SMALL A}" * 256}).encode()
    )
    async with broker_at(fake_sts.url, keys, claims=claims) as broker:
        await issued(broker, who)
        (key,) = broker._cache._cached._keys[ISSUER, "alice"]
    assert len(repr(key)) < 1_000


@pytest.mark.parametrize(
    "token", ["opaque", "a.b", "a.b.c.d.e", f"a.b.{'c' * 20_000}"], ids=lambda it: it[:10]
)
async def test_a_token_that_sts_would_not_take_is_not_sent(fake_sts: FakeSts, token: str) -> None:
    async with broker_at(fake_sts.url, ClientToken()) as broker:
        error = await refused(broker, principal(), token=Secret(token))
    assert error.reason is Reason.CREDENTIALS_REFUSED
    assert error.setting == "credentials.sts.use_client_token"
    assert token not in str(error)
    assert not fake_sts.calls


@pytest.mark.parametrize(
    ("status", "code", "reason", "setting"),
    [
        (400, "InvalidIdentityToken", Reason.CREDENTIALS_REFUSED, "use_client_token"),
        (403, "IDPRejectedClaim", Reason.CREDENTIALS_REFUSED, "use_client_token"),
        (400, "ExpiredTokenException", Reason.CREDENTIALS_REFUSED, "use_client_token"),
        (403, "AccessDenied", Reason.CREDENTIALS_REFUSED, "roles"),
        (400, "IDPCommunicationError", Reason.CREDENTIALS_UNAVAILABLE, "use_client_token"),
        (503, "ServiceUnavailable", Reason.CREDENTIALS_UNAVAILABLE, ""),
    ],
)
async def test_the_reason_of_each_error_about_the_clients_token(
    fake_sts: FakeSts, status: int, code: str, reason: Reason, setting: str
) -> None:
    fake_sts.errors = [(status, code)] * 2
    async with broker_at(fake_sts.url, ClientToken()) as broker:
        error = await refused(broker, principal(), token=JWT)
    assert error.reason is reason
    assert (error.retry_after_seconds is None) == (reason is Reason.CREDENTIALS_REFUSED)
    assert error.setting == (f"credentials.sts.{setting}" if setting else "")
    assert "keep-me-out" not in str(error)


def of_team(team: str, subject: str = "alice") -> Principal:
    return principal(subject, claims_json=json.dumps({"team": team}).encode())


TEAM: Mapping[str, Claim] = {"team": lambda claims: claims.get("team")}


@pytest.mark.parametrize("tags", [True, False])
async def test_the_role_confines_by_the_tags_of_claims(
    fake_sts: FakeSts, keys: KeyFiles, tags: bool
) -> None:
    fake_sts.clock_time = START
    async with broker_at(fake_sts.url, keys, claims=TEAM, role_confines=True, tags=tags) as broker:
        blue = await issued(broker, replace(of_team("blue"), buckets=()))
        red = await issued(broker, replace(of_team("red"), buckets=()))
        await issued(broker, of_team("blue"), buckets=["alpha"])
        error = await refused(broker, principal())
    assert error.setting == "credentials.sts.claim_tags"
    assert blue.access_key_id != red.access_key_id
    wide, _, narrow = fake_sts.calls
    number = 4 if tags else 1
    assert wide[f"Tags.member.{number}.Key"] == "team"
    assert wide[f"Tags.member.{number}.Value"] == "blue"
    (statement,) = json.loads(wide["Policy"])["Statement"]
    assert statement["Resource"] == "*"
    assert statement["Action"] == ["s3:ListBucket", "s3:GetObject"]
    assert statement["Condition"] == {"DateLessThan": {"aws:CurrentTime": "2027-01-15T08:10:00Z"}}
    # A call that names its buckets gets a session for them alone.
    assert '"*"' not in narrow["Policy"]
    assert "arn:aws:s3:::alpha" in narrow["Policy"]


async def test_a_changed_key_file_takes_effect_at_once(
    broker: StsBroker, fake_sts: FakeSts, keys: KeyFiles
) -> None:
    await issued(broker, principal("alice"))
    keys.secret_access_key.unlink()
    error = await refused(broker, principal("bob"))
    assert error.reason is Reason.CREDENTIALS_UNAVAILABLE
    assert str(keys.secret_access_key) in error.detail
    keys.secret_access_key.write_text("another secret")
    await issued(broker, principal("carol"))
    assert len(fake_sts.calls) == 2


async def test_the_environment_is_not_used(
    fake_sts: FakeSts, keys: KeyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "profile"
    profile.write_text("[default]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = x\n")
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAAMBIENT",
        "AWS_SECRET_ACCESS_KEY": "ambient",
        "AWS_SESSION_TOKEN": "ambient",
        "AWS_PROFILE": "nobody",
        "AWS_SHARED_CREDENTIALS_FILE": str(profile),
        "AWS_CONFIG_FILE": str(profile),
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1",
        "AWS_ROLE_ARN": READER,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(profile),
        "AWS_CA_BUNDLE": "/nowhere",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "HTTPS_PROXY": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    fake_sts.clock_time = START
    async with broker_at(fake_sts.url, keys) as broker:
        await issued(broker, principal())
        keys.secret_access_key.write_text("")
        assert (await refused(broker, principal("bob"))).reason is Reason.CREDENTIALS_UNAVAILABLE
    assert ["AKIAAUTHSVC" in signer for signer in fake_sts.signers] == [True]


@pytest.mark.parametrize(
    ("roles", "arn"),
    [(("reader",), READER), (("reader", "analyst"), ANALYST), (("other", "reader"), READER)],
)
async def test_the_first_rule_that_matches_selects_the_role(
    broker: StsBroker, fake_sts: FakeSts, roles: tuple[str, ...], arn: str
) -> None:
    await issued(broker, principal(roles=roles))
    assert [call["RoleArn"] for call in fake_sts.calls] == [arn]


@pytest.mark.parametrize(
    "who",
    [
        principal(roles=()),
        principal(roles=("Reader",)),
        principal(roles=(READER,)),
        principal(roles=("arn:aws:iam::666666666666:role/theirs",)),
        replace(principal(), issuer="https://other.example"),
        principal(buckets=()),
        principal(buckets=("*",)),
        principal(permissions=()),
        principal(permissions=("s3:ListAllMyBuckets",)),
    ],
    ids=lambda who: f"{who.issuer} {who.roles} {who.buckets} {who.permissions}",
)
async def test_for_some_there_are_no_credentials_and_no_call(
    broker: StsBroker, fake_sts: FakeSts, who: Principal
) -> None:
    assert await broker.issue(who, token=TOKEN, resource=RESOURCE, now=START) is None
    assert not fake_sts.calls


async def test_an_arn_in_a_claim_is_used_where_a_rule_names_it(
    fake_sts: FakeSts, keys: KeyFiles
) -> None:
    fake_sts.clock_time = START
    async with broker_at(fake_sts.url, keys, RoleRule(READER, ISSUER, READER)) as broker:
        await issued(broker, principal(roles=("arn:aws:iam::666666666666:role/x", READER)))
        other = principal(roles=(ANALYST,))
        assert await broker.issue(other, token=TOKEN, resource=RESOURCE, now=START) is None
    assert [call["RoleArn"] for call in fake_sts.calls] == [READER]


async def test_a_rule_without_a_role_is_for_all_of_its_issuer(
    fake_sts: FakeSts, keys: KeyFiles
) -> None:
    arn = "arn:aws-cn:iam::123456789012:role/all"
    fake_sts.clock_time = START
    async with broker_at(fake_sts.url, keys, RoleRule(arn, ISSUER)) as broker:
        await issued(broker, principal(roles=()))
    assert fake_sts.calls[0]["RoleArn"] == arn
    assert '"arn:aws-cn:s3:::alpha"' in fake_sts.calls[0]["Policy"]


@pytest.mark.parametrize(
    ("seconds", "duration"), [(30, 900), (900, 900), (1800, 1800), (86_400, 3600)]
)
async def test_duration_is_the_tokens_within_what_sts_and_the_role_allow(
    broker: StsBroker, fake_sts: FakeSts, seconds: float, duration: int
) -> None:
    credentials = await issued(broker, principal(seconds=seconds))
    assert fake_sts.calls[0]["DurationSeconds"] == str(duration)
    # However long the credentials of STS last, the reported end is the token's.
    assert credentials.expire_time == START + min(seconds, duration)


async def test_in_the_leeway_after_exp_the_token_has_expired(
    broker: StsBroker, fake_sts: FakeSts
) -> None:
    """To AWS, which goes by the policy's end, it has."""
    error = await refused(broker, principal(seconds=0.5))
    assert error.reason is Reason.TOKEN_EXPIRED
    assert not fake_sts.calls


async def test_200_first_calls_are_one_call(broker: StsBroker, fake_sts: FakeSts) -> None:
    fake_sts.hold.clear()
    asking = [asyncio.create_task(issued(broker, principal())) for _ in range(200)]
    assert await asyncio.to_thread(fake_sts.arrived.wait, 10)
    asking[0].cancel()
    fake_sts.hold.set()
    got = await asyncio.gather(*asking[1:])
    assert len({credentials.access_key_id for credentials in got}) == 1
    assert len(fake_sts.calls) == 1


@pytest.mark.parametrize(
    "other",
    [
        principal("bob"),
        principal(roles=("analyst",)),
        principal(buckets=("beta",)),
        principal(buckets=("alpha", "beta")),
        principal(permissions=("s3:GetObject",)),
        principal(seconds=601),
    ],
    ids=["subject", "role", "bucket", "more buckets", "permissions", "exp"],
)
async def test_other_claims_get_other_credentials(
    broker: StsBroker, fake_sts: FakeSts, other: Principal
) -> None:
    one = await issued(broker, principal())
    two = await issued(broker, other)
    assert one.access_key_id != two.access_key_id
    assert (await issued(broker, principal())).access_key_id == one.access_key_id
    assert len(fake_sts.calls) == 2


async def test_the_same_subject_of_two_issuers_is_two(fake_sts: FakeSts, keys: KeyFiles) -> None:
    fake_sts.clock_time = START
    second = "https://second.example"
    rules = (RoleRule(READER, ISSUER), RoleRule(READER, second))
    buckets, permissions = ("alpha",), ("s3:GetObject",)
    async with broker_at(fake_sts.url, keys, *rules) as broker:
        for issuer in (ISSUER, second):
            who = Principal(issuer, "alice", START + 600, "", (), (), buckets, permissions)
            await issued(broker, who)
    assert len({call["RoleSessionName"] for call in fake_sts.calls}) == 2


async def test_a_token_costs_one_call_however_often_it_is_used(
    broker: StsBroker, fake_sts: FakeSts
) -> None:
    """The policy ends with the token, so that a refreshed token is another policy: one call each.
    What the earlier token got neither outlives it nor ends the later one's."""
    for refresh in range(4):
        now = fake_sts.clock_time = START + 500 * refresh
        who = principal(seconds=500 * refresh + 600)
        for step in range(0, 500, 50):
            credentials = await issued(broker, who, now + step)
            assert credentials.expire_time == who.expire_time
    assert len(fake_sts.calls) == 4


async def test_a_long_token_is_followed_by_renewals(
    broker: StsBroker, fake_sts: FakeSts, clock: Clock
) -> None:
    who = principal(seconds=10 * 3600)
    first = await issued(broker, who)
    assert first.expire_time == START + 3600
    clock.advance(3600 * RENEWAL_FRACTION)
    fake_sts.clock_time = clock()
    fake_sts.arrived.clear()
    assert await issued(broker, who, clock()) == first
    assert await asyncio.to_thread(fake_sts.arrived.wait, 10)
    await asyncio.gather(*(it.task for it in broker._cache._calls.values()))
    second = await issued(broker, who, clock())
    assert second.expire_time == clock() + 3600
    assert len(fake_sts.calls) == 2


@pytest.mark.parametrize(
    ("status", "code", "reason", "setting"),
    [
        (403, "AccessDenied", Reason.CREDENTIALS_REFUSED, "roles"),
        (400, "MalformedPolicyDocument", Reason.CREDENTIALS_REFUSED, ""),
        (400, "ValidationError", Reason.CREDENTIALS_REFUSED, "roles"),
        (400, "Throttling", Reason.CREDENTIALS_UNAVAILABLE, ""),
        (403, "InvalidClientTokenId", Reason.CREDENTIALS_UNAVAILABLE, "access_key_id"),
        (403, "SignatureDoesNotMatch", Reason.CREDENTIALS_UNAVAILABLE, "secret_access_key_file"),
        (403, "ExpiredToken", Reason.CREDENTIALS_UNAVAILABLE, "session_token_file"),
        (400, "ExpiredTokenException", Reason.CREDENTIALS_UNAVAILABLE, "web_identity_token_file"),
        (500, "InternalFailure", Reason.CREDENTIALS_UNAVAILABLE, ""),
        (503, "ServiceUnavailable", Reason.CREDENTIALS_UNAVAILABLE, ""),
    ],
)
async def test_the_reason_of_each_error_of_sts(
    broker: StsBroker, fake_sts: FakeSts, status: int, code: str, reason: Reason, setting: str
) -> None:
    fake_sts.errors = [(status, code)] * 2
    error = await refused(broker, principal())
    assert error.reason is reason
    assert (code in error.detail, READER in error.detail) == (True, True)
    assert "keep-me-out" not in str(error)
    assert (error.retry_after_seconds is None) == (reason is Reason.CREDENTIALS_REFUSED)
    assert error.setting == (f"credentials.sts.{setting}" if setting else "")
    # A flood of requests is not passed on.
    calls = len(fake_sts.calls)
    assert calls <= 2
    await refused(broker, principal())
    assert len(fake_sts.calls) == calls


async def test_throttling_is_tried_once_more(broker: StsBroker, fake_sts: FakeSts) -> None:
    fake_sts.errors = [(400, "Throttling")]
    await issued(broker, principal())
    assert len(fake_sts.calls) == 2


async def test_a_policy_that_does_not_pack_is_tried_in_its_short_form(
    broker: StsBroker, fake_sts: FakeSts
) -> None:
    fake_sts.errors = [(400, "PackedPolicyTooLarge")]
    await issued(broker, principal())
    plain, short = (call["Policy"] for call in fake_sts.calls)
    assert len(short) < len(plain)


async def test_a_policy_that_does_not_pack_at_all_is_rejected(
    broker: StsBroker, fake_sts: FakeSts
) -> None:
    fake_sts.errors = [(400, "PackedPolicyTooLarge")] * 2
    error = await refused(broker, principal())
    assert error.reason is Reason.CREDENTIALS_REFUSED
    assert "fewer buckets" in error.detail
    assert not fake_sts.errors


@pytest.mark.parametrize("percent", [101, 142])
async def test_session_tags_that_do_not_pack_are_named(
    broker: StsBroker, fake_sts: FakeSts, percent: int
) -> None:
    fake_sts.errors = [(400, "PackedPolicyTooLarge")] * 2
    fake_sts.message = f"Packed size of session tags consumes {percent}% of allotted space."

    error = await refused(broker, principal())

    assert error.reason is Reason.CREDENTIALS_REFUSED
    assert error.setting == "credentials.sts.session_tags"
    assert "session_tags" in error.detail
    assert "buckets" not in error.detail


async def test_a_policy_that_is_too_long_is_rejected_without_a_call(
    broker: StsBroker, fake_sts: FakeSts
) -> None:
    error = await refused(broker, principal(buckets=tuple(f"bucket-{n:030}" for n in range(40))))
    assert error.reason is Reason.CREDENTIALS_REFUSED
    assert not fake_sts.calls


MANY = tuple(f"bucket-{number:03}-of-a-large-token" for number in range(500))


async def test_one_of_500_buckets_fits(broker: StsBroker, fake_sts: FakeSts) -> None:
    who = principal(buckets=MANY)
    await issued(broker, who, buckets=[MANY[250]])
    (call,) = fake_sts.calls
    named = {arn for it in json.loads(call["Policy"])["Statement"] for arn in it["Resource"]}
    assert named == {f"arn:aws:s3:::{MANY[250]}", f"arn:aws:s3:::{MANY[250]}/*"}


async def test_500_buckets_do_not_and_the_error_names_the_two_ways_out(
    broker: StsBroker, fake_sts: FakeSts
) -> None:
    error = await refused(broker, principal(buckets=MANY))
    assert error.reason is Reason.CREDENTIALS_REFUSED
    assert "name the buckets of the call" in error.detail
    assert 'buckets_by = "role"' in error.detail
    assert error.setting == "credentials.sts.buckets_by"
    assert not fake_sts.calls


async def test_a_selection_is_a_session_of_its_own_and_cached_in_any_order(
    broker: StsBroker, fake_sts: FakeSts
) -> None:
    who = principal(buckets=("alpha", "beta", "gamma"))
    selections = [(), ("alpha",), ("beta",), ("alpha", "beta"), ("alpha", "beta", "gamma")]
    got = [await issued(broker, who, buckets=it) for it in selections]
    again = [await issued(broker, who, buckets=it[::-1]) for it in selections]
    assert got == again
    # All of the token's are those that no selection stands for.
    assert len({it.access_key_id for it in got}) == len(fake_sts.calls) == 4
    assert got[0] is got[4]


async def test_200_calls_for_one_bucket_are_one_call_of_sts(
    broker: StsBroker, fake_sts: FakeSts
) -> None:
    fake_sts.hold.clear()
    who = principal(buckets=("alpha", "beta"))
    calls = [
        asyncio.ensure_future(issued(broker, who, buckets=[("alpha", "beta")[number % 2]]))
        for number in range(200)
    ]
    await asyncio.to_thread(fake_sts.arrived.wait, TIMEOUT_SECONDS)
    fake_sts.hold.set()
    got = await asyncio.gather(*calls)
    assert len(fake_sts.calls) == 2
    assert len({it.access_key_id for it in got}) == 2
    assert {it.access_key_id for it in got[::2]} == {got[0].access_key_id}


@pytest.mark.parametrize("buckets", [["other"], ["alpha", "other"], ["*"], ["alpha*"]])
async def test_a_selection_beyond_the_token_makes_no_call(
    broker: StsBroker, fake_sts: FakeSts, buckets: list[str]
) -> None:
    await issued(broker, principal())
    error = await refused(broker, principal(), buckets=buckets)
    assert error.reason is Reason.CREDENTIALS_REFUSED
    assert len(fake_sts.calls) == 1


async def test_an_sts_that_hangs_is_not_waited_for(
    broker: StsBroker, fake_sts: FakeSts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sts_module, "CALL_SECONDS", 0.1)
    fake_sts.hold.clear()
    error = await refused(broker, principal())
    assert error.reason is Reason.CREDENTIALS_UNAVAILABLE
    assert error.detail.endswith(": TimeoutError")


def answer(**changes: str) -> str:
    """A response of STS, without some members."""
    said = {
        "AccessKeyId": "ASIA0",
        "SecretAccessKey": "secret",
        "SessionToken": "session",
        "Expiration": "2027-01-15T09:00:00Z",
        **changes,
    }
    inner = "".join(f"<{name}>{text}</{name}>" for name, text in said.items())
    return f"<R><AssumeRoleResult><Credentials>{inner}</Credentials></AssumeRoleResult></R>"


@pytest.mark.parametrize(
    "body",
    [
        "<html>a proxy's page</html>",
        "no XML",
        "<R><AssumeRoleResult/></R>",
        "<R><AssumeRoleResult><Credentials><AccessKeyId/></Credentials></AssumeRoleResult></R>",
        answer(Expiration="soon"),
        answer(Expiration=""),
        answer(SecretAccessKey=""),
        answer(SessionToken=""),
        answer(AccessKeyId=""),
        answer(Expiration="2000-01-01T00:00:00Z"),
        "<R>" * 10_000,
    ],
)
async def test_no_valid_response_of_sts(broker: StsBroker, fake_sts: FakeSts, body: str) -> None:
    fake_sts.body = body.encode()
    assert (await refused(broker, principal())).reason is Reason.CREDENTIALS_UNAVAILABLE


async def test_an_sts_that_is_unavailable(keys: KeyFiles, fake_sts: FakeSts, clock: Clock) -> None:
    """Cached credentials are issued until they expire; no others are."""
    fake_sts.clock_time = START
    long = principal(seconds=7200)
    async with broker_at(fake_sts.url, keys) as broker:
        first = await issued(broker, long)
        fake_sts.errors = [(503, "ServiceUnavailable")] * 1000
        clock.advance(3599)
        assert await issued(broker, long, clock()) == first
        assert (await refused(broker, principal("bob"))).reason is Reason.CREDENTIALS_UNAVAILABLE
        clock.advance(1 + FAILURE_SECONDS)
        error = await refused(broker, long, clock())
        assert error.reason is Reason.CREDENTIALS_UNAVAILABLE
        assert error.retry_after_seconds
        fake_sts.errors.clear()
        clock.advance(FAILURE_SECONDS)
        fake_sts.clock_time = clock()
        assert (await issued(broker, long, clock())).access_key_id != first.access_key_id


async def test_nothing_listens(keys: KeyFiles) -> None:
    async with broker_at("http://127.0.0.1:1", keys) as broker:
        error = await refused(broker, principal())
    assert error.reason is Reason.CREDENTIALS_UNAVAILABLE
    assert "EndpointConnectionError" in error.detail


async def test_no_secret_is_logged_or_shown(
    broker: StsBroker, fake_sts: FakeSts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "authsvc")
    credentials = await issued(broker, principal())
    fake_sts.errors = [(403, "AccessDenied")]
    error = await refused(broker, principal("bob"))
    shown = f"{caplog.text} {credentials!r} {broker.__dict__!r} {error!r} {error}"
    for secret in ("our-own-secret", "secret-1", "session-1", TOKEN.reveal(), "keep-me-out"):
        assert secret not in shown
    assert error.__cause__ is None
    assert error.__suppress_context__
