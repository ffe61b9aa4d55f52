"""Preserve: keep what the base knew while a run learns: replay, distillation, anchors; and what must be protected."""

OPENED = {  # what a run opens that has a `preserve`; of a run without one it is no code
    "material": "knowtune.preserve.sources:read_material",
    "preservation": "knowtune.preserve.preservation:open_preservation",
}
