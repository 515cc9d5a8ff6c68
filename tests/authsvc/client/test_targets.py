"""The targets that a client accepts."""

from __future__ import annotations

import pytest

from authsvc.client import AuthClient
from authsvc.client.targets import Endpoint, Name, Targets, endpoints_of, look_up

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("target", "endpoints", "names"),
    [
        ("127.0.0.1:50051", ["127.0.0.1:50051"], []),
        ("authsvc:50051", ["authsvc:50051"], []),
        ("[::1]:50051", ["[::1]:50051"], []),
        ("[fe80::1%eth0]:50051", ["[fe80::1%eth0]:50051"], []),
        ("auth_svc:50051", ["auth_svc:50051"], []),
        ("authsvc.1:50051", ["authsvc.1:50051"], []),
        ("authsvc.internal.:50051", ["authsvc.internal.:50051"], []),
        ("unix:/run/authsvc.sock", ["unix:/run/authsvc.sock"], []),
        ("unix:/run/authsvc@1.sock", ["unix:/run/authsvc@1.sock"], []),
        ("a:1, b:2", ["a:1", "b:2"], []),
        (("a:1", "unix:b"), ["a:1", "unix:b"], []),
        ("dns:///authsvc.internal:50051", [], [("authsvc.internal", 50051)]),
        ("a:1,dns:///b:2", ["a:1"], [("b", 2)]),
    ],
)
def test_targets(target: str | tuple[str, ...], endpoints: list[str], names: list[object]) -> None:
    read = Targets.parse(target)
    assert read.endpoints == tuple(Endpoint(address) for address in endpoints)
    assert [(name.host, name.port) for name in read.names] == names


@pytest.mark.parametrize(
    "target",
    [
        "",
        "127.0.0.1",
        ":50051",
        "a:port",
        "a:1,",
        "::1:50051",
        "dns:///authsvc",
        "dns:authsvc:50051",
        "dns://resolver/authsvc:50051",
        "ipv4:10.0.0.1:50051",
        "xds:///authsvc:1",
        "127.0.0.1:99999",
        "127.0.0.1:65536",
        "127.0.0.1:0",
        "dns:///authsvc:0",
        "127.0.0.1:\u0661",
        "unix:",
        "a@127.0.0.1:1",
        "a b:1",
        "a\nb:1",
        "a..b:1",
        "b\u00fccher.example:1",
        "a?b:1",
        "a\\b:1",
        "1.2.3:1",
        "[x]:1",
        "[127.0.0.1]:1",
        "dns:///...:1",
        "unix:/run/a\nb",
        "a@b:1",
        "a/b:1",
        "unix:/run/a\0",
        (),
        ("a:1", ""),
    ],
)
def test_what_is_no_target(target: str | tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"^target "):
        AuthClient(target)


@pytest.mark.parametrize("target", ["a:s3cret@127.0.0.1:1", "dns:///a:s3cret@authsvc:1"])
def test_a_password_in_a_target_is_not_shown(target: str) -> None:
    with pytest.raises(ValueError, match="a user or a password") as caught:
        AuthClient(target)
    assert "s3cret" not in str(caught.value)


async def test_a_name_is_looked_up_where_the_machine_does() -> None:
    assert "127.0.0.1" in await look_up("localhost", 1)


async def test_an_address_that_was_looked_up_has_to_prove_the_name() -> None:
    async def found(host: str, port: int) -> list[str]:
        return ["10.0.0.7", "2001:db8::7", "10.0.0.7"]

    assert await endpoints_of(Name("authsvc.internal", 50051), found) == {
        Endpoint("10.0.0.7:50051", host="authsvc.internal"),
        Endpoint("[2001:db8::7]:50051", host="authsvc.internal"),
    }


@pytest.mark.parametrize("target", ["https://user:hush/", "http://as?client_secret=hush", "hush"])
def test_a_wrong_target_is_named_by_its_place_alone(target: str) -> None:
    with pytest.raises(ValueError, match="number 2 is invalid") as caught:
        Targets.parse(f"a:1,{target}")
    assert "hush" not in str(caught.value)
