"""Keys that change: watched files, fetched URLs, and attacks on both."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jwt as pyjwt
import pytest

from authsvc.access.limits import CallerLimits
from authsvc.access.usage import Usages
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.tokens import BearerToken
from authsvc.net import fetching
from authsvc.net.fetching import Fetcher, FetchError, check_url
from authsvc.tokens.discovery import fetch_discovered, fetch_jwks, metadata_urls
from authsvc.tokens.documents import parse_jwk_set
from authsvc.tokens.jwk_set import load_jwks_file
from authsvc.tokens.jwt import Issuer, JwtVerifier
from authsvc.tokens.keys import KeyLoadError, KeySet
from authsvc.tokens.secret_files import SecretFiles, load_secret_file
from authsvc.tokens.sources import COOL_DOWN_SECONDS, FetchedKeys, FileKeys
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START
from tests.support.http import Answer, Site, serving_http
from tests.support.keys import Signer, jwks, signer
from tests.support.tokens import ISSUER, RESOURCE

pytestmark = pytest.mark.anyio

OLD, NEW = signer("old"), signer("new")
MAX_STALE = 3600.0


@pytest.fixture
def site() -> Iterator[Site]:
    with serving_http() as running:
        running.answers["/jwks"] = Answer(jwks(OLD), headers={"Cache-Control": "max-age=100"})
        yield running


@pytest.fixture
async def source(site: Site) -> FetchedKeys:
    fetch = partial(fetch_jwks, Fetcher(), f"{site.url}/jwks", ("ES256",))
    fetched = FetchedKeys(ISSUER, fetch, max_stale_seconds=MAX_STALE)
    await fetched.refresh(START)
    return fetched


@pytest.fixture
def verifier(source: FetchedKeys) -> JwtVerifier:
    return JwtVerifier([Issuer(ISSUER, source)])


async def verdict(verifier: JwtVerifier, token: str, now: float) -> Reason | None:
    """Why a token is rejected; None when it is accepted."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await verifier.verify(BearerToken(token), resource=RESOURCE, now=now)
    except AuthError as error:
        return error.reason
    return None


# Files.


def write(path: Path, content: bytes, *, mtime: int) -> None:
    path.write_bytes(content)
    os.utime(path, (mtime, mtime))


async def test_a_changed_jwks_file_takes_effect_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    write(path, jwks(OLD), mtime=1)
    source = FileKeys([path], lambda: load_jwks_file(path, ["ES256"]))
    verifier = JwtVerifier([Issuer(ISSUER, source)])
    assert await verdict(verifier, OLD.token(START), START) is None
    write(path, jwks(OLD, NEW), mtime=2)
    # For an unknown kid the file is checked at once, whenever it was checked last.
    assert await verdict(verifier, NEW.token(START), START) is None
    write(path, jwks(NEW), mtime=3)
    assert await verdict(verifier, OLD.token(START), START + 1) is Reason.TOKEN_KEY_UNKNOWN


@pytest.mark.parametrize("content", [b"", b"{}", b'{"keys": {}}', b"not JSON"])
async def test_a_file_that_becomes_invalid_changes_nothing(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "jwks.json"
    write(path, jwks(OLD), mtime=1)
    source = FileKeys([path], lambda: load_jwks_file(path, ["ES256"]))
    verifier = JwtVerifier([Issuer(ISSUER, source)])
    write(path, content, mtime=2)
    for seconds in range(5):
        assert await verdict(verifier, OLD.token(START), START + seconds) is None
    assert caplog.text.count("are invalid") == 1
    path.unlink()
    assert await verdict(verifier, OLD.token(START), START + 9) is None
    write(path, jwks(NEW), mtime=3)
    assert await verdict(verifier, NEW.token(START), START + 20) is None


ODD: dict[str, object] = {"kty": "OKP", "crv": "Ed448", "x": "AA", "alg": "EdDSA", "kid": "odd"}


async def test_a_key_withdrawn_from_a_file_ends_though_another_entry_is_invalid(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "jwks.json"
    write(path, jwks(OLD), mtime=1)
    source = FileKeys([path], lambda: load_jwks_file(path, ["ES256", "EdDSA"]))
    verifier = JwtVerifier([Issuer(ISSUER, source)])
    known = OLD.token(START)
    assert await verdict(verifier, known, START) is None
    write(path, jwks(NEW, odd=[ODD]), mtime=2)
    for seconds in range(1, 5):
        assert await verdict(verifier, known, START + seconds) is Reason.TOKEN_KEY_UNKNOWN
        assert await verdict(verifier, NEW.token(START), START + seconds) is None
    warned = [item.getMessage() for item in caplog.records if item.levelname == "WARNING"]
    assert len(warned) == 1
    assert "jwks.json" in warned[0]
    assert "'odd'" in warned[0]
    assert "does not go with its alg" in warned[0]
    for content in (jwks(odd=[ODD]), jwks()):
        write(path, jwks(NEW), mtime=3)
        assert await verdict(verifier, NEW.token(START), START + 10) is None
        write(path, content, mtime=4)
        assert await verdict(verifier, NEW.token(START), START + 20) is Reason.TOKEN_KEY_UNKNOWN


@pytest.mark.parametrize("content", [jwks(odd=[ODD]), jwks()])
def test_a_file_without_a_usable_key_stops_the_start(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "jwks.json"
    write(path, content, mtime=1)
    with pytest.raises(KeyLoadError, match=r"jwks\.json: no key verifies signatures"):
        FileKeys([path], lambda: load_jwks_file(path, ["ES256", "EdDSA"]))


async def test_a_file_is_read_again_until_it_can_be(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    write(path, jwks(OLD), mtime=1)
    unreadable = True

    def load() -> KeySet:
        if unreadable:
            raise KeyLoadError("Permission denied")
        return load_jwks_file(path, ["ES256"])

    unreadable = False
    verifier = JwtVerifier([Issuer(ISSUER, FileKeys([path], load))])
    write(path, jwks(NEW), mtime=2)
    unreadable = True
    assert await verdict(verifier, OLD.token(START), START + 1) is None
    unreadable = False
    assert await verdict(verifier, OLD.token(START), START + 2) is Reason.TOKEN_KEY_UNKNOWN


@pytest.mark.parametrize("broken", ["current", "previous"])
async def test_a_withdrawn_secret_ends_whatever_is_wrong_with_another(
    tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    files = [tmp_path / name for name in ("current", "withdrawn", "previous")]
    # As text: a random byte at the end may be a newline, which is no part of a secret in a file.
    keys = [secrets.token_hex(32).encode() for _ in files]
    for path, key in zip(files, keys, strict=True):
        write(path, key, mtime=1)
    verifier = JwtVerifier([Issuer(ISSUER, FileKeys(files, SecretFiles(*files).load))])
    claims = {"iss": ISSUER, "sub": "a", "aud": RESOURCE, "iat": START, "exp": START + 900}
    current, withdrawn, previous = [pyjwt.encode(claims, key, "HS256") for key in keys]
    for token in (current, withdrawn, previous):
        assert await verdict(verifier, token, START) is None
    write(tmp_path / broken, b"half-writ", mtime=2)
    files[1].unlink()
    assert await verdict(verifier, withdrawn, START + 2) is Reason.TOKEN_SIGNATURE_INVALID
    assert await verdict(verifier, current, START + 2) is None
    # A previous secret that its file does not hold any more is withdrawn, too.
    expected = None if broken == "current" else Reason.TOKEN_SIGNATURE_INVALID
    assert await verdict(verifier, previous, START + 2) is expected
    assert caplog.text.count(str(tmp_path / broken)) >= 1
    assert "half-writ" not in caplog.text


def test_a_previous_secret_that_cannot_be_looked_for_is_logged_and_a_removed_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    current, previous = tmp_path / "current", folder / "previous"
    for path in (current, previous):
        write(path, secrets.token_hex(32).encode(), mtime=1)
    files = SecretFiles(current, previous)
    assert len(files.load().previous) == 1
    previous.unlink()
    assert files.load().previous == ()
    assert caplog.messages == []
    folder.rmdir()
    folder.write_text("not a folder any more")
    assert files.load().previous == ()
    (message,) = caplog.messages
    assert message.startswith(f"a previous secret is withdrawn: {previous}: ")


async def test_secrets_rotate_without_rejecting_a_valid_token(tmp_path: Path) -> None:
    files = (tmp_path / "secret", tmp_path / "previous")
    passwords = [secrets.token_hex(16) for _ in range(3)]

    def load() -> KeySet:
        return KeySet((load_secret_file(files[0]),), (load_secret_file(files[1]),))

    def token(secret: str, subject: str) -> str:
        claims = {"iss": ISSUER, "sub": subject, "aud": RESOURCE, "iat": START, "exp": START + 900}
        return pyjwt.encode(claims, secret, "HS256")

    write(files[0], passwords[1].encode(), mtime=1)
    write(files[1], passwords[0].encode(), mtime=1)
    verifier = JwtVerifier([Issuer(ISSUER, FileKeys(files, load))])
    assert await verdict(verifier, token(passwords[0], "before"), START) is None
    assert await verdict(verifier, token(passwords[1], "now"), START) is None
    assert (
        await verdict(verifier, token(passwords[2], "x"), START) is Reason.TOKEN_SIGNATURE_INVALID
    )
    write(files[0], passwords[2].encode(), mtime=2)
    write(files[1], passwords[1].encode(), mtime=2)
    assert await verdict(verifier, token(passwords[2], "next"), START + 2) is None
    assert await verdict(verifier, token(passwords[1], "now"), START + 2) is None
    # A token that was cached by the withdrawn secret is rejected.
    assert (
        await verdict(verifier, token(passwords[0], "before"), START + 2)
        is Reason.TOKEN_SIGNATURE_INVALID
    )


# URLs.


async def test_keys_are_fetched_ahead_of_need(
    site: Site, source: FetchedKeys, verifier: JwtVerifier
) -> None:
    assert site.requests == ["/jwks"]
    assert await verdict(verifier, OLD.token(START), START) is None
    await source.refresh(START + 99)
    assert len(site.requests) == 1
    await source.refresh(START + 100)
    assert len(site.requests) == 2


async def test_key_rotation_under_load_rejects_no_valid_token(
    site: Site, source: FetchedKeys, verifier: JwtVerifier
) -> None:
    async def presented(by: Signer, number: int, now: float) -> Reason | None:
        return await verdict(verifier, by.token(now, sub=f"user-{number}"), now)

    for step, published in enumerate([(OLD,), (OLD, NEW), (OLD, NEW), (NEW,)]):
        now = START + step * (COOL_DOWN_SECONDS + 1)
        site.answers["/jwks"] = Answer(jwks(*published))
        if published == (NEW,):
            await source.refresh(now + 1000)
            now += 1000
        results = await asyncio.gather(
            *(presented(by, number, now) for by in published for number in range(20))
        )
        assert set(results) == {None}
    assert await verdict(verifier, OLD.token(now), now) is Reason.TOKEN_KEY_UNKNOWN


async def test_a_withdrawn_key_ends_cached_tokens(
    site: Site, source: FetchedKeys, verifier: JwtVerifier
) -> None:
    token = OLD.token(START)
    assert await verdict(verifier, token, START) is None
    site.answers["/jwks"] = Answer(jwks(NEW))
    await source.refresh(START + 100)
    assert await verdict(verifier, token, START + 100) is Reason.TOKEN_KEY_UNKNOWN


async def check_that_the_new_set_counts(
    site: Site, document: bytes, *, headers: dict[str, str] | None = None
) -> KeySet:
    """The keys once ``document``, which lists NEW and not OLD, has replaced the set of OLD."""
    fetch = partial(fetch_jwks, Fetcher(), f"{site.url}/jwks", ("ES256", "EdDSA"))
    source = FetchedKeys(ISSUER, fetch, max_stale_seconds=MAX_STALE)
    verifier = JwtVerifier([Issuer(ISSUER, source)])
    await source.refresh(START)
    known = OLD.token(START)
    assert await verdict(verifier, known, START) is None
    site.answers["/jwks"] = Answer(document, headers=headers or {})
    for seconds in (100, 500):
        now = START + seconds
        await source.refresh(now)
        assert await verdict(verifier, known, now) is Reason.TOKEN_KEY_UNKNOWN
        assert await verdict(verifier, OLD.token(now), now) is Reason.TOKEN_KEY_UNKNOWN
        assert await verdict(verifier, NEW.token(now), now) is None
    return source.current(START + 500)


def nested(depth: int) -> object:
    """Arrays within each other."""
    value: object = []
    for _ in range(depth - 1):
        value = [value]
    return value


OTHER = signer("odd").jwk()


@pytest.mark.parametrize(
    "odd",
    [
        ODD,
        OTHER | {"y": None},
        OTHER | {"d": "AA"},
        {"kty": "oct", "k": "AAAA", "kid": "odd"},
        {"kty": "AKP", "alg": "ML-DSA-44", "kid": "odd", "pub": "AA"},
        "odd",
        None,
        [],
        7,
        nested(40),
        nested(250),
        {"kty": "XX", "x": nested(40)},
        OTHER | {"x": nested(40)},
        OTHER | {"kid": nested(40)},
        OTHER | {"kid": float("nan")},
        OTHER | {"kid": 10**4000},
        OTHER | {"kid": "\ud800"},
        OTHER | {"alg": float("inf")},
        OTHER | {"alg": 10**4000},
        OTHER | {"alg": {"ES256": True}},
        OTHER | {"kty": ["EC"]},
        OTHER | {"crv": float("-inf")},
        OTHER | {"x": "\ud800"},
        OTHER | {"use": 10**400},
        OTHER | {"key_ops": {"verify": True}},
    ],
)
async def test_a_withdrawn_key_ends_whatever_is_wrong_with_the_new_set(
    site: Site, odd: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    keys = await check_that_the_new_set_counts(site, jwks(NEW, odd=[odd]))
    assert [key.kid for key in keys.keys] == ["new"]
    assert caplog.text.count("skipped a key: keys[1]") == 1


ENTRY = json.dumps(OTHER)


@pytest.mark.parametrize(
    "odd",
    [
        ENTRY[:-1] + ', "kid": "old"}',
        ENTRY[:-1] + ', "ext": {"a": 1, "a": 2}, "ext": 1}',
        ENTRY.replace('"odd"', '"clé"'),
        ENTRY.replace('"odd"', '"o\nd"').replace('"ES256"', '"ES\n256"'),
    ],
)
async def test_a_withdrawn_key_ends_though_an_entry_is_not_json_of_unicode(
    site: Site, odd: str
) -> None:
    document = f'{{"keys": [{json.dumps(NEW.jwk())}, {odd}]}}'.encode("latin-1")
    keys = await check_that_the_new_set_counts(site, document)
    assert [key.kid for key in keys.keys] == ["new"]
    assert [str(entry).split(" ")[0] for entry in keys.skipped] == ["keys[1]"]


@pytest.mark.parametrize(
    "member",
    [
        '"x5c": ["MII\nMII\r\n\tMII"]',
        '"x5c": ["~~", 7, null]',
        '"x5c": ' + "[" * 40 + "]" * 40,
        '"nbf": NaN',
        '"nbf": -Infinity',
        '"nbf": ' + "9" * 5000,
        '"nbf": 1e999',
        '"name": "\\ud800"',
        '"name": "clé"',
        '"ext": {"a": 1, "a": 2}',
    ],
)
async def test_what_is_not_understood_of_a_key_is_ignored(site: Site, member: str) -> None:
    entry = f"{ENTRY[:-1]}, {member}}}"
    document = f'{{"keys": [{json.dumps(NEW.jwk())}, {entry}]}}'.encode("latin-1")
    keys = await check_that_the_new_set_counts(site, document)
    assert [key.kid for key in keys.keys] == ["new", "odd"]


@pytest.mark.parametrize(
    "member",
    [
        '"ext": 1, "ext": 2',
        '"ext": {"keys": [], "keys": []}',
        '"ext": ' + "[" * 255 + "]" * 255,
        '"ext": "\\udfff"',
        '"ext": "clé"',
        '"ext": NaN',
        '"ext": ' + "9" * 5000,
        '"Keys": null',
    ],
)
async def test_what_is_not_understood_of_a_set_is_ignored(site: Site, member: str) -> None:
    document = f'{{{member}, "keys": [{json.dumps(NEW.jwk())}]}}'.encode("latin-1")
    await check_that_the_new_set_counts(site, document)


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]
)
async def test_a_set_is_read_in_any_encoding_of_unicode(site: Site, encoding: str) -> None:
    await check_that_the_new_set_counts(site, jwks(NEW).decode().encode(encoding))


def test_half_a_character_shifts_nothing_that_follows_it() -> None:
    """In UTF-16, half of a surrogate pair read as a single byte would make members of a string."""
    string = b"\xd8\x00" + '"}, {"kid":"evil"}, {"note":"'.encode("utf-16-le") + b"\x00\xd8A\x00"
    document = '{"keys":[{"note":"'.encode("utf-16-be") + string + '"}]}'.encode("utf-16-be")
    assert "evil" in document.decode("utf-16-be", "surrogateescape")
    (entry,) = parse_jwk_set(document)
    assert isinstance(entry, dict)
    assert [*entry] == ["note"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Type", "text/html; charset=utf-16"),
        ("Content-Type", "application/octet-stream"),
        ("Content-Type", ""),
        ("Content-Encoding", "UTF-8"),
        ("Content-Encoding", "aws-chunked"),
    ],
)
async def test_a_set_is_read_whatever_its_content_type(site: Site, name: str, value: str) -> None:
    await check_that_the_new_set_counts(site, jwks(NEW), headers={name: value})


@pytest.mark.parametrize(("before", "after"), [("\r\n\t ", ""), ("", " \t\r\n")])
async def test_white_space_around_a_set_is_ignored(site: Site, before: str, after: str) -> None:
    document = before.encode() + jwks(NEW) + after.encode()
    await check_that_the_new_set_counts(site, document)


async def test_a_set_without_a_usable_key_ends_all_tokens(
    site: Site, source: FetchedKeys, verifier: JwtVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    token = OLD.token(START, ttl_seconds=3600)
    assert await verdict(verifier, token, START) is None
    for step, content in enumerate((jwks(odd=[ODD]), jwks(), b'{"keys": null}')):
        now = START + 400 * step
        site.answers["/jwks"] = Answer(jwks(OLD))
        await source.refresh(now)
        assert await verdict(verifier, token, now) is None
        site.answers["/jwks"] = Answer(content)
        await source.refresh(now + 300)
        # The issuer has responded: it has no such key. This is no outage.
        assert await verdict(verifier, token, now + 300) is Reason.TOKEN_KEY_UNKNOWN
        assert source.current(now + 300).keys == ()
    assert "no key is left" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b'{"Keys": []}',
        b'{"keys": {}}',
        b'{"keys": "[]"}',
        b'{"keys": [], "keys": []}',
        b'{"keys": null, "keys": null}',
        b"\xff",
        b"\xff\xfe\x00",
        jwks(NEW)[:-1],
        jwks(NEW) + b"\0",
        jwks(NEW) + jwks(NEW),
        b"\xef\xbb\xbf\xef\xbb\xbf" + jwks(NEW),
        jwks(NEW, odd=[nested(255)]),
        b'{"keys": ' + b"[" * 200_000,
        jwks(NEW) + b" " * fetching.MAX_DOCUMENT_BYTES,
    ],
    ids=lambda content: repr(content[:10]),  # the rest has a key that is new each time
)
async def test_what_is_no_jwk_set_is_an_outage(
    site: Site, source: FetchedKeys, verifier: JwtVerifier, content: bytes
) -> None:
    token = OLD.token(START)
    assert await verdict(verifier, token, START) is None
    site.answers["/jwks"] = Answer(content)
    await source.refresh(START + 100)
    assert await verdict(verifier, token, START + 100) is None
    assert await verdict(verifier, token, START + MAX_STALE + 1) is Reason.KEYS_UNAVAILABLE


async def test_a_name_that_comes_back_with_another_key_is_another_key(
    site: Site, source: FetchedKeys, verifier: JwtVerifier
) -> None:
    token = OLD.token(START)
    assert await verdict(verifier, token, START) is None
    site.answers["/jwks"] = Answer(jwks(signer("old")))
    await source.refresh(START + 100)
    assert await verdict(verifier, token, START + 100) is Reason.TOKEN_SIGNATURE_INVALID


@pytest.mark.parametrize(
    "kid",
    ["../../../etc/passwd", "/dev/null", "old\x00", "OLD", " old", "' OR '1'='1", "http://evil/x"],
)
async def test_kid_traversal_and_injection(site: Site, verifier: JwtVerifier, kid: str) -> None:
    token = Signer(kid, OLD.key).token(START)
    assert await verdict(verifier, token, START) is Reason.TOKEN_KEY_UNKNOWN
    assert set(site.requests) == {"/jwks"}


async def test_a_jwks_flood_is_one_fetch_in_a_cool_down(
    site: Site, source: FetchedKeys, verifier: JwtVerifier
) -> None:
    strangers = [signer(f"stranger-{number}") for number in range(4)]
    now = START + COOL_DOWN_SECONDS
    results = await asyncio.gather(
        *(verdict(verifier, by.token(now, sub=f"s{n}"), now) for by in strangers for n in range(25))
    )
    assert set(results) == {Reason.TOKEN_KEY_UNKNOWN}
    assert len(site.requests) == 2
    assert await verdict(verifier, NEW.token(now), now + 1) is Reason.TOKEN_KEY_UNKNOWN
    assert len(site.requests) == 2
    assert await verdict(verifier, NEW.token(now), now + COOL_DOWN_SECONDS) is not None
    assert len(site.requests) == 3


async def test_fetches_for_unknown_keys_are_limited_though_their_issuer_is_unreachable(
    site: Site, verifier: JwtVerifier
) -> None:
    site.answers["/jwks"] = Answer(status=503)
    usage = Usages(CallerLimits(rejected_tokens_burst=3), lambda: START).of("caller")
    now = START + COOL_DOWN_SECONDS

    async def checked(token: str) -> Reason | None:
        try:
            with usage.check():
                await verifier.verify(BearerToken(token), resource=RESOURCE, now=now)
        except AuthError as error:
            return error.reason
        return None

    reasons = [await checked(NEW.token(now, sub=str(number))) for number in range(5)]
    assert reasons == [Reason.KEYS_UNAVAILABLE] * 3 + [Reason.OVERLOADED] * 2
    assert len(site.requests) == 2


async def test_a_flood_leaves_known_tokens_answering_while_the_fetch_hangs(
    site: Site, verifier: JwtVerifier
) -> None:
    token = OLD.token(START)
    assert await verdict(verifier, token, START) is None
    site.arrived.clear()
    site.hold.clear()
    now = START + COOL_DOWN_SECONDS
    waiting = asyncio.create_task(verdict(verifier, NEW.token(now), now))
    assert await asyncio.to_thread(site.arrived.wait, 10)
    assert await verdict(verifier, token, now) is None
    assert await verdict(verifier, OLD.token(now, sub="bob"), now) is None
    site.answers["/jwks"] = Answer(jwks(OLD, NEW))
    site.hold.set()
    assert await waiting is None


async def test_a_cancelled_caller_does_not_cancel_the_fetch_for_the_others(
    site: Site, verifier: JwtVerifier
) -> None:
    site.answers["/jwks"] = Answer(jwks(OLD, NEW))
    site.arrived.clear()
    site.hold.clear()
    now = START + COOL_DOWN_SECONDS
    first = asyncio.create_task(verdict(verifier, NEW.token(now), now))
    second = asyncio.create_task(verdict(verifier, NEW.token(now, sub="bob"), now))
    assert await asyncio.to_thread(site.arrived.wait, 10)
    first.cancel()
    site.hold.set()
    assert await second is None
    assert len(site.requests) == 2


async def test_an_outage_is_bridged_for_so_long_and_is_no_rejection(
    site: Site, source: FetchedKeys, verifier: JwtVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    token = OLD.token(START, ttl_seconds=MAX_STALE * 3)
    site.answers["/jwks"] = Answer(status=503)
    await source.refresh(START + 100)
    assert "the old ones stay in use" in caplog.messages[-1]
    assert await verdict(verifier, token, START + 100) is None
    # While its issuer is unavailable, nothing shows whether a key is new.
    stranger = NEW.token(START + 200)
    assert await verdict(verifier, stranger, START + 200) is Reason.KEYS_UNAVAILABLE
    assert await verdict(verifier, token, START + MAX_STALE) is None
    assert await verdict(verifier, token, START + MAX_STALE + 1) is Reason.KEYS_UNAVAILABLE
    await source.refresh(START + MAX_STALE + 10)
    assert "and there are no others" in caplog.messages[-1]
    site.answers["/jwks"] = Answer(jwks(OLD))
    await source.refresh(START + MAX_STALE + 300)
    assert await verdict(verifier, token, START + MAX_STALE + 300) is None


async def test_a_lasting_outage_is_logged_once_and_so_are_its_end_and_a_new_cause(
    site: Site, source: FetchedKeys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "authsvc.tokens.sources")
    now = START

    async def logged(answer: Answer) -> list[str]:
        nonlocal now
        caplog.clear()
        site.answers["/jwks"] = answer
        for _ in range(3):
            now += 100
            await source.refresh(now)
        return caplog.messages

    for _ in range(2):
        for status in (404, 503):
            (line,) = await logged(Answer(status=status))
            assert f"{site.url}/jwks" in line
            assert str(status) in line
        assert await logged(Answer(jwks(OLD))) == [f"keys of {ISSUER} are fetched again"]


async def test_keys_are_fetched_before_trust_in_them_ends(site: Site) -> None:
    # The issuer calls its keys fresh for 100 seconds; we trust them for 30 without a fetch.
    fetch = partial(fetch_jwks, Fetcher(), f"{site.url}/jwks", ("ES256",))
    source = FetchedKeys(ISSUER, fetch, max_stale_seconds=30)
    for seconds in range(0, 120, 2):
        await source.refresh(START + seconds)
        source.current(START + seconds)
    assert 4 <= len(site.requests) <= 9


async def test_without_any_keys_they_are_unavailable(site: Site) -> None:
    site.answers["/jwks"] = Answer(status=500)
    fetch = partial(fetch_jwks, Fetcher(), f"{site.url}/jwks", ("ES256",))
    source = FetchedKeys(ISSUER, fetch, max_stale_seconds=MAX_STALE)
    verifier = JwtVerifier([Issuer(ISSUER, source)])
    assert not await verifier.refresh(START)
    assert await verdict(verifier, OLD.token(START), START) is Reason.KEYS_UNAVAILABLE
    site.answers["/jwks"] = Answer(jwks(OLD))
    assert not await verifier.refresh(START + 1)
    assert await verifier.refresh(START + 5)
    assert await verdict(verifier, OLD.token(START), START + 5) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("", 300), ("max-age=120", 120), ("public, max-age=5", 60), ("max-age=99999999", 3600)],
)
async def test_how_long_keys_are_fresh(site: Site, header: str, seconds: float) -> None:
    site.answers["/jwks"] = Answer(jwks(OLD), headers={"Cache-Control": header})
    fetched = await fetch_jwks(Fetcher(), f"{site.url}/jwks", ("ES256",))
    assert fetched.max_age_seconds == seconds


# Responses of a hostile or broken server.


async def refused(fetch: Callable[[], object], error: type[Exception] = KeyLoadError) -> str:
    with pytest.raises(error) as caught:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await fetch()  # type: ignore[misc] # any of the fetches
    return str(caught.value)


async def test_redirects_are_not_followed(site: Site) -> None:
    for status in (301, 302, 303, 307, 308):
        site.answers["/jwks"] = Answer(status=status, headers={"Location": f"{site.url}/other"})
        site.answers["/other"] = Answer(jwks(OLD))
        assert f"answered {status}" in await refused(
            partial(fetch_jwks, Fetcher(), f"{site.url}/jwks", ("ES256",))
        )
    assert "/other" not in site.requests


async def test_a_huge_body_is_not_read(site: Site) -> None:
    site.answers["/jwks"] = Answer(b" " * (fetching.MAX_DOCUMENT_BYTES + 1))
    fetch = partial(fetch_jwks, Fetcher(), f"{site.url}/jwks", ("ES256",))
    assert "longer than" in await refused(fetch)


async def test_a_slow_drip_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "FETCH_TIMEOUT_SECONDS", 0.3)
    never = threading.Event()
    site.answers["/jwks"] = Answer(until=never)
    fetch = partial(fetch_jwks, Fetcher(), f"{site.url}/jwks", ("ES256",))
    assert "no answer in" in await refused(fetch)
    never.set()


async def test_ten_thousand_keys_are_too_many(site: Site) -> None:
    keys = [{**OLD.jwk(), "kid": str(number)} for number in range(10_000)]
    site.answers["/jwks"] = Answer(json.dumps({"keys": keys}).encode())
    fetch = partial(fetch_jwks, Fetcher(), f"{site.url}/jwks", ("ES256",))
    assert "longer than" in await refused(fetch)
    site.answers["/jwks"] = Answer(json.dumps({"keys": keys[:2_000]}).encode())
    fetched = (await fetch()).keys
    assert [key.kid for key in fetched.keys] == [str(number) for number in range(100)]
    (rest,) = fetched.skipped
    assert str(rest) == "keys[100] to keys[1999]: are not loaded: more than 100 keys"


@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example/jwks",
        "ftp://idp.example/jwks",
        "file:///etc/passwd",
        "https://user:password@idp.example/jwks",
        "//idp.example/jwks",
        "https://",
        "https://[::1",
        "http://localhost.evil.example/jwks",
        "http://127.0.0.1.evil.example/jwks",
    ],
)
def test_urls_that_are_not_fetched(url: str) -> None:
    with pytest.raises(FetchError):
        check_url(url)


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - nothing is bound
        "224.0.0.1",
        "[fd00::1]",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "[::ffff:10.0.0.1]",
    ],
)
async def test_private_addresses_are_not_connected_to(address: str) -> None:
    fetch = partial(Fetcher().get, f"https://{address}/jwks")
    assert "is not public" in await refused(fetch, FetchError)


async def test_a_name_that_leads_to_a_private_address_is_not_connected_to(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()

    async def resolved(host: str, port: int, **how: object) -> list[object]:
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(loop, "getaddrinfo", resolved)
    fetch = partial(Fetcher().get, "https://idp.example/jwks")
    assert "is not public" in await refused(fetch, FetchError)
    assert site.requests == []


# Discovery.


def publish(site: Site, path: str, issuer: str, jwks_uri: str) -> None:
    document = json.dumps({"issuer": issuer, "jwks_uri": jwks_uri})
    site.answers[path] = Answer(document.encode())


@pytest.mark.parametrize(
    "path",
    [
        "/tenant/.well-known/openid-configuration",
        "/.well-known/openid-configuration/tenant",
        "/.well-known/oauth-authorization-server/tenant",
    ],
)
async def test_metadata_names_the_keys(site: Site, path: str) -> None:
    issuer = f"{site.url}/tenant"
    publish(site, path, issuer, f"{site.url}/jwks")
    fetched = await fetch_discovered(Fetcher(), issuer, ("ES256",))
    assert [key.kid for key in fetched.keys.keys] == ["old"]


@pytest.mark.parametrize(
    "member",
    [
        '"ext": 1, "ext": 2',
        '"ext": ' + "[" * 255 + "]" * 255,
        '"ext": NaN',
        '"ext": ' + "9" * 5000,
        '"ext": "\\ud800"',
        '"ext": "clé"',
        '"ext": "two\nlines"',
    ],
)
async def test_what_is_not_understood_of_metadata_is_ignored(site: Site, member: str) -> None:
    document = f'{{{member}, "issuer": "{site.url}", "jwks_uri": "{site.url}/jwks"}}'
    for encoding in ("latin-1", "utf-16"):
        site.answers["/.well-known/openid-configuration"] = Answer(document.encode(encoding))
        fetched = await fetch_discovered(Fetcher(), site.url, ("ES256",))
        assert [key.kid for key in fetched.keys.keys] == ["old"]


@pytest.mark.parametrize("name", ["issuer", "jwks_uri"])
async def test_what_is_understood_of_metadata_is_there_once(site: Site, name: str) -> None:
    metadata = {"issuer": site.url, "jwks_uri": f"{site.url}/jwks"}
    document = f'{{"{name}": "{metadata[name]}", {json.dumps(metadata)[1:]}'
    site.answers["/.well-known/openid-configuration"] = Answer(document.encode())
    fetch = partial(fetch_discovered, Fetcher(), site.url, ("ES256",))
    assert f"has a member twice: {name}" in await refused(fetch)


async def test_metadata_of_another_issuer_is_rejected(site: Site) -> None:
    path = "/.well-known/openid-configuration"
    for other in (f"{site.url}/", "https://evil.example", site.url.upper()):
        publish(site, path, other, f"{site.url}/jwks")
        fetch = partial(fetch_discovered, Fetcher(), site.url, ("ES256",))
        assert f"metadata of issuer {other!r}, which is not {site.url!r}" in await refused(fetch)


@pytest.mark.parametrize("url", ["https://user:hush/", "http://as.example?client_secret=hush"])
def test_a_url_that_is_not_fetched_is_not_quoted(url: str) -> None:
    with pytest.raises(FetchError) as caught:
        check_url(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("uri", ["http://idp.example/jwks", "file:///etc/passwd"])
async def test_metadata_cannot_name_any_url(site: Site, uri: str) -> None:
    publish(site, "/.well-known/openid-configuration", site.url, uri)
    fetch = partial(fetch_discovered, Fetcher(), site.url, ("ES256",))
    assert "not an https URL" in await refused(fetch)


@pytest.mark.parametrize(
    "uri",
    [
        "https://a..b/jwks",
        "https://exa mple/jwks",
        "https://idp.example:99999/jwks",
        "https://idp.example:x/jwks",
        f"https://{'a' * 300}.example/jwks",
        "https://idp.invalid/jwks",
        "https://\u2603.invalid/jwks",
        "https://idp.example\n.evil/jwks",
        "https://[::1/jwks",
        "",
    ],
)
async def test_metadata_without_a_usable_url_is_an_error_of_ours(site: Site, uri: str) -> None:
    publish(site, "/.well-known/openid-configuration", site.url, uri)
    await refused(partial(fetch_discovered, Fetcher(), site.url, ("ES256",)))


async def test_a_jwks_uri_that_is_too_long_is_not_quoted(site: Site) -> None:
    publish(site, "/.well-known/openid-configuration", site.url, f"{site.url}/{'a' * 500_000}")
    failure = await refused(partial(fetch_discovered, Fetcher(), site.url, ("ES256",)))
    assert "its jwks_uri has more than 2048 characters" in failure
    assert len(failure) < 500


async def test_metadata_cannot_name_a_private_address(site: Site) -> None:
    publish(
        site, "/.well-known/openid-configuration", site.url, "https://169.254.169.254/latest/meta"
    )
    fetch = partial(fetch_discovered, Fetcher(), site.url, ("ES256",))
    assert "is not public" in await refused(fetch)


def test_where_metadata_is() -> None:
    assert metadata_urls("https://idp.example/a/b") == (
        "https://idp.example/.well-known/oauth-authorization-server/a/b",
        "https://idp.example/.well-known/openid-configuration/a/b",
        "https://idp.example/a/b/.well-known/openid-configuration",
    )
    for issuer in ("https://idp.example", "https://idp.example/"):
        assert metadata_urls(issuer) == (
            "https://idp.example/.well-known/oauth-authorization-server",
            "https://idp.example/.well-known/openid-configuration",
        )


async def test_the_clock_of_the_server_of_keys(site: Site) -> None:
    fetch = partial(fetch_jwks, Fetcher(), f"{site.url}/jwks", ("ES256",))
    source = FetchedKeys(ISSUER, fetch, max_stale_seconds=MAX_STALE)
    assert source.clock_offset_seconds is None
    now = START
    cases: list[tuple[float, dict[str, str], float]] = [
        (600, {}, 600),
        (-600, {}, -600),
        (-600, {"Age": "600"}, 0),
        (0, {}, 0),
    ]
    for theirs, headers, expected in cases:
        site.clock = partial(float, now + theirs)
        site.answers["/jwks"] = Answer(jwks(OLD), headers=headers)
        await source.refresh(now)
        # The request takes time, which the clock of the test does not show.
        assert source.clock_offset_seconds == pytest.approx(expected, abs=TIMEOUT_SECONDS)
        now += 1000
    site.date = None
    await source.refresh(now)
    assert source.clock_offset_seconds is None
    assert source.failure == ""


async def test_the_clock_of_a_server_that_fails_is_unknown(site: Site) -> None:
    fetch = partial(fetch_jwks, Fetcher(), f"{site.url}/jwks", ("ES256",))
    source = FetchedKeys(ISSUER, fetch, max_stale_seconds=MAX_STALE)
    await source.refresh(START)
    assert source.clock_offset_seconds is not None
    site.answers["/jwks"] = Answer(status=503)
    await source.refresh(START + 1000)
    assert source.clock_offset_seconds is None
