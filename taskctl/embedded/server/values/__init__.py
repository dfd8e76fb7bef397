"""Values that occur in objects of every kind: metadata, names, labels, quantities, numbers.

Pure functions on texts and numbers; no kind and no store belongs here.
"""
