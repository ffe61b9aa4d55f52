from __future__ import annotations

import pytest
from pydantic import ValidationError

from knowtune.common.errors import UserError
from knowtune.filters.relations import Relations
from tests.unit.helpers import fact_rows, seen_of


def test_other_relations_go_with_their_name() -> None:
    rows = fact_rows().set_axis(range(100, 124))
    found = Relations(only=["town"]).reasons(rows, seen_of(rows))
    assert found.index.equals(rows.index)
    assert dict(zip(rows["relation"], found, strict=True)) == {"town": "", "colour": "of the relation colour"}


def test_all_of_them_keep_everything() -> None:
    rows = fact_rows()
    assert (Relations(only=["colour", "town"]).reasons(rows, seen_of(rows)) == "").all()


def test_a_relation_that_no_row_has_is_refused() -> None:
    message = "no relation is called 'towns'; known: colour, town; did you mean 'town'"
    with pytest.raises(UserError, match=message):
        Relations(only=["towns"]).reasons(fact_rows(), seen_of(fact_rows()))


@pytest.mark.parametrize("only", [[], ["a", "a"], [" "]])
def test_odd_names_are_refused(only: list[str]) -> None:
    with pytest.raises(ValidationError, match="only"):
        Relations(only=only)
