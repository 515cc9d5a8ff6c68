"""Where a receiver of signals listens, and what it answers."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

import httpx2

from authsvc.client import ClientTls
from authsvc.client.tls_context import context_of
from authsvc.diagnosis.listening import name_of, own_certificate
from authsvc.net.addresses import from_here, is_local
from authsvc.net.failures import cause_of
from authsvc.server.config import Settings, SignalSettings, TlsSettings
from authsvc.signals.endpoint import EVENTS_PATH

MAX_ANSWER_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where a receiver listens.

    Attributes:
        url: of its pushes.
        context: for its certificate; True for the system's authorities.
        name: that its certificate is for; empty for that of the URL.
    """

    url: str
    context: ssl.SSLContext | bool = True
    name: str = ""

    async def answer(self, method: str, content: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """The status and the body of its answer.

        Raises:
            OSError: there is no answer; the text says why.
        """
        extensions = {"sni_hostname": self.name} if self.name else {}
        try:
            async with (
                httpx2.AsyncClient(verify=self.context, trust_env=False, timeout=None) as http,
                http.stream(
                    method, self.url, content=content, headers=headers, extensions=extensions
                ) as answer,
            ):
                body = bytearray()
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > MAX_ANSWER_BYTES:
                        break
                return answer.status_code, bytes(body)
        except httpx2.HTTPError as error:
            raise OSError(f"{self.url}: {cause_of(error) or type(error).__name__}") from None


def receiver_of(settings: Settings, table: SignalSettings) -> Receiver:
    """The receiver of a configuration, as this machine reaches it.

    Raises:
        ConfigError: the certificate of ``[tls]`` cannot be read.
        OSError: it is no PEM.
    """
    tls = None if is_local(table.listen) else settings.tls
    url = f"{'http' if tls is None else 'https'}://{from_here(table.listen)}{EVENTS_PATH}"
    return Receiver(url) if tls is None else Receiver(url, *_pinned(tls))


def _pinned(tls: TlsSettings) -> tuple[ssl.SSLContext, str]:
    # The certificate itself is expected, from any authority.
    context = context_of(ClientTls(tls.certificate_file).authorities(), None)
    return context, name_of(own_certificate(tls))
