"""What a server's /metrics says."""

import time
import urllib.request

from prometheus_client.parser import text_string_to_metric_families


class Scrape:
    """All samples at one moment."""

    def __init__(self, url: str) -> None:
        with urllib.request.urlopen(url, timeout=10) as reply:
            self.text = reply.read().decode()
        self.samples = [s for family in text_string_to_metric_families(self.text) for s in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """The sum of the samples with this name and these labels; None if there is none."""
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(found) if found else None

    def count(self, name: str, **labels: str) -> float:
        """The same, 0 where there is none."""
        return self.value(name, **labels) or 0.0


def wait_for(url: str, reached, timeout_seconds=30) -> Scrape:
    """Scrape until a condition holds, for what happens after a client has its answer, or with no client at all."""
    until = time.monotonic() + timeout_seconds
    while not reached(scrape := Scrape(url)):
        assert time.monotonic() < until, scrape.text
    return scrape
