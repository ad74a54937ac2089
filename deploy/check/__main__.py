"""``make deploy-check``: render everything, check everything, print what was found; fails if something is wrong."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from check import hardening, kserve, references, rules, scaling, schemas, server
from check.kinds import CUSTOM_KINDS, VERSIONS
from check.render import Manifest, cases, render
from check.scan import CHECKOV, scan

CHECKS: tuple[Callable[[Sequence[Manifest]], Iterator[str]], ...] = (
    references.selector_problems,
    references.port_problems,
    references.name_problems,
    server.setting_problems,
    server.time_problems,
    server.probe_problems,
    server.route_problems,
    scaling.scaling_problems,
    scaling.query_name_problems,
    hardening.hardening_problems,
)
"""Each looks at the objects of one case and says what is wrong."""


def main() -> int:
    """Check the manifests; returns the exit code."""
    began = time.monotonic()
    rendered, wrong = _render()
    wrong += sorted(set(_problems(rendered)))
    for_kserve = kserve.objects()
    print(f"{kserve.FOLDER}: {len(for_kserve)} objects")
    wrong += [f"{kserve.FOLDER}: {problem}" for problem in kserve.kserve_problems(for_kserve)]
    wrong += () if rules.manifest() == rules.TARGET.read_text(encoding="utf-8") else ["the rules -> make manifests"]
    kinds = ", ".join(kind for _, _, kind in CUSTOM_KINDS)
    print(f"built-in kinds: Kubernetes {', '.join(VERSIONS)}, strictly; custom resources: {kinds}")
    wrong += _scan(rendered)
    print(f"{len(rendered)} cases, {len(wrong)} problems, {time.monotonic() - began:.0f} s")
    print("\n".join(wrong))
    return 1 if wrong else 0


def _render() -> tuple[dict[str, list[Manifest]], list[str]]:
    rendered, wrong = {}, []
    for name, folders in cases().items():
        try:
            rendered[name] = render(folders)
        except subprocess.CalledProcessError as err:
            wrong.append(f"{name}: {err.stderr.strip()}")
            continue
        print(f"{name}: {len(rendered[name])} objects")
    return rendered, wrong


def _problems(rendered: Mapping[str, Sequence[Manifest]]) -> Iterator[str]:
    for name, objects in rendered.items():
        yield from (problem for each in objects for problem in schemas.problems(each))
        yield from (f"{name}: {problem}" for check in CHECKS for problem in check(objects))


def _scan(rendered: Mapping[str, Sequence[Manifest]]) -> Iterable[str]:
    if not CHECKOV.exists():
        return ["checkov is not installed -> make deploy-check"]
    found = scan(rendered)
    print(f"checkov: {found.passed} passed, {len(found.failed)} failed, {found.skip_count} skipped")
    for check, reasons in found.skipped.items():
        print(f"  {check}: {'; '.join(sorted(reasons))}")
    return found.failed


if __name__ == "__main__":
    sys.exit(main())
