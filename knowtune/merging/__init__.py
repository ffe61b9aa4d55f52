"""Fold adapters into checkpoints, and mix checkpoints of several runs."""
