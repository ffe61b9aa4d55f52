"""Trainings behind docs/evidence-imsm.md."""
