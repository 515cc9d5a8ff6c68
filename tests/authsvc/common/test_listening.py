"""Where programs listen: at all addresses of a name with one port, or not at all."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from authsvc.common import listening
from authsvc.common.listening import bound, port_of
from authsvc.common.settings import ConfigError
from authsvc.common.wsgi_serving import served
from authsvc.http_server.listening import listening_sockets
from authsvc.net.addresses import split, with_port
from authsvc.server.listener import listen, new_server
from authsvc.server.workers import _reserved
from tests.support.service import settings_for
from tests.support.tokens import IdentityProvider

pytestmark = pytest.mark.anyio

Program = Callable[[str, Path, IdentityProvider], AbstractAsyncContextManager[str]]
"""Listens on an address while its block runs, and yields it with its port."""


@asynccontextmanager
async def by_grpc(address: str, folder: Path, idp: IdentityProvider) -> AsyncIterator[str]:
    settings = settings_for(folder, idp).model_copy(update={"listen": address})
    server = new_server(settings, shares_port=False)
    address = listen(server, settings, shares_port=False)
    await server.start()
    try:
        yield address
    finally:
        await server.stop(None)


@asynccontextmanager
async def by_http(address: str, _: Path, __: IdentityProvider) -> AsyncIterator[str]:
    with listening_sockets(address) as sockets:
        yield with_port(address, port_of(sockets))


@asynccontextmanager
async def by_wsgi(address: str, _: Path, __: IdentityProvider) -> AsyncIterator[str]:
    async with served(lambda _, start: [], address, name="it", setting="listen") as found:
        yield found


@asynccontextmanager
async def by_workers(address: str, _: Path, __: IdentityProvider) -> AsyncIterator[str]:
    with _reserved(address) as found, bound(found, shares_port=True, backlog=1):
        yield found


PROGRAMS: tuple[Program, ...] = (by_grpc, by_http, by_wsgi, by_workers)


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_name_is_listened_on_at_all_its_addresses(
    program: Program, tmp_path: Path, idp: IdentityProvider
) -> None:
    async with program("localhost:0", tmp_path, idp) as address:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, split(address)[1])).close()


@pytest.mark.parametrize(
    ("host", "place", "named"),
    [
        ("localhost", 0, " (127.0.0.1:{})"),
        ("localhost", 1, " ([::1]:{})"),
        ("[::]", 0, ""),
        ("[::]", 1, ""),
    ],
)
@pytest.mark.parametrize("program", PROGRAMS)
async def test_an_address_that_is_taken_in_part_is_named(
    program: Program, host: str, place: int, named: str, tmp_path: Path, idp: IdentityProvider
) -> None:
    with bound("localhost:0") as sockets:
        # The other one does not listen: it keeps the port free at its address.
        sockets[place].listen()
        port = port_of(sockets)
        with pytest.raises(ConfigError) as caught:
            async with program(f"{host}:{port}", tmp_path, idp):
                pass
    assert str(caught.value) == (
        f"listen: {host}:{port} cannot be listened on: Address already in use"
        f"{named.format(port)}. Choose another address, or stop the process that uses port {port}."
    )


def test_any_port_is_one_that_is_free_at_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    make = listening._socket

    def once(host: str, port: int, *, shares_port: bool, backlog: int | None) -> socket.socket:
        if host == "::1" and not taken:
            taken.append(port)
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return make(host, port, shares_port=shares_port, backlog=backlog)

    monkeypatch.setattr(listening, "_socket", once)
    with bound("localhost:0") as sockets:
        assert len({it.getsockname()[1] for it in sockets}) == 1
        assert port_of(sockets) != taken[0]


def test_an_address_that_the_machine_does_not_have_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of documentation, RFC 5737.
    monkeypatch.setattr(listening, "LOCALHOST", ("192.0.2.1", "127.0.0.1"))
    with bound("LOCALHOST:0") as sockets:
        assert [it.getsockname()[0] for it in sockets] == ["127.0.0.1"]
    with (
        pytest.raises(ConfigError, match=r"x.listen: 192.0.2.1:0 cannot be listened on: Can"),
        bound("192.0.2.1:0", setting="x.listen"),
    ):
        pass


def test_a_name_without_an_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ConfigError, match="a:1 cannot be listened on: Name or"), bound("a:1"):
        pass
