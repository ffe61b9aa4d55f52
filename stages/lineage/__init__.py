"""Lineage as DVC recorded it: dvc.lock, the bytes that its digests mean, and what no longer agrees."""
