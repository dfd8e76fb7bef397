"""HTTP itself: connections, bodies, media types, pacing and WebSockets.

Here are the bounds on what one client can take from the others. The room knows no kinds and no
objects.
"""
