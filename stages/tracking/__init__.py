"""What a reproduction did, remembered in MLflow: the only room that knows it.

A stage hands in a note (`stage_notes`), which costs milliseconds. A process in the background (`tracker`) is the only
one that imports MLflow; it turns notes into runs. Without it, or when MLflow fails, stages run all the same.
"""

from stages.tracking.ending import drain
from stages.tracking.reproduction import reproduction_environment, why_untracked
from stages.tracking.sweep_notes import open_point, open_sweep
from stages.tracking.sweeps import point_environment

__all__ = ["drain", "open_point", "open_sweep", "point_environment", "reproduction_environment", "why_untracked"]
