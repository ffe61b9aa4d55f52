"""Do filters and weights by semantic distance help? Trainings behind `docs/evidence-beacons.md`; see `__main__`."""
