"""The dashboard as a document; test_prometheus.py asks its queries."""

import itertools
import re

import pytest

from support.rules import DASHBOARD, PANELS

VARIABLES = {variable["name"] for variable in DASHBOARD["templating"]["list"]}


def test_dashboard_can_be_provisioned():
    """It has the name that links use, no number of its own, and asks whichever Prometheus the reader chooses."""
    assert "stylewire" == DASHBOARD["uid"]
    assert "id" not in DASHBOARD
    assert {"type": "datasource", "query": "prometheus"}.items() <= DASHBOARD["templating"]["list"][0].items()
    assert "datasource" in VARIABLES


def test_rows_are_those_of_the_subjects():
    """Traffic, latency, queue, batches, models and resources have a row each, below what counts most."""
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]

    assert ["Now", "Traffic", "Latency", "Queue", "Batches", "Models", "Resources"] == rows


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panel_says_what_it_shows(panel):
    """Every panel has a description and a unit, asks the chosen Prometheus, and knows every variable it uses."""
    used = {name for target in panel["targets"] for name in re.findall(r"\$(\w+)", target["expr"])}

    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert all("${datasource}" == each["datasource"]["uid"] for each in (panel, *panel["targets"]))
    assert used <= VARIABLES | {"__rate_interval"}


def test_panels_do_not_lie_on_each_other():
    """Every panel has a number and a place of its own."""
    cells = [
        (panel["gridPos"]["x"] + column, panel["gridPos"]["y"] + line)
        for panel in DASHBOARD["panels"]
        for column, line in itertools.product(range(panel["gridPos"]["w"]), range(panel["gridPos"]["h"]))
    ]

    assert len(set(cells)) == len(cells)
    assert all(column < 24 for column, _ in cells)
    assert len(DASHBOARD["panels"]) == len({panel["id"] for panel in DASHBOARD["panels"]})
