"""knowtune: fine-tune language models on knowledge, choose what to learn from, and keep what was known."""

__version__ = "0.1.0"
