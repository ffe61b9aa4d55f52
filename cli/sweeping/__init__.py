"""Sweeps: many params files that differ in a few values, each in a workspace of its own, told in one table."""
