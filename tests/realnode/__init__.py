"""A real Kubernetes node on a bare machine: Go modules and Debian packages, nothing else."""
