"""Defenses: what they may see, what they give back, and one method a file in a folder per role."""

from soundproof.defenses._roles import NONE_ACCEPTED as NONE_ACCEPTED
from soundproof.defenses._roles import DefenderView as DefenderView
from soundproof.defenses._roles import Repair as Repair
from soundproof.defenses._roles import Repairer as Repairer
from soundproof.defenses._roles import Trial as Trial
