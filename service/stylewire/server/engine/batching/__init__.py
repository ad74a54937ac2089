"""Requests -> batches: a bounded queue, deadlines, fairness, and what a batch costs."""
