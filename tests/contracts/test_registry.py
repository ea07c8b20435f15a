"""Every component that there is, against every rule of its role. A new file in a role's folder is covered as it is."""

from __future__ import annotations

import pytest

from soundproof.core import registry
from soundproof.core.errors import MissingExtraError
from soundproof.testing import Check, checks_for

CHECKS = [
    check
    for group in registry.GROUPS
    for name in registry.names(group)
    for check in checks_for(registry.get(group, name))
]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_contract(check: Check) -> None:
    try:
        check()
    except MissingExtraError as missing:  # some need a compiler to be installed; what setup always brings must be there
        if "pyworld" not in str(missing):
            raise
        pytest.skip(str(missing))


@pytest.mark.parametrize("group", registry.GROUPS)
def test_summaries_are_read_without_importing(group: str) -> None:
    listed = registry.summaries(group)
    assert list(listed) == list(registry.names(group))
    for name, summary in listed.items():
        assert summary == registry.get(group, name).summary()
        assert summary
