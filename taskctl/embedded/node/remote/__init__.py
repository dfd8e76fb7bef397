"""Streams into running containers: exec, attach and port-forward over WebSockets.

Here lives the kubelet's half of ``kubectl exec``, ``cp``, ``attach`` and ``port-forward``. The API
server relays the messages of a WebSocket without looking into them. What does not belong here:
how a process gets into a container (``shim/enter.c``), and who may ask (the API server).
"""
