"""Tests of the integer IR."""
