"""Analyses: how well a cue hides; which neurons carry a backdoor, their gradients; where triggered clips lie; how
fast a backdoor comes back."""

from soundproof.analysis._prefix import Method as Method
from soundproof.analysis.dnsmos import Dnsmos as Dnsmos
from soundproof.analysis.embedding import Embedding as Embedding
from soundproof.analysis.embedding import embed_clips as embed_clips
from soundproof.analysis.embedding import project as project
from soundproof.analysis.gradients import Comparison as Comparison
from soundproof.analysis.gradients import GradientNorms as GradientNorms
from soundproof.analysis.gradients import gradient_norms as gradient_norms
from soundproof.analysis.neurons import NeuronClasses as NeuronClasses
from soundproof.analysis.neurons import classify_neurons as classify_neurons
from soundproof.analysis.neurons import select_layers as select_layers
from soundproof.analysis.nisqa import Nisqa as Nisqa
from soundproof.analysis.reactivation import Reactivation as Reactivation
from soundproof.analysis.reactivation import reactivate as reactivate
from soundproof.analysis.speaker_model import SpeakerModel as SpeakerModel
from soundproof.analysis.stealth import QualityRater as QualityRater
from soundproof.analysis.stealth import Reading as Reading
from soundproof.analysis.stealth import Stealth as Stealth
from soundproof.analysis.stealth import compare as compare
from soundproof.analysis.stealth import measure_stealth as measure_stealth
