"""Server-side apply: sets of fields, who owns them, and conflicts between owners.

After sigs.k8s.io/structured-merge-diff. Pure: objects in, objects out. Storing belongs to
``writes``.
"""
