"""The local node: does for pods what a kubelet does, with processes."""
