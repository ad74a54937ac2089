"""What checkov says; ``make deploy-check`` installs it into an environment of its own, for it has many dependencies."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from check.kinds import DEPLOY
from check.render import Manifest

CHECKOV = DEPLOY.parent / "build" / "checkov" / "bin" / "checkov"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What came out.

    Attributes:
        passed: number of checks that passed.
        failed: a line for each that did not.
        skipped: check -> reasons that the manifests give.
        skip_count: number of checks skipped.
    """

    passed: int
    failed: tuple[str, ...]
    skipped: Mapping[str, frozenset[str]]
    skip_count: int


def scan(cases: Mapping[str, Sequence[Manifest]]) -> Scan:
    """Run checkov over the cases, a file each; it is told to ask nobody for guidelines."""
    with tempfile.TemporaryDirectory() as folder:
        for name, objects in cases.items():
            path = Path(folder) / f"{name.replace('/', '-').replace(' ', '-')}.yaml"
            path.write_text(yaml.safe_dump_all(objects), encoding="utf-8")
        command = [str(CHECKOV), "--directory", folder, "--framework", "kubernetes", "--output", "json"]
        command += ["--skip-download", "--soft-fail", "--compact"]
        environment = {**os.environ, "LOG_LEVEL": "ERROR"}
        said = subprocess.run(command, capture_output=True, check=True, text=True, env=environment).stdout
    return _read(json.loads(said))


def _read(report: Mapping[str, Any]) -> Scan:
    results, skipped = report["results"], dict[str, set[str]]()
    for each in results["skipped_checks"]:
        skipped.setdefault(each["check_id"], set()).add(each["check_result"]["suppress_comment"])
    return Scan(
        passed=report["summary"]["passed"],
        failed=tuple(_failures(results["failed_checks"])),
        skipped={check: frozenset(reasons) for check, reasons in sorted(skipped.items())},
        skip_count=report["summary"]["skipped"],
    )


def _failures(checks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for each in checks:
        yield f"{each['check_id']} {each['check_name']}: {each['resource']} in {each['file_path'].lstrip('/')}"
