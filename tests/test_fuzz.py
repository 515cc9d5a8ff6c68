"""The fuzzer's corpus, replayed without the fuzzer."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.seeds import seeds
from fuzz.tokens import CORPUS, signed, verdict


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_an_input_is_valid_or_has_a_reason(path: Path) -> None:
    data = path.read_bytes()
    verdict(data)
    verdict(signed(data))


def test_the_corpus_is_what_the_seeds_say() -> None:
    for name, data in seeds().items():
        assert (CORPUS / name).read_bytes() == data


def test_the_corpus_has_valid_tokens() -> None:
    valid = {path.name for path in CORPUS.iterdir() if verdict(path.read_bytes()) == ""}
    claims = {"standard", "lists", "scp", "groups", "patterns", "compressed", "nested"}
    expected = claims | {"es256", "eddsa"}
    assert valid == {f"token-{name}" for name in expected}
