"""Tests on a real Kubernetes node: real kubelet and API server, taskctl installed by kubectl."""
