"""The words for the kinds of models: those that a program reads, and those that a person does."""

from __future__ import annotations

import pytest

from pipelines.spec.record import Kind


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_is_spelled_as_its_name_and_named_for_a_sentence(kind):
    assert kind.value == kind.name.lower()
    assert kind.named.startswith(("a ", "an "))
    assert "_" not in kind.named
