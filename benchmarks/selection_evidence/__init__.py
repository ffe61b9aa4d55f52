"""Does Fisher information beat a random selection? Trainings behind `docs/evidence.md`; see `__main__`."""
