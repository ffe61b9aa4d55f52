from __future__ import annotations

import pytest
import torch

from knowtune.common.errors import UserError
from knowtune.filters import FILTERS
from knowtune.filters.clean import Clean
from knowtune.methods.base import Method
from knowtune.methods.full import Full
from knowtune.registry import member_class


def test_a_member_by_its_name() -> None:
    assert member_class(FILTERS, "filter", "clean") is Clean


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        member_class(FILTERS, "filter", "claen")
    names = ", ".join(sorted(FILTERS))
    assert str(caught.value) == f"no filter is called 'claen'; known: {names}; did you mean 'clean'?"


def test_what_a_method_is_unless_it_says_otherwise() -> None:
    method: Method = Full()
    assert (method.uses_mask, method.folds, method.resumes) == (False, True, True)
    assert method.penalty(torch.nn.Linear(1, 1)) is None
    assert method.parameter_groups(torch.nn.Linear(1, 1)) is None
