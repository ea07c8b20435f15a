"""Triggers: one cue a file. Each adds what the attacker wants the model to react to."""

from soundproof.triggers._trigger import Clipping as Clipping
from soundproof.triggers._trigger import Playable as Playable
from soundproof.triggers._trigger import Recordings as Recordings
from soundproof.triggers._trigger import Sources as Sources
from soundproof.triggers._trigger import Stamp as Stamp
from soundproof.triggers._trigger import Surrogate as Surrogate
from soundproof.triggers._trigger import Trigger as Trigger
