"""The rules of pods: defaults, checks, and what may change when.

The sentences of the refusals are those of Kubernetes' ``pkg/apis/core/validation``. What runs a pod
is the node's; this room starts nothing.
"""
