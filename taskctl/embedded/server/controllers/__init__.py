"""What the server does by itself, as kube-controller-manager does for a cluster.

Each file is one controller: it watches the store and works off keys. Controllers write through
``writes`` or the store, never through HTTP. There is no controller for Deployments or Jobs. The
node, not a controller, starts pods.
"""
