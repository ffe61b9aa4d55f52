"""Edit one file after the other of the project in the current folder, and say which stages have other code then.

Reads a JSON list of edits, each a mapping of paths to text that is appended; writes a list of lists of stages.
"""

import json
import sys
from pathlib import Path

from stages.core.code import refresh_code
from stages.core.params import load_params
from stages.core.pipeline import CHECK, read_stages


def main() -> None:
    """Undo each edit before the next."""
    here, params, found = Path(), load_params(Path("params.yaml")), []
    stages = read_stages(here)
    (out,) = stages[CHECK].outs
    code = {name: path for name, stage in stages.items() for path in stage.deps if Path(path).is_relative_to(out)}
    unedited = {name: Path(path).read_bytes() for name, path in code.items()}
    for edit in json.load(sys.stdin):
        before = {name: Path(name).read_bytes() for name in edit}
        for name, text in edit.items():
            Path(name).write_bytes(before[name] + text.encode())
        refresh_code(here, params)
        found.append([name for name, path in code.items() if Path(path).read_bytes() != unedited[name]])
        for name, content in before.items():
            Path(name).write_bytes(content)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
