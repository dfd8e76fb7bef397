"""The answers: which part of the server serves a path, and how its answer is written.

Here are the router, lists and watches, the paths that are not plain objects, and the encoding of
objects as JSON, YAML, tables or protobuf. No rule on what may be stored belongs here: that is for
``writes`` and the rooms of the kinds.
"""
