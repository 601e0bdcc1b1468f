"""The tests of spikegen."""
