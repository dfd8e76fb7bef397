"""The three classic patch formats: JSON Patch, JSON Merge Patch and strategic merge patch.

Pure: an object and a patch in, an object out. What may be patched belongs to ``writes``.
"""
