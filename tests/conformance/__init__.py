"""The same cases on the embedded server and on a real Kubernetes API server."""
