"""NIR, the Neuromorphic Intermediate Representation (neuroir.org): import from other frameworks, and export.

Nothing is imported here: the check of a strange file runs in a process of its own, which should start quickly.
"""
