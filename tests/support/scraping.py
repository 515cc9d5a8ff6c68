"""A scrape of ``/metrics``."""

from __future__ import annotations

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from tests.support.bounds import TIMEOUT_SECONDS

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scraped:
    """Samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples: Samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, /, **labels: str) -> float:
        """The sample with exactly these labels; 0 without one."""
        return self._samples.get((name, frozenset(labels.items())), 0.0)


async def scrape(address: str) -> Scraped:
    """Scrape what listens at ``host:port``."""
    async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS) as http:
        answer = await http.get(f"http://{address}/metrics")
    assert answer.status_code == 200
    return Scraped(answer.text)
