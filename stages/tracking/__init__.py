"""What a reproduction did, remembered in MLflow: the only room that knows it.

A stage hands in a note (`stage_notes`), which costs milliseconds. A process in the background (`tracker`) is the only
one that imports MLflow; it turns notes into runs. Without it, or when MLflow fails, stages run all the same.
"""

from stages.tracking.ending import drain
from stages.tracking.reproduction import reproduction_environment, why_untracked

__all__ = ["drain", "reproduction_environment", "why_untracked"]
