"""What is particular to a kind when it is written, after Kubernetes' registry strategies.

Here are the base class and the built-in kinds whose rules are short. Pods and definitions have
rooms of their own. A strategy gets parsed objects and may read the store; it never writes.
"""
