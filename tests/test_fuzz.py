"""The fuzzer's corpus, replayed without the fuzzer."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.seeds import seeds
from fuzz.tokens import CORPUS, signed, verdict


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_a_verdict_and_nothing_else(path: Path) -> None:
    data = path.read_bytes()
    verdict(data)
    verdict(signed(data))


def test_the_corpus_is_what_the_seeds_say() -> None:
    for name, data in seeds().items():
        assert (CORPUS / name).read_bytes() == data


def test_good_tokens_are_among_them() -> None:
    good = {path.name for path in CORPUS.iterdir() if verdict(path.read_bytes()) == ""}
    claims = {"standard", "lists", "scp", "groups", "patterns", "compressed", "nested"}
    expected = claims | {"es256", "eddsa"}
    assert good == {f"token-{name}" for name in expected}
