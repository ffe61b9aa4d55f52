"""Does Fisher information beat the lot? Trainings behind `docs/evidence.md`; see `__main__`."""
