"""What goes on while libraries are imported."""

from __future__ import annotations

import gc

import pytest

from portrayal.models.starting import collector_at_rest


def test_the_collector_rests_and_is_as_it_was_also_after_a_fault() -> None:
    assert gc.isenabled()
    with pytest.raises(ValueError, match="broken"), collector_at_rest():
        assert not gc.isenabled()
        with collector_at_rest():
            pass
        assert not gc.isenabled()  # the outer one rests on
        raise ValueError("broken")
    assert gc.isenabled()
