"""What the server knows of a kind: names, versions, columns, schema; and which kinds there are.

Here are the built-in kinds and the registry of all that are served. How a definition becomes a
kind belongs to ``definitions``; the rules of a kind belong to its strategy.
"""
