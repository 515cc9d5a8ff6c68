"""The fuzzer's corpora, replayed without the fuzzer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fuzz.answer_seeds import EXCHANGE, INTROSPECTION, odd_answers
from fuzz.answers import exchange_verdict, introspection_verdict
from fuzz.checks import check_verdict
from fuzz.claims import CLAIMS, MAPPINGS, claims_verdict, odd_places
from fuzz.discovery import METADATA, metadata_verdict
from fuzz.jwk_sets import beside_a_good_key, jwk_set_verdict, odd_entries
from fuzz.seeds import corpora
from fuzz.signals import odd_signals, signals_verdict
from fuzz.targets import CORPUS, TARGETS
from fuzz.tokens import signed, verdict

INPUTS = sorted(CORPUS.glob("*/*"))


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_an_input_is_valid_or_has_a_reason(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("path", sorted(CORPUS.glob("tokens/*")), ids=lambda path: path.name)
def test_any_input_may_be_a_token_or_claims(path: Path) -> None:
    data = path.read_bytes()
    verdict(data)
    verdict(signed(data))


def test_each_target_has_a_corpus() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS) == set(corpora())


def test_the_corpus_is_what_the_seeds_say() -> None:
    for target, inputs in corpora().items():
        for name, data in inputs.items():
            assert (CORPUS / target / name).read_bytes() == data


def test_the_corpus_has_valid_tokens() -> None:
    tokens = (CORPUS / "tokens").iterdir()
    valid = {path.name for path in tokens if verdict(path.read_bytes()) == ""}
    claims = {"standard", "lists", "scp", "acting", "groups", "patterns", "compressed", "nested"}
    expected = claims | {"es256", "eddsa"}
    assert valid == {f"token-{name}" for name in expected}


def test_the_corpus_of_checks_has_each_verdict() -> None:
    """The target itself checks what a gateway passes on."""
    told = {name: check_verdict(data) for name, data in corpora()["checks"].items()}
    passed = {"open", "called", "initialize", "unread", "stream", "end", "by-place", "padded"}
    assert {name for name, verdict in told.items() if verdict == ""} == passed
    unread = ("nothing", "no-message", "twice")
    assert {told[name] for name in unread} == {"INVALID_ARGUMENT"}
    assert (told["metadata"], told["other"], told["elsewhere"]) == ("200", "204", "403")
    assert (told["lacking"], told["joined"], told["cut"]) == ("403", "400", "403")


def test_any_value_anywhere_in_an_answer() -> None:
    """A typed reason or a principal; the targets themselves check what is accepted."""
    introspected = [introspection_verdict(data) for data in odd_answers(INTROSPECTION)]
    exchanged = [exchange_verdict(data) for data in odd_answers(EXCHANGE)]
    assert introspected.count("") > 50
    assert exchanged.count("") > 50
    assert {"TOKEN_INACTIVE", "KEYS_UNAVAILABLE", "TOKEN_MALFORMED"} < set(introspected)
    assert set(exchanged) == {"", "CREDENTIALS_UNAVAILABLE"}


def test_any_value_anywhere_in_claims() -> None:
    """A typed reason or a principal; the target itself checks its bounds."""
    odd = [*odd_answers(CLAIMS), *(json.dumps(it).encode() for it in odd_places())]
    told = [claims_verdict(data) for data in odd]
    assert told.count("") > 100
    # Each mapping accepts the claims as they are.
    for mapping in MAPPINGS:
        assert mapping.principal(CLAIMS, b"{}").client_id == "app1"


def test_any_value_anywhere_in_a_key() -> None:
    """It is used or skipped; the key beside it is found in any case."""
    for entry in odd_entries():
        jwk_set_verdict(b'{"keys": [' + entry + b"]}")
        assert jwk_set_verdict(beside_a_good_key(entry)) == "", entry


def test_any_value_anywhere_in_metadata() -> None:
    """A reason, or a URL; the target itself checks which."""
    told = [metadata_verdict(data) for data in odd_answers(METADATA)]
    assert told.count("") > 40
    causes = ("names no issuer", "names no jwks_uri", "is the metadata of issuer", "its jwks_uri")
    for cause in (*causes, "is not JSON", "is not a JSON object"):
        assert any(text.startswith(cause) for text in told), cause


def test_any_value_anywhere_in_a_signal() -> None:
    """A code, or signals; the target itself checks whom they may name."""
    told = [signals_verdict(data) for data in odd_signals()]
    assert told.count("") > 500
    codes = {"invalid_request", "invalid_issuer", "invalid_audience"}
    assert codes < set(told)


def test_the_corpus_of_signals_has_both_kinds() -> None:
    told = {name: signals_verdict(data) for name, data in corpora()["signals"].items()}
    accepted = {"set", "logout", "aliases", "jwt-id", "older", "foreign", "milliseconds", "both"}
    assert {name for name, verdict in told.items() if verdict == ""} == accepted
