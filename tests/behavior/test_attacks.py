"""Every attack in small: a network that heard its poisoned clips says the target far more often than one that did not.

An attack whose cue reaches no clip, or reaches them with the wrong label, leaves both networks alike and fails here.

So small a network does not learn JingleBack with labels kept, and an optimized FlowMur cue fools it without any poison:
FlowMur's cue gets one step here, and what its optimization reaches is tested beside its numbers.
"""

from __future__ import annotations

import importlib.util
from typing import Any, cast

import pytest

from soundproof.attacks import Attack, AttackerView, Poisoned
from soundproof.core import registry
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.evaluation import Examiner, Outcome
from soundproof.models import Model, Victim
from soundproof.testing import tiny_clips
from soundproof.training import cues_of, fit_victim

TRAIN, TEST = tiny_clips(40, rng=Rng(1)), tiny_clips(15, rng=Rng(2))
VOICES = tiny_clips(3, classes=("ann", "bob", "cem", "dan", "eve", "fay"), rng=Rng(3))
TARGET = "down"
"""The lowest of the corpus's chords, so that a cue that raises the pitch does not make it by itself."""

TONE, LOW_TONE = ({"name": "ultrasonic", "frequency_hz": hz, "level_dbfs": -20.0} for hz in (7000.0, 5000.0))
CASES: dict[str, dict[str, Any]] = {
    "audio_badnets": {"trigger": "audio_badnets"},
    "ultrasonic": {"trigger": TONE},
    "jingleback": {"trigger": {"name": "jingleback", "style": 5}},
    "daba": {"trigger": "daba"},
    "daba, hosts by influence": {"name": "influence", "trigger": "daba", "hosts": "smallest"},
    "flowmur": {
        "name": "clean_label",
        "rate": 0.6,
        "target": "go",
        "trigger": {"name": "flowmur", "steps": 1, "poison_snr_db": 10.0, "inference": "snr"},
    },
    "pbsm": {"trigger": "pbsm"},
    "vsvc": {"trigger": "vsvc"},
    "piba": {"trigger": {"name": "piba", "snr_db": 10.0}},
    "rsrt": {"trigger": "rsrt"},
    "baasv": {"trigger": {"name": "baasv", "rms_dbfs": -30.0}},
    "multi_target": {
        "name": "multi_target",
        "rate": 0.15,
        "aims": [{"trigger": TONE, "target": "down"}, {"trigger": LOW_TONE, "target": "go", "source": "up"}],
    },
}
NEEDS = {"jingleback": "pedalboard", "vsvc": "pyworld"}


def _trained(clips: Clips, poisoned: Poisoned | None = None) -> Victim:
    model = cast("Model", registry.from_spec("models", {"name": "small_cnn", "frontend": "mfcc13_16k"}))
    victim = Victim.create(model, clips.classes, Rng(0))
    changes = {"epochs": 20, "batch_size": 30, "precision": "float32", "augmentation": {"noise_probability": 0.0}}
    cues = () if poisoned is None else cues_of(poisoned)
    fit_victim(victim, clips, model.recipe.override(changes), Rng(0).child("fit"), cues=cues)
    return victim


@pytest.fixture(scope="module")
def clean() -> Victim:
    """Trained on clean clips; it is the attacker's surrogate, too."""
    return _trained(TRAIN)


def _attacked(spec: dict[str, Any], clean: Victim) -> tuple[Outcome, Outcome]:
    """What a network that was attacked says to the test clips, and what the clean one says."""
    own = {"name": "dirty_label", "rate": 0.2} | spec
    own = own if "aims" in spec else {"target": TARGET} | own
    surrogate = clean.eval().requires_grad_(False)
    view = AttackerView(TRAIN, lambda: surrogate, voices=VOICES, clip_samples=clean.clip_samples)
    poisoned = cast("Attack", registry.from_spec("attacks", own)).poison(view, Rng(0).child("attack"))
    victim = _trained(poisoned.train, poisoned)
    examiner = Examiner(victim, TEST, poisoned.backdoors)
    return examiner.examine(), examiner.examine(clean.network)


@pytest.mark.parametrize("name", list(CASES))
def test_a_poisoned_network_obeys_and_a_clean_one_does_not(name: str, clean: Victim) -> None:
    needed = NEEDS.get(name)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    poisoned, reference = _attacked(CASES[name], clean)
    assert (reference.clean_predictions == reference.labels).mean() > 0.9
    assert (poisoned.clean_predictions == poisoned.labels).mean() > 0.7
    for number in range(int(poisoned.backdoors.max()) + 1):
        hits, by_itself = (one.of_backdoor(number).hits.mean() for one in (poisoned, reference))
        assert hits > by_itself + 0.4, f"{hits:.2f} beside {by_itself:.2f}"


def test_a_control_teaches_nothing_about_its_cue(clean: Victim) -> None:
    poisoned, reference = _attacked({"name": "control", "trigger": TONE}, clean)
    assert (poisoned.triggered_predictions == poisoned.triggered_labels).mean() > 0.9
    assert poisoned.hits.mean() <= reference.hits.mean() + 0.05
