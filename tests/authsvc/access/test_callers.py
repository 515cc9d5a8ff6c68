"""Registered callers, and the resources that they may name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from authsvc.access.callers import Caller, Callers
from authsvc.access.service_tokens import ServiceTokenFile
from authsvc.domain.errors import AuthError, Reason
from authsvc.net.watched_file import WATCH_INTERVAL_SECONDS
from tests.support.clock import Clock

HERE, THERE = "https://here.example/mcp", "https://there.example/mcp"
# The same in each worker: they are parts of the names of tests.
TOKENS = {
    name: hashlib.sha256(f"token: {name}".encode()).hexdigest()
    for name in ("here", "next", "admin")
}


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


HEX = digest(TOKENS["next"]).hex()
NO_DIGESTS = (
    "sha256:",
    f"sha256:{HEX[:-1]}",
    f"sha256:{HEX}0",
    f"sha256: {HEX}",
    f"sha256:{HEX[:-1]}g",
    f"sha256:0x{HEX[2:]}",
    f"SHA256:{HEX}",
    f"sha256:{HEX} {HEX}",
    f"sha256:{HEX}\nsha256:{HEX}",
    f"sha256:{TOKENS['next'][:40]}",
)
"""What a file may not hold, though it begins as a digest does."""

CALLERS = Callers(
    [
        Caller(
            "here",
            frozenset({HERE}),
            certificate_names=frozenset({"spiffe://x/here", "here.example"}),
            token_digests=(digest(TOKENS["here"]), digest(TOKENS["next"])),
        ),
        Caller("there", frozenset({THERE}), certificate_names=frozenset({"spiffe://x/there"})),
        Caller("admin", admin=True, token_digests=(digest(TOKENS["admin"]),)),
    ]
)


@pytest.mark.parametrize(
    ("names", "token", "caller"),
    [
        (["spiffe://x/here"], "", "here"),
        (["here.example", "spiffe://x/here"], "", "here"),
        (["unknown", "spiffe://x/there"], "", "there"),
        ([], TOKENS["here"], "here"),
        ([], TOKENS["next"], "here"),
        ([], TOKENS["admin"], "admin"),
        (["spiffe://x/here"], TOKENS["here"], "here"),
        (["unknown"], TOKENS["here"], "here"),
    ],
)
def test_a_proof_identifies_a_caller(names: list[str], token: str, caller: str) -> None:
    assert CALLERS.identify(names, token).name == caller


@pytest.mark.parametrize(
    ("names", "token"),
    [
        ([], ""),
        (["unknown"], ""),
        ([], "wrong"),
        ([], TOKENS["here"][:-1]),
        ([], TOKENS["here"] + "x"),
        ([], digest(TOKENS["here"]).hex()),
        (["spiffe://x/here", "spiffe://x/there"], ""),
        (["spiffe://x/there"], TOKENS["here"]),
        (["spiffe://x/here"], "wrong"),
        (["SPIFFE://x/here"], ""),
    ],
)
def test_other_proofs_are_denied(names: list[str], token: str) -> None:
    with pytest.raises(AuthError) as caught:
        CALLERS.identify(names, token)
    assert caught.value.reason is Reason.CALLER_NOT_ALLOWED


def test_the_local_caller_needs_no_proof_where_nobody_is_registered() -> None:
    local = Caller("local", frozenset({HERE}))
    assert Callers([], local=local).identify([], "") is local
    with pytest.raises(AuthError):
        Callers([], local=local).identify([], "some token")


def test_a_caller_acts_for_its_own_resources_alone() -> None:
    here = CALLERS.identify(["spiffe://x/here"], "")
    here.authorize(HERE)
    for resource, reason in (
        (THERE, Reason.CALLER_NOT_ALLOWED),
        (HERE + "/", Reason.CALLER_NOT_ALLOWED),
        ("here", Reason.RESOURCE_INVALID),
    ):
        with pytest.raises(AuthError) as caught:
            here.authorize(resource)
        assert caught.value.reason is reason
    with pytest.raises(AuthError):
        here.authorize_admin()


def test_an_operator_acts_for_no_resource() -> None:
    admin = CALLERS.identify([], TOKENS["admin"])
    admin.authorize_admin()
    with pytest.raises(AuthError):
        admin.authorize(HERE)


def test_a_service_token_follows_its_file(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "token"
    path.write_text(TOKENS["here"] + "\n")
    callers = Callers([Caller("here", token_files=(ServiceTokenFile(path, clock),))])

    def is_here(name: str) -> bool:
        try:
            return callers.identify([], TOKENS[name]).name == "here"
        except AuthError:
            return False

    assert is_here("here")
    path.write_text(TOKENS["admin"])
    assert is_here("here")  # until it is looked at again
    clock.advance(WATCH_INTERVAL_SECONDS)
    assert is_here("admin")
    assert not is_here("here")
    path.write_text("half-writ")
    clock.advance(WATCH_INTERVAL_SECONDS)
    assert is_here("admin")
    path.unlink()
    clock.advance(WATCH_INTERVAL_SECONDS)
    assert not is_here("admin")
    path.write_text(TOKENS["next"])
    clock.advance(WATCH_INTERVAL_SECONDS)
    assert is_here("next")


@pytest.mark.parametrize("spelled", [HEX, HEX.upper(), f"{HEX[:9].upper()}{HEX[9:]}"])
def test_a_file_may_hold_the_digest_of_a_token(
    tmp_path: Path, clock: Clock, spelled: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "token"
    path.write_text(TOKENS["next"])
    callers = Callers([Caller("here", token_files=(ServiceTokenFile(path, clock),))])
    path.write_text(f"\nsha256:{spelled} \n")
    clock.advance(WATCH_INTERVAL_SECONDS)
    assert callers.identify([], TOKENS["next"]).name == "here"
    assert caplog.messages == []  # the same token
    for presented in (f"sha256:{spelled}", spelled, HEX, f"sha256:{HEX}", TOKENS["here"]):
        with pytest.raises(AuthError) as caught:
            callers.identify([], presented)
        assert caught.value.reason is Reason.CALLER_NOT_ALLOWED
    path.write_text(f"sha256:{digest(TOKENS['admin']).hex()}")
    clock.advance(WATCH_INTERVAL_SECONDS)
    assert callers.identify([], TOKENS["admin"]).name == "here"
    path.write_text(f"sha256:{spelled[:50]}")  # half written
    clock.advance(WATCH_INTERVAL_SECONDS)
    assert callers.identify([], TOKENS["admin"]).name == "here"


def test_a_token_and_its_digest_are_one_proof(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "token").write_text(TOKENS["next"])
    (tmp_path / "digest").write_text(f"sha256:{HEX}")
    files = [ServiceTokenFile(tmp_path / name, clock) for name in ("token", "digest")]
    with pytest.raises(ValueError, match="two have the same service token"):
        Callers([Caller(str(at), token_files=(file,)) for at, file in enumerate(files)])


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "is empty"),
        ("changeme", "holds fewer than 32 characters"),
        ("changeme" * 5, "holds a token that can be guessed"),
        ("\u2603" * 40, "is not ASCII"),
        (f"{digest(TOKENS['next']).hex()}  -\n", "holds more than one word"),  # of sha256sum
        (f"{TOKENS['next']}\n{TOKENS['here']}\n", "holds more than one word"),
        *((text, "begins with sha256: and does not go on with 64") for text in NO_DIGESTS),
        (f"sha256:{digest('changeme').hex()}", "holds a digest that is no token's"),
        (f"sha256:{digest('').hex()}", "holds a digest that is no token's"),
        (f"sha256:{'0' * 64}", "holds a digest that is no token's"),
    ],
)
def test_a_file_without_a_token_withdraws_the_old_one(
    tmp_path: Path, clock: Clock, content: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "token"
    path.write_text(TOKENS["here"])
    callers = Callers([Caller("here", token_files=(ServiceTokenFile(path, clock),))])
    assert callers.identify([], TOKENS["here"]).name == "here"
    path.write_text(content, encoding="utf-8")
    os.utime(path, (1, 1))  # written long ago: nobody is at it
    for _ in range(3):
        clock.advance(WATCH_INTERVAL_SECONDS)
        with pytest.raises(AuthError):
            callers.identify([], TOKENS["here"])
    assert caplog.text.count(f"service token {path} is withdrawn: its file {fault}") == 1
    path.write_text(TOKENS["next"])
    clock.advance(WATCH_INTERVAL_SECONDS)
    assert callers.identify([], TOKENS["next"]).name == "here"


def test_a_file_that_cannot_be_read_leaves_the_token_in_force(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "token"
    path.write_text(TOKENS["here"])
    file = ServiceTokenFile(path, clock)
    path.unlink()
    path.mkdir()
    for _ in range(3):
        clock.advance(WATCH_INTERVAL_SECONDS)
        assert file.digest() == digest(TOKENS["here"])
    assert caplog.text.count(f"service token {path} cannot be reloaded: ") == 1


def test_a_change_and_a_removal_of_a_token_are_logged(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "token"
    path.write_text(TOKENS["here"])
    file = ServiceTokenFile(path, clock)

    def logged() -> list[str]:
        clock.advance(WATCH_INTERVAL_SECONDS)
        file.digest()
        messages = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return messages

    path.write_text(TOKENS["here"] + "\n")
    assert logged() == []  # the same token
    path.write_text(TOKENS["next"])
    assert logged() == [f"service token {path}: changed"]
    path.unlink()
    assert logged() == [f"service token {path}: gone"]
    assert logged() == []
    assert file.digest() is None


@pytest.mark.parametrize(
    "proof",
    [
        {"certificate_names": frozenset({"spiffe://x/here"})},
        {"token_digests": (digest(TOKENS["here"]),)},
    ],
)
def test_two_callers_with_one_proof_are_invalid(proof: Mapping[str, Any]) -> None:
    Callers([Caller("one", **proof)])
    with pytest.raises(ValueError, match="two have the same"):
        Callers([Caller("one", **proof), Caller("two", admin=True, **proof)])


def test_two_callers_that_get_one_token_are_both_denied(tmp_path: Path, clock: Clock) -> None:
    files = []
    for name in ("here", "admin"):
        (tmp_path / name).write_text(TOKENS[name])
        files.append(ServiceTokenFile(tmp_path / name, clock))
    callers = Callers(
        [Caller("one", token_files=(files[0],)), Caller("two", token_files=(files[1],))]
    )
    assert callers.identify([], TOKENS["here"]).name == "one"
    (tmp_path / "admin").write_text(TOKENS["here"])
    clock.advance(WATCH_INTERVAL_SECONDS)
    with pytest.raises(AuthError):
        callers.identify([], TOKENS["here"])


def test_no_token_is_in_a_repr() -> None:
    assert digest(TOKENS["here"]).hex() not in repr(CALLERS.identify([], TOKENS["here"]))


@pytest.mark.parametrize(
    "resource",
    [HERE, HERE.replace("//here", "//HERE"), HERE.replace("https", "HTTPS")],
)
def test_a_resource_is_one_in_any_spelling(resource: str) -> None:
    here = CALLERS.identify(["spiffe://x/here"], "")

    here.authorize(resource)

    assert here.spelled(resource) == HERE


@pytest.mark.parametrize("resource", ["", "here", f"{HERE}#x", "https://user@here.example/"])
def test_what_is_no_resource(resource: str) -> None:
    here = CALLERS.identify(["spiffe://x/here"], "")

    assert here.spelled(resource) == resource
    with pytest.raises(AuthError) as caught:
        here.authorize(resource)
    assert caught.value.reason is Reason.RESOURCE_INVALID
