"""What takes the place of PEFT's KaSA: the same adapter, on a base that is never written."""

import peft  # noqa: F401  # first: its import installs this package, which must not be half imported by then
