"""Create, update, patch and delete: from a parsed body to a stored version.

Here are the order of the steps and the checks that need nothing but the body, its kind and the
request. The rules of a single kind belong to its strategy; HTTP belongs to ``http`` and ``api``.
"""
