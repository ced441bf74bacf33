"""The types of the options name the options that exist."""

from typing import get_type_hints

import pytest

from rlm_dist.client.option_types import BudgetOptions, SubmitBatchOptions, SubmitOptions
from rlm_dist.client.options import BatchBudget, BatchOptions, JobOptions


@pytest.mark.parametrize(
    ("typed", "checked"),
    [
        (SubmitOptions, JobOptions.model_fields),
        (BudgetOptions, BatchBudget.model_fields),
        (SubmitBatchOptions, JobOptions.model_fields | BatchOptions.model_fields),
    ],
)
def test_the_types_have_the_options_that_are_checked(typed: type, checked: dict[str, object]) -> None:
    assert set(get_type_hints(typed)) == set(checked)
