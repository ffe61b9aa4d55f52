"""Gradients of single examples, and what is computed from them: Fisher information, sketches."""
