"""taskctl-init, the first process of every task container (C), and where to find it."""
