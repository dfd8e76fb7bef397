"""A Kubernetes-compatible server and node for one machine. Knows nothing of taskctl."""
