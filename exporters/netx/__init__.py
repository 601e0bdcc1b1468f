"""netx, lava-dl's own path to Lava (``lava/lib/dl/netx``, lava-dl 0.6.0): chains of layers in HDF5 files, both ways.

Nothing is imported here: the check of a strange file runs in a process of its own, which should start quickly.
"""
