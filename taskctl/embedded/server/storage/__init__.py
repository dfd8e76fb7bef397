"""Versions of objects: in memory, in SQLite, and as events for watchers.

Objects are JSON texts under a key here. The room knows neither kinds nor HTTP; what may be stored
was decided before.
"""
