"""What can be known of the manifests without a cluster; ``python -m check`` prints it, tests assert it."""
