"""The proxy of a setting: HTTP CONNECT, through which TLS goes from end to end."""

from __future__ import annotations

import ssl
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

import httpx2

from authsvc.net.urls import read


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        url: scheme, host and port, for messages too.
        auth: user and password for it (Basic); None without.
    """

    url: str
    auth: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def is_tls(self) -> bool:
        """Whether it is spoken to by TLS."""
        return self.url.startswith("https:")

    def url_with_password(self) -> str:
        """It as other libraries take it. Not for messages."""
        if self.auth is None:
            return self.url
        user = ":".join(quote(part, safe="") for part in self.auth)
        return self.url.replace("://", f"://{user}@", 1)

    def authorization(self) -> str:
        """The header line by which a client authenticates itself to it; empty without ``auth``."""
        if self.auth is None:
            return ""
        return f"Proxy-Authorization: Basic {b64encode(':'.join(self.auth).encode()).decode()}\r\n"

    def transport(self, context: ssl.SSLContext) -> httpx2.Proxy:
        """It as httpx2 takes it."""
        return httpx2.Proxy(self.url, auth=self.auth, ssl_context=context if self.is_tls else None)


def read_proxy(text: str) -> Proxy:
    """The proxy of ``http://[user[:password]@]host[:port]``, or https.

    Raises:
        ValueError: it is no such URL. The message quotes nothing of it: it may hold a password.
    """
    rule = "is a URL like http://proxy.example.com:3128: http or https, without path and query"
    try:
        url = read(text)
    except ValueError as error:
        raise ValueError(f"{rule} (it {error})") from None
    if url.scheme.lower() not in {"http", "https"}:
        raise ValueError(f"{rule} (it is neither http nor https)")
    if url.path.strip("/") or url.query is not None or url.fragment is not None:
        raise ValueError(f"{rule} (it has a path, a query or a fragment)")
    auth = None
    if url.user is not None:
        user, _, password = url.user.partition(":")
        auth = unquote(user), unquote(password)
    return Proxy(url.canonical().removesuffix("/"), auth)
