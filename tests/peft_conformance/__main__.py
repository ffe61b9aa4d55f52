"""Run PEFT's own test suite over our tuners: `python -m tests.peft_conformance [TUNER ...]`."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests.peft_conformance import hub
from tests.peft_conformance.cases import TABLES
from tests.peft_conformance.sdist import SUITE, ConformanceError, pinned, unpack
from tests.peft_conformance.tuners import CONTROLS, TUNERS

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".work" / "peft-conformance"


def main() -> int:
    """Fetch the suite, build the stand-ins, run pytest; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.peft_conformance", description=__doc__)
    parser.add_argument(
        "tuners", nargs="*", metavar="TUNER", help=f"of {', '.join([*TUNERS, *CONTROLS])}; default: ours"
    )
    parser.add_argument("-n", "--workers", default="2", help="processes (2)")
    parser.add_argument("-k", "--only", help="tests to run, as pytest's -k")
    given = parser.parse_args()
    if unknown := set(given.tuners) - {*TUNERS, *CONTROLS}:
        parser.error(f"no such tuner: {', '.join(sorted(unknown))}; there are {', '.join([*TUNERS, *CONTROLS])}")
    if not (given.tuners or TUNERS):
        parser.error("there is no tuner of ours yet; name one of PEFT's")
    try:
        suite = unpack(pinned(ROOT / "constraints.txt"), CACHE)
    except ConformanceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("building the stand-ins for models of the hub", flush=True)
    hub.build(CACHE / "hub")
    environment = {
        **os.environ,
        "HF_HUB_CACHE": str(CACHE / "hub"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PEFT_CONFORMANCE_TUNERS": " ".join(given.tuners),
    }
    command = [
        *(sys.executable, "-m", "pytest", "-p", "tests.peft_conformance.plugin", "-p", "no:cacheprovider"),
        *("-c", str(Path(__file__).with_name("suite.ini")), "--rootdir", str(suite), "-n", given.workers),
        *(["-k", given.only] if given.only else []),
        *(str(suite / SUITE / f"{module}.py") for module in TABLES),
    ]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
