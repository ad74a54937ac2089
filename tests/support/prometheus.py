"""A real Prometheus: from the PATH, or what ``.ci/fetch-prometheus`` has unpacked."""

import json
import math
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from support.children import end

PROJECT = Path(__file__).parent.parent.parent
MONITORING = PROJECT / "deploy" / "monitoring"
UNPACKED = PROJECT / "build" / "prometheus" / "usr" / "bin"
START_SECONDS = 30


def program(name: str) -> str:
    """Find ``prometheus`` or ``promtool``; skips the test where there is none."""
    found = shutil.which(name) or shutil.which(name, path=UNPACKED)
    if not found:
        pytest.skip(f"{name} is neither on the PATH nor in build/prometheus; .ci/fetch-prometheus says why")
    return found


def promtool(*arguments, text: str | None = None) -> str:
    """Run promtool and return what it says; fails the test with that if it is not content."""
    ended = subprocess.run(
        [program("promtool"), *map(str, arguments)], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    said = ended.stdout + ended.stderr
    assert 0 == ended.returncode, said
    return said


class RunningPrometheus:
    """Prometheus on a free port of 127.0.0.1, which scrapes one server twice a second.

    Args:
        folder: for its configuration and its data.
        target: host and port of the server's metrics.
        rules: file of rules.
    """

    def __init__(self, folder: Path, target: str, rules: Path) -> None:
        static = [{"targets": [target]}]
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(rules)],
            "scrape_configs": [{"job_name": "stylewire", "static_configs": static}],
        }
        (folder / "prometheus.yaml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
        arguments = [
            f"--config.file={folder}/prometheus.yaml",
            f"--storage.tsdb.path={folder}/data",
            "--web.listen-address=127.0.0.1:0",
        ]
        self._process = subprocess.Popen([program("prometheus"), *arguments], stderr=subprocess.PIPE, text=True)
        self._log: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        if not self._ready.wait(START_SECONDS) or self._process.poll() is not None:
            self.stop()
            raise RuntimeError("Prometheus did not start:\n" + "\n".join(self._log))
        self._url = "http://" + re.search(r'msg="Listening on" address=(\S+)', "\n".join(self._log))[1]

    def _read(self) -> None:
        for line in self._process.stderr:
            self._log.append(line.rstrip())
            if "Server is ready to receive web requests" in line:
                self._ready.set()
        self._ready.set()  # it has ended

    def stop(self) -> None:
        end(self._process)
        self._reader.join()
        self._process.stderr.close()

    def ask(self, path: str, **parameters: str) -> dict:
        """Ask the API, such as ``rules``; returns ``data`` of the answer."""
        body = urllib.parse.urlencode(parameters).encode() or None
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}", body, timeout=10) as reply:
            answer = json.load(reply)
        assert "success" == answer["status"], answer
        return answer["data"]

    def query(self, expression: str) -> list[float]:
        """The values of an expression, now; without those that are not numbers, such as quantiles of nothing."""
        values = [float(each["value"][1]) for each in self.ask("query", query=expression)["result"]]
        return [value for value in values if math.isfinite(value)]

    def wait_for(self, expression: str, timeout_seconds: float = 20) -> list[float]:
        """The values of an expression as soon as it has some; none if it has none for so long."""
        until = time.monotonic() + timeout_seconds
        while not (values := self.query(expression)) and time.monotonic() < until:
            time.sleep(0.1)
        return values
