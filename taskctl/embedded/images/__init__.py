"""Container images on this machine: read from archives, layouts and registries, unpacked once.

An image is data from strangers. A layer's files are written under numbers, never under the names
that its archive gives (``layer``); what the layers make together is worked out in memory (``tree``)
and only then written as directories, links and hard links (``writing``), from the root down and
without following a link. So there is no path that could lead out of the root.
"""
