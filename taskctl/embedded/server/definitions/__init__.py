"""The rules of CustomResourceDefinitions, and the kinds that they make.

Here a definition is checked and turned into :class:`~taskctl.embedded.server.kinds.model.Kind`
objects. Serving these kinds, and deleting the objects of a deleted definition, is the work of
``controllers``.
"""
