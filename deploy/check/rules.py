"""The PrometheusRule: ``deploy/monitoring/rules.yaml`` in the frame that the Prometheus operator wants.

Run it by ``make manifests`` after the rules have changed.
"""

from check.kinds import DEPLOY

SOURCE = DEPLOY / "monitoring" / "rules.yaml"
TARGET = DEPLOY / "components" / "monitoring" / "prometheus-rule.yaml"
_FRAME = """\
# Written from deploy/monitoring/rules.yaml by make manifests; change it there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: stylewire
  namespace: stylewire
  labels:
    app.kubernetes.io/name: stylewire
    app.kubernetes.io/part-of: stylewire
spec:
"""


def manifest() -> str:
    """Write the rules as a manifest; their comments stay."""
    text = SOURCE.read_text(encoding="utf-8")
    groups = text[text.index("\ngroups:") + 1 :]
    return _FRAME + "".join(f"  {line}" if line.strip() else line for line in groups.splitlines(keepends=True))


if __name__ == "__main__":
    TARGET.write_text(manifest(), encoding="utf-8")
