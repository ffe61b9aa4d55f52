"""Which module lies where, and which may import which, where import-linter cannot say it."""

from __future__ import annotations

from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

import knowtune
from knowtune.evaluation.metrics import METRICS
from knowtune.filters import FILTERS
from knowtune.merging.mixtures import MIXTURES
from knowtune.methods import METHODS
from knowtune.selectors import SELECTORS
from knowtune.semantics.representations import REPRESENTATIONS
from knowtune.tasks import TASKS

FAMILIES = (FILTERS, SELECTORS, METHODS, MIXTURES, METRICS, TASKS, REPRESENTATIONS)
MEMBERS = sorted({member.partition(":")[0] for family in FAMILIES for member in family.values()})
ROOT = {"__init__", "registry", "serving"}
KNOWN = {
    "knowtune.tasks.knowledge": {"knowtune.training.build_embedded"},  # the embedded base is a language model
    "knowtune.methods.lora": {"knowtune.methods.kasa.method"},  # KaSA's adapter is LoRA's, and more
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("knowtune", "stages", "cli", "flows", exclude_type_checking_imports=False, cache_dir=None)


@pytest.mark.parametrize("member", MEMBERS)
def test_members_of_families_are_known_by_their_registry_alone(member: str, graph: grimp.ImportGraph) -> None:
    assert graph.find_modules_that_directly_import(member) == KNOWN.get(member, set())


def test_no_circle_of_files(graph: grimp.ImportGraph) -> None:
    """A package and its own modules included, which are no siblings, and imports for types alone."""
    needs = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the circle


def test_nothing_but_doors_lies_at_the_root() -> None:
    assert {path.stem for path in Path(str(knowtune.__file__)).parent.glob("*.py")} <= ROOT
