"""What is written into deploy/monitoring: rules, their tests, the dashboard, and the metrics that they name."""

import json
import re

import yaml

from support.prometheus import MONITORING

RULES = MONITORING / "rules.yaml"
RULES_TEST = MONITORING / "rules_test.yaml"
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
_RULES = [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in _RULES if "alert" in rule}
RECORDS = {rule["record"]: rule for rule in _RULES if "record" in rule}
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
_SELECTOR = re.compile(r"\b((?:[a-z_]+:)*(?:stylewire|grpc_server|process|python)_[a-z0-9_:]+)\s*(\{[^}]*\})?")
_VARIABLES = {
    "$__rate_interval": "1m",
    "$namespace": ".*",
    "$job": "stylewire",
    "$instance": ".*",
    "$model": ".*",
}


def filled(expression: str) -> str:
    """An expression of the dashboard with values in place of its variables."""
    for variable, value in _VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


def queries() -> dict[str, str]:
    """Panel and letter -> expression, for every query of the dashboard."""
    return {
        f"{panel['id']} {panel['title']}: {target['refId']}": filled(target["expr"])
        for panel in PANELS
        for target in panel["targets"]
    }


def selectors(expression: str) -> list[str]:
    """The metrics that an expression reads, each with what it demands of their labels."""
    return [name + labels for name, labels in _SELECTOR.findall(expression)]


def names(expression: str) -> set[str]:
    """The metrics that an expression reads."""
    return {name for name, _ in _SELECTOR.findall(expression)}
