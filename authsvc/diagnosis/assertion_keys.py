"""The keys of assertions: whether they are published, and whether the stored ones can be used."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial

import httpx2

from authsvc.assertions.jwks_endpoint import JWKS_PATH
from authsvc.assertions.key_ring import DOCUMENT_NAME
from authsvc.assertions.key_set import KeySet, KeySetFormatError
from authsvc.assertions.keys import ALGORITHM
from authsvc.assertions.sealing import SealError
from authsvc.client import ClientTls
from authsvc.client.tls_context import context_of
from authsvc.diagnosis import Check, Report
from authsvc.diagnosis.link import UNANSWERED
from authsvc.diagnosis.listening import name_of, own_certificate
from authsvc.net.addresses import from_here, is_local
from authsvc.net.failures import cause_of
from authsvc.server.assertions import checked_seal
from authsvc.server.config import AssertionSettings, Settings, TlsSettings
from authsvc.stores.documents import MAX_DOCUMENT_BYTES, Document
from authsvc.tokens.jwk_set import parse_jwks
from authsvc.tokens.keys import KeyLoadError

_NOT_STARTED = (
    "An authsvc that runs goes on with the keys that it has read; one that is started now fails to "
    "start."
)
_NOT_PUBLISHED = (
    "Servers ask for the keys at this address: start authsvc, or correct assertions.listen. A "
    "server that is started meanwhile rejects each assertion; others do once their cached keys are "
    "too old."
)


class _Keys:
    """What the store has.

    Attributes:
        stored: ``kid`` of each key; None where that is not known.
    """

    stored: list[str] | None = None


def checks(settings: Settings) -> list[Check]:
    """The checks of ``[assertions]``."""
    table, keys = settings.assertions, _Keys()
    if table is None:
        return []
    stored = None
    if table.encryption_key_file is not None:
        look = partial(_look_at_stored, settings=settings, table=table, keys=keys)
        stored = Check("assertions", look, "See the findings on the store.", "the stored keys")
    published = Check(
        "assertions",
        partial(_look_at_published, settings=settings, table=table, keys=keys),
        f"{UNANSWERED} {_NOT_PUBLISHED}",
        _url_of(settings, table),
        after=stored,
    )
    return [published] if stored is None else [stored, published]


def _url_of(settings: Settings, table: AssertionSettings) -> str:
    scheme = "http" if _tls_of(settings, table) is None else "https"
    return f"{scheme}://{from_here(table.listen)}{JWKS_PATH}"


def _tls_of(settings: Settings, table: AssertionSettings) -> TlsSettings | None:
    return None if is_local(table.listen) else settings.tls


async def _look_at_stored(
    report: Report, *, settings: Settings, table: AssertionSettings, keys: _Keys
) -> None:
    seal = checked_seal(table)
    found = await _stored(settings)
    if found is None:
        report.ok("the store has no keys yet: authsvc makes them when it starts")
        return
    try:
        keys.stored = KeySet.decoded(seal.open(DOCUMENT_NAME, found.content)).key_ids
    except (SealError, KeySetFormatError) as error:
        report.fail(f"encryption_key_file: {error}", _NOT_STARTED)
        return
    report.ok(f"{table.encryption_key_file} decrypts the stored keys: {len(keys.stored)}")


async def _stored(settings: Settings) -> Document | None:
    """The stored keys, encrypted.

    Raises:
        AuthError: STORE_UNAVAILABLE.
    """
    store = settings.store
    if store.kind != "redis":
        from authsvc.stores.sqlite.reader import read_document

        return await asyncio.to_thread(read_document, store.path, DOCUMENT_NAME)
    # Imported here: the client is slow to import.
    from authsvc.stores.redis.documents import DocumentStrings
    from authsvc.stores.redis.link import Link
    from authsvc.stores.redis.partitions import Partitions

    link = Link(store.redis_server())
    try:
        base = Partitions(store.prefix, count=1, cached_sessions=1).first.base
        return await DocumentStrings(link, base).get(DOCUMENT_NAME)
    finally:
        await link.close()


async def _look_at_published(
    report: Report, *, settings: Settings, table: AssertionSettings, keys: _Keys
) -> None:
    url = _url_of(settings, table)
    try:
        status, content = await _get(url, _tls_of(settings, table))
    except httpx2.HTTPError as error:
        report.fail(f"{url}: {cause_of(error) or type(error).__name__}", _NOT_PUBLISHED)
        return
    if status == httpx2.codes.SERVICE_UNAVAILABLE:
        report.fail(
            f"{url} answers {status}: authsvc has no keys that are new enough",
            "Its log has the cause; see the findings on the store.",
        )
        return
    try:
        published = [it.kid for it in parse_jwks(content, [ALGORITHM]).keys]
    except KeyLoadError:
        report.fail(
            f"{url} answers {status}, without a JWK Set",
            "Another server listens there: correct assertions.listen, or end it.",
        )
        return
    shown = f"{url}: keys for servers to fetch: {len(published)}"
    if not published or (keys.stored is not None and not {*keys.stored} <= {*published}):
        report.fail(
            f"{shown}, which are not those of the store",
            "Another authsvc listens there, with another store; or this one cannot read its own: "
            "its log has the cause.",
        )
        return
    report.ok(shown)


async def _get(url: str, tls: TlsSettings | None) -> tuple[int, bytes]:
    """Status and content.

    Raises:
        HTTPError: there is no answer.
    """
    context: ssl.SSLContext | bool = True
    name = ""
    if tls is not None:
        # The certificate itself is expected, from any authority.
        context = context_of(ClientTls(tls.certificate_file).authorities(), None)
        name = name_of(own_certificate(tls))
    content = bytearray()
    async with (
        httpx2.AsyncClient(verify=context, trust_env=False, timeout=None) as http,
        http.stream("GET", url, extensions={"sni_hostname": name} if name else {}) as answer,
    ):
        async for part in answer.aiter_bytes():
            content += part
            if len(content) > MAX_DOCUMENT_BYTES:
                break
    return answer.status_code, bytes(content)
