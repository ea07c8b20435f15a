"""Analyses of attacks: how well a cue hides."""

from soundproof.analysis.stealth import Reading as Reading
from soundproof.analysis.stealth import Stealth as Stealth
from soundproof.analysis.stealth import compare as compare
from soundproof.analysis.stealth import measure_stealth as measure_stealth
