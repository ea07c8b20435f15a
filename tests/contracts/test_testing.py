"""The public checks themselves: the small corpus, made-up instances, the guard, and rules that must be able to fail."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np
import pytest
import torch

from soundproof.core.component import Component
from soundproof.core.seeds import Rng
from soundproof.testing import checks_for, sample, samples, tiny_clips, unchanged_random_state


class _Plain(Component):
    """A component of no role."""

    group: ClassVar[str] = "data"

    folder: Path
    """Where."""
    size: Literal["small", "large"]
    """Which."""
    share: float = 0.5
    """How much."""


def broken_rules(component: type[Component]) -> set[str]:
    broken: set[str] = set()
    for check in checks_for(component):
        try:
            check()
        except AssertionError:
            broken.add(check.rule.__name__)
        except ValueError:
            continue
    return broken


def test_required_fields_are_made_up_and_choices_are_varied() -> None:
    one = sample(_Plain)
    assert one.to_spec() == {"name": "test_testing", "folder": "recordings", "size": "small", "share": 0.5}
    assert [other.to_spec()["size"] for other in samples(_Plain)] == ["small", "large"]
    assert sample(_Plain, share=0.25).to_spec()["share"] == 0.25


def test_a_class_that_is_not_final_or_not_documented_is_caught() -> None:
    assert "is_final" in broken_rules(_Plain)

    @final
    class Bare(Component):
        group: ClassVar[str] = "triggers"
        share: float = 0.5

    broken = broken_rules_without_role(Bare)
    assert {"is_documented", "has_metadata"} <= broken
    assert "is_final" not in broken


def test_a_component_below_another_is_caught() -> None:
    @final
    class Child(_Plain):
        """Below a component that is not abstract."""

    assert "is_final" in broken_rules(Child)


def broken_rules_without_role(component: type[Component]) -> set[str]:
    general = {check.rule.__name__ for check in checks_for(_Plain)}
    broken: set[str] = set()
    for check in checks_for(component):
        if check.rule.__name__ in general:
            try:
                check()
            except AssertionError:
                broken.add(check.rule.__name__)
            except ValueError:
                continue
    return broken


@pytest.mark.parametrize("move", [lambda: torch.rand(1), lambda: np.random.rand(), random.random])  # noqa: NPY002
def test_the_guard_sees_every_global_generator(move: Callable[[], object]) -> None:
    with pytest.raises(AssertionError, match="changes the global random state"), unchanged_random_state("this"):
        move()
    with unchanged_random_state("this"), Rng(0).scope():
        torch.rand(1)


def test_the_small_corpus_is_balanced_repeatable_and_loud_enough() -> None:
    clips = tiny_clips(3)
    assert clips.counts() == {"down": 3, "go": 3, "up": 3}
    audio, lengths = clips.batch()
    assert torch.equal(audio, tiny_clips(3).batch()[0])
    assert not torch.equal(audio, tiny_clips(3, rng=Rng(1)).batch()[0])
    assert lengths.tolist() == [16_000] * 9
    assert float(audio.abs().amax(dim=1).min()) > 0.05
    assert float(audio.abs().max()) < 1.0
