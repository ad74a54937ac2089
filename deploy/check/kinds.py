"""The kinds of objects that are known here, and where their schemas are."""

from pathlib import Path

DEPLOY = Path(__file__).parents[1]
SCHEMAS = DEPLOY / "check" / "schemas"
VERSIONS = ("1.33", "1.34", "1.35", "1.36", "1.37")
"""Versions of Kubernetes that every manifest must be valid for."""
CUSTOM_KINDS = (
    ("keda.sh", "v1alpha1", "ScaledObject"),
    ("monitoring.coreos.com", "v1", "PodMonitor"),
    ("monitoring.coreos.com", "v1", "ServiceMonitor"),
    ("monitoring.coreos.com", "v1", "PrometheusRule"),
    ("cert-manager.io", "v1", "Certificate"),
    ("gateway.networking.k8s.io", "v1", "GRPCRoute"),
    ("serving.kserve.io", "v1alpha1", "ServingRuntime"),
    ("serving.kserve.io", "v1beta1", "InferenceService"),
)
"""Group, version and kind of the custom resources in use."""
