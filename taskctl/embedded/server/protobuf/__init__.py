"""Kubernetes' protobuf, which clients in Go send and ask for: reading, writing, the tables.

The tables are generated from Kubernetes' Go modules. No meaning of a field belongs here.
"""
