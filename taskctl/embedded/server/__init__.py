"""The API server: a Kubernetes API for one machine, which learns its kinds from definitions.

The rooms, from the request down to the words of a refusal. A room may import from those below it;
``pyproject.toml`` has the exact order, and ``./scripts/check`` holds it.

================  ============================================================================
``engine.py``     the server without sockets and files: what it is made of, start and stop
``api``           the answers: which part serves a path, and how its answer is written
``relay``         logs, exec, attach and port-forward, passed on to the node
``controllers``   what acts by itself: namespaces, garbage collection, expiry, definitions
``writes``        create, update, patch and delete, from a parsed body to a stored version
``access``        tokens and certificates
``core.py``       what all rooms above work on; which strategy a kind has
``pods``          the rules of pods
``definitions``   the rules of CustomResourceDefinitions, and the kinds that they make
``apply``         server-side apply, and who owns which field
``patch``         JSON Patch, JSON Merge Patch and strategic merge patch
``strategies``    the rules of the other built-in kinds
``openapi``       discovery and OpenAPI documents
``tables``        the columns that kubectl prints
``kinds``         what the server knows of a kind; the built-in kinds
``requests``      what a URL names, and its options
``storage``       versions of objects, watches, the database
``http``          connections, bodies, media types, pacing
``cel``           the rules of ``x-kubernetes-validations``
``schema``        defaulting, pruning and validation along a schema
``protobuf``      Kubernetes' binary form
``values``        names, labels, quantities, numbers
``refusals``      ``Status`` objects and field errors
================  ============================================================================

What the server imitates and what it never will is in
``docs/decisions/0042-the-embedded-api-server-and-its-limit.md``. It imports nothing of taskctl but
``clock``, ``errors`` and the files beside this package (``taskctl/embedded/*.py``), so that it
could become a package of its own.
"""
