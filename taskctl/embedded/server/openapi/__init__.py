"""What clients read to learn which kinds there are: discovery and OpenAPI documents.

Documents are made from ``kinds`` alone. Answering requests for them belongs to ``api``.
"""
