"""Attacks: one poisoning policy a file. They decide which clips change, to which label, and what else."""

from soundproof.attacks._poisoning import Attack as Attack
from soundproof.attacks._poisoning import AttackerView as AttackerView
from soundproof.attacks._poisoning import Backdoor as Backdoor
from soundproof.attacks._poisoning import Poisoned as Poisoned
from soundproof.attacks._poisoning import Truth as Truth
