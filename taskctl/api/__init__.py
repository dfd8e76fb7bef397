"""The nouns: Task, TaskObject and TaskCluster as pydantic models, and the CRDs made from them.

No I/O here, and nothing that decides: see :mod:`taskctl.policy`."""
