"""Prefect flows derived from the graph that DVC gives."""
