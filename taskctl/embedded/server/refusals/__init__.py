"""How the server refuses: ``Status`` objects and field errors, worded as Kubernetes words them.

The lowest room: it imports nothing of the server. When something is refused is decided above.
"""
