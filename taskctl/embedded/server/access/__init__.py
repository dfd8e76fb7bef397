"""Who may speak to the server: tokens, and the certificate that clients check.

Every valid token may do everything: the server stores RBAC objects and does not consult them
(``docs/decisions/0005-embedded-server-tls-but-no-rbac.md``).
"""
