"""Make the store of runs ready and print its address: MLFLOW_TRACKING_URI, else a SQLite file of the project.

With `--page`, print where the table of runs is, below the address of a server. With `--renew`, make models that an
older version logged loadable again, see `stages.tracking.renew`.
"""

from __future__ import annotations

import argparse
import sys

from knowtune.common.secrets import mask
from stages.core.params import PARAMS
from stages.core.pipeline import quick_yaml
from stages.tracking.addresses import name_of
from stages.tracking.renew import renew
from stages.tracking.store import in_words, open_experiment, open_store
from stages.tracking.view import page


def main() -> int:
    """Print an address; an error is one line."""
    parser = argparse.ArgumentParser(prog="python -m stages.tracking", description=__doc__)
    parser.add_argument("--page", action="store_true", help="print the path of the table of runs on a server")
    parser.add_argument("--renew", action="store_true", help="make models that an older version logged loadable again")
    args = parser.parse_args()
    try:
        client = open_store()
        experiment = str(quick_yaml(PARAMS)["tracking"]["experiment"]) if args.page or args.renew else ""
        if args.page:
            print(page(client, open_experiment(client, experiment)))
        elif args.renew:
            print("".join(f"renewed models:/{model}\n" for model in renew(client, experiment)) or "nothing to renew")
        else:
            print(client.tracking_uri)
    except Exception as error:
        print(f"error: {name_of()}: {mask(in_words(error))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
