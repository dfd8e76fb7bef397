"""The columns that ``kubectl get`` prints, and the paths and times in them.

Cells are made from an object alone. Which form a client asks for belongs to ``http``.
"""
