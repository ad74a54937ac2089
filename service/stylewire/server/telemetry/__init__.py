"""Metrics, statistics, logs, traces."""
