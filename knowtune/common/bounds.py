"""Bounds of the numbers that a person sets."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field


def _in_range(number: float) -> float:
    """Refuse a number that is as good as none, or that no step survives."""
    if number and not 1e-12 <= number <= 1e12:
        raise ValueError("between 1e-12 and 1e12")
    return number


Count = Annotated[int, Field(ge=1, lt=2**31)]
Natural = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0), AfterValidator(_in_range)]
Rate = Annotated[Positive, Field(lt=1)]
