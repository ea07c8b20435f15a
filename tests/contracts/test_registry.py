"""Every component that there is, against every rule of its role. A new file in a role's folder is covered as it is."""

from __future__ import annotations

import functools

import pytest

from soundproof.core import registry
from soundproof.core.errors import InvalidInputError, MissingExtraError, UnknownNameError
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


def test_a_name_may_carry_its_group() -> None:
    clp = registry.get("defenses/repair", "clp")
    assert (
        clp is registry.get("defenses/repair", "repair/clp") is registry.get("defenses/repair", "defenses/repair/clp")
    )
    with pytest.raises(UnknownNameError, match="there is no 'models/clp' in defenses/repair"):
        registry.get("defenses/repair", "models/clp")


def test_entry_points_are_called_after_their_module_and_shadow_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {"swapped": "elsewhere.clp", "ultrasonic": "elsewhere.ultrasonic", "gone": "no_such_package.gone"}

    def found(group: str) -> dict[str, str]:
        return entries if group == "triggers" else {}

    monkeypatch.setattr(registry, "_entries", found)
    monkeypatch.setattr(registry, "get", functools.cache(registry.get.__wrapped__))
    cases = {
        "swapped": "the entry point swapped = elsewhere.clp must be called after its module, 'clp'",
        "ultrasonic": "the entry point ultrasonic = elsewhere.ultrasonic has the name of one of Soundproof's own",
        "gone": "triggers/gone cannot be imported from no_such_package.gone: ModuleNotFoundError",
    }
    listed = registry.summaries("triggers")
    for name, sentence in cases.items():
        with pytest.raises(InvalidInputError, match=sentence):
            registry.get("triggers", name)
        assert listed[name].startswith("cannot be used: ")
    assert listed["jingleback"] == registry.get("triggers", "jingleback").summary()
