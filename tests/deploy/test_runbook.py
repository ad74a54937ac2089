"""deploy/README.md: it knows every alert and every component, and nothing that does not exist."""

import re

import pytest
import yaml

from check.kinds import DEPLOY
from stylewire.server.config.settings import ENV_PREFIX, declarations

RUNBOOK = (DEPLOY / "README.md").read_text(encoding="utf-8")
ALERTS = [
    rule["alert"]
    for group in yaml.safe_load((DEPLOY / "monitoring" / "rules.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
LINKS = sorted(set(re.findall(r"\]\(([^)]+)\)", RUNBOOK)))


def anchors(text):
    """The anchors of a page's headings, as they are made of them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_paragraph_to_go_to(alert):
    """The table leads from each alert to what it means and to what to do."""
    row = re.search(rf"^\| \[{alert}\]\(monitoring/README.md#{alert.lower()}\) \| .*\(#[\w-]+\)", RUNBOOK, re.MULTILINE)

    assert row


@pytest.mark.parametrize("link", LINKS)
def test_every_link_leads_somewhere(link):
    """Files exist, and so do the headings in them."""
    path, _, anchor = link.partition("#")
    page = DEPLOY / path if path else DEPLOY / "README.md"

    assert anchor in anchors(page.read_text(encoding="utf-8"))


def test_every_component_is_described():
    """The table of components has all of them and no others."""
    components = {path.name for path in (DEPLOY / "components").iterdir()}
    table = RUNBOOK.partition("| component |")[2].partition("\n\n")[0]

    assert components == set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE))


def test_every_setting_that_is_named_exists():
    """No variable is named that the server does not know."""
    named = set(re.findall(rf"{ENV_PREFIX}\w+", RUNBOOK))

    assert named
    assert named <= {ENV_PREFIX + name.upper() for _, name, _ in declarations()}
