"""A structural schema as a tree, and what is done along it: defaulting, pruning, validation.

After k8s.io/apiextensions-apiserver ``pkg/apiserver/schema``. Rules in CEL are in ``cel``; which
schema a kind has is in ``kinds``.
"""
