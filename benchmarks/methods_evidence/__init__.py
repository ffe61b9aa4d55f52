"""KaSA and SK-Tuning against methods of their kind: the trainings and the page docs/evidence-methods.md."""
