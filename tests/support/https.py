"""HTTPS servers with certificates of a private authority, and a proxy that tunnels to them."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import socketserver
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from authsvc.net.certificates import SignedCertificate, issue, make_authority
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.sockets import serving_tcp


@dataclass
class PrivateAuthority:
    """An authority that no system trusts.

    Attributes:
        folder: where its files are.
        authority: itself.
    """

    folder: Path
    authority: SignedCertificate = field(default_factory=lambda: make_authority("CA", days=1))

    def file(self, name: str = "ca.pem") -> Path:
        """A file of its certificate."""
        path = self.folder / name
        path.write_bytes(self.authority.certificate_pem())
        return path

    def server(self, *hosts: str, days: float = 1) -> ssl.SSLContext:
        """What a server of these names and addresses speaks TLS with."""
        return serving_context(self.folder, issue(self.authority, "s", _names(hosts), days=days))

    def signed(self, *hosts: str) -> SignedCertificate:
        """A server's certificate, for servers of other programs."""
        return issue(self.authority, "s", _names(hosts), days=1)

    def client(self, name: str = "authsvc", *, days: float = 1) -> SignedCertificate:
        """A client's certificate."""
        return issue(self.authority, name, _names((name,)), days=days, client=True)

    def demanding(self, *hosts: str, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """As ``server``, for a server that requires a certificate of this authority.

        Args:
            hosts: its names and addresses.
            version: the one of TLS that it speaks; None for any.
        """
        context = self.server(*hosts)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.authority.certificate_pem().decode())
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context


def serving_context(folder: Path, signed: SignedCertificate) -> ssl.SSLContext:
    """What a server with a certificate speaks TLS with."""
    path = folder / "server.pem"
    path.write_bytes(signed.key_pem() + signed.certificate_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@dataclass
class TlsSite:
    """An HTTPS server.

    Attributes:
        url: where it is, by ``localhost``.
        port: its port.
        answers: by path; 404 for others.
        requests: method and path of what was asked for, in order.
        bodies: what was posted, in order.
        peers: the certificate of each request's client, DER; None for none.
        redirects: by path, where to; instead of an answer.
    """

    port: int = 0
    answers: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    peers: list[bytes | None] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://localhost:{self.port}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            return
        method, path, _ = head.split(" ", 2)
        self.requests.append(f"{method} {path}")
        self.peers.append(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        length = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
        self.bodies.append(await reader.readexactly(int(length or "0")))
        status = b"200 OK" if path in self.answers else b"404 Not Found"
        body = self.answers.get(path, b"")
        if path in self.redirects:
            status = b"307 Temporary Redirect\r\nLocation: " + self.redirects[path].encode()
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()


@asynccontextmanager
async def serving_https(context: ssl.SSLContext) -> AsyncIterator[TlsSite]:
    """Run it on loopback."""
    site = TlsSite()
    async with serving_tcp(site.answer, tls=context) as (_, port):
        site.port = port
        yield site


@contextmanager
def alerting(context: ssl.SSLContext) -> Iterator[str]:
    """A server that ends handshakes it rejects with an alert, as most do: asyncio's does without.
    It answers nothing.

    Yields:
        Its URL.
    """

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(TIMEOUT_SECONDS)
            with suppress(OSError):
                context.wrap_socket(self.request.dup(), server_side=True)
            # The alert arrives, whatever of the client's request is left unread.
            with suppress(OSError):
                self.request.shutdown(socket.SHUT_WR)
                while self.request.recv(65536):
                    pass

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"https://localhost:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Tunnels:
    """A proxy that does CONNECT.

    Attributes:
        url: where it is.
        heads: what it was asked for, in order.
        received: the bytes that clients sent through its tunnels.
        answer: the status line with which it rejects; empty to tunnel.
        peers: the certificate of each client, DER; None for none, or without TLS.
        hosts: where it connects for a host: another host, or ``host:port`` in place of any port;
            by default the host itself.
    """

    url: str = ""
    heads: list[str] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    answer: bytes = b""
    peers: list[bytes | None] = field(default_factory=list)
    hosts: dict[str, str] = field(default_factory=dict)

    @property
    def targets(self) -> list[str]:
        """The request lines."""
        return [head.partition("\r\n")[0] for head in self.heads]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One tunnel."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        tls = writer.get_extra_info("ssl_object")
        self.peers.append(tls and tls.getpeercert(binary_form=True))
        if self.answer or not head.startswith("CONNECT "):
            writer.write(b"HTTP/1.1 %b\r\n\r\n" % (self.answer or b"405 CONNECT only"))
            await writer.drain()
            return
        host, _, port = head.split(" ")[1].rpartition(":")
        other_host, _, other_port = self.hosts.get(host, host).partition(":")
        other_reader, other = await asyncio.open_connection(other_host, int(other_port or port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(
                self._copied(reader, other, self.received),
                self._copied(other_reader, writer, bytearray()),
            )
        finally:
            other.transport.abort()
            with suppress(OSError):
                await other.wait_closed()

    async def _copied(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                seen += data
                writer.write(data)
                await writer.drain()
            writer.close()


@asynccontextmanager
async def tunnelling(context: ssl.SSLContext | None = None) -> AsyncIterator[Tunnels]:
    """Run it on loopback, over TLS where there is a context."""
    proxy = Tunnels()
    async with serving_tcp(proxy.serve, tls=context) as (host, port):
        proxy.url = f"https://localhost:{port}" if context else f"http://{host}:{port}"
        yield proxy


def _names(hosts: tuple[str, ...]) -> list[x509.GeneralName]:
    return [_name(host) for host in hosts or ("localhost", "127.0.0.1")]


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
