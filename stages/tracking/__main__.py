"""Make the store of runs ready and print its address: MLFLOW_TRACKING_URI, else a SQLite file of the project.

With `--page`, print where the table of runs is, below the address of a server.
"""

from __future__ import annotations

import argparse
import sys

from knowtune.common.secrets import mask
from stages.core.params import PARAMS
from stages.core.pipeline import quick_yaml
from stages.tracking.addresses import name_of
from stages.tracking.store import in_words, open_experiment, open_store
from stages.tracking.view import page


def main() -> int:
    """Print an address; an error is one line."""
    parser = argparse.ArgumentParser(prog="python -m stages.tracking", description=__doc__)
    parser.add_argument("--page", action="store_true", help="print the path of the table of runs on a server")
    args = parser.parse_args()
    try:
        client = open_store()
        if args.page:
            print(page(open_experiment(client, quick_yaml(PARAMS)["tracking"]["experiment"])))
        else:
            print(client.tracking_uri)
    except Exception as error:
        print(f"error: {name_of()}: {mask(in_words(error))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
