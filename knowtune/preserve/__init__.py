"""Preserve: keep what the base knew while a run learns: replay, distillation, anchors; and what must be protected."""
