"""What keeps a model from forgetting? Trainings behind `docs/evidence-preserve.md`; see `__main__`."""
