"""Recording and alert rules, without a server."""

import re

import pytest
import yaml

from support.prometheus import MONITORING, promtool
from support.rules import ALERTS, RECORDS, RULES, RULES_TEST


def test_rules_are_valid():
    """Promtool finds nothing wrong with the rules."""
    said = promtool("check", "rules", RULES)

    assert f"{len(ALERTS) + len(RECORDS)} rules found" in said


def test_rules_do_what_their_tests_say():
    """Every case in rules_test.yaml comes out as it says."""
    assert "SUCCESS" in promtool("test", "rules", RULES_TEST)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_case_that_fires_and_one_that_does_not(alert):
    """No alert is without tests of both kinds."""
    tests = yaml.safe_load(RULES_TEST.read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"] if case["alertname"] == alert]

    assert {True, False} == {bool(case["exp_alerts"]) for case in cases}


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_how_bad_it_is_and_what_to_do(alert):
    """An alert has a severity, a summary, and a section of the README under the anchor that it names."""
    rule = ALERTS[alert]
    headings = re.findall(r"^### (\w+)$", (MONITORING / "README.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert f"deploy/monitoring/README.md#{alert.lower()}" == rule["annotations"]["runbook"]
    assert alert in headings


@pytest.mark.parametrize("record", RECORDS)
def test_recording_rules_are_named_by_level_metric_and_operation(record):
    """A name tells which labels are left, what was measured, and what was done with it."""
    assert re.fullmatch(r"(job|job_method|job_graph|instance):(grpc_server|stylewire)_\w+:\w+", record)
