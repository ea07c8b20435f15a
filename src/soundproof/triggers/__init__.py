"""Triggers: one cue a file. Each adds what the attacker wants the model to react to."""

from soundproof.triggers._trigger import Stamp as Stamp
from soundproof.triggers._trigger import Trigger as Trigger
