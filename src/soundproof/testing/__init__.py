"""Contract checks for anyone's components, and small corpora to try them on.

A package that brings a trigger, attack, model, defense, corpus or metric runs the same checks as this project::

    import pytest
    from soundproof.testing import Check, checks_for

    @pytest.mark.parametrize("check", checks_for(MyTrigger), ids=str)
    def test_contract(check: Check) -> None:
        check()
"""

from soundproof.testing._check import Check as Check
from soundproof.testing._check import ensure as ensure
from soundproof.testing._check import unchanged_random_state as unchanged_random_state
from soundproof.testing._contract import check_component as check_component
from soundproof.testing._contract import checks_for as checks_for
from soundproof.testing._samples import sample as sample
from soundproof.testing._samples import samples as samples
from soundproof.testing._toys import tiny_clips as tiny_clips
