"""Tests of the exact simulator."""
