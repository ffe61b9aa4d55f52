"""What lies on disk of a model: the base and its card, plain checkpoints, stored weights."""
