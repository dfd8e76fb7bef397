"""Requests that the node answers: logs, exec, attach and port-forward.

Here is the way to the node, and what is passed through to it. What a container does belongs to
the node; this room knows a socket and a token.
"""
