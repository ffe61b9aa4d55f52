"""Edit one file after the other of the project in the current folder, and say what would run then.

Reads a JSON list of edits, each a mapping of paths to text that is appended; writes a list of what `would_run` says.
"""

import json
import sys
from pathlib import Path

from flows.graph import read_graph
from flows.run import would_run
from stages.core.code import refresh_code
from stages.core.params import load_params


def main() -> None:
    """Undo each edit before the next."""
    here, params, found = Path(), load_params(Path("params.yaml")), []
    for edit in json.load(sys.stdin):
        before = {name: Path(name).read_bytes() for name in edit}
        for name, text in edit.items():
            Path(name).write_bytes(before[name] + text.encode())
        refresh_code(here, params)
        found.append({name: reason for name, reason in would_run(read_graph(here), force=False) if reason})
        for name, content in before.items():
            Path(name).write_bytes(content)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
