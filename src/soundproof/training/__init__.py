"""The one training loop, its batches and steps, and victims on disk."""

from soundproof.training._answers import accuracy as accuracy
from soundproof.training._answers import logits_of as logits_of
from soundproof.training._answers import named_right as named_right
from soundproof.training._augment import augmented_audio as augmented_audio
from soundproof.training._examples import ClipExamples as ClipExamples
from soundproof.training._examples import Cue as Cue
from soundproof.training._examples import Examples as Examples
from soundproof.training._examples import TensorExamples as TensorExamples
from soundproof.training._examples import cues_of as cues_of
from soundproof.training._export import export as export
from soundproof.training._joined import SYNTHETIC_SHARE as SYNTHETIC_SHARE
from soundproof.training._joined import half_unlabelled as half_unlabelled
from soundproof.training._joined import partly_synthetic as partly_synthetic
from soundproof.training._optimizing import steps_per_epoch as steps_per_epoch
from soundproof.training._resume import Checkpoint as Checkpoint
from soundproof.training._teacher import Teacher as Teacher
from soundproof.training.checkpoint import load_model as load_model
from soundproof.training.checkpoint import load_victim as load_victim
from soundproof.training.checkpoint import save_victim as save_victim
from soundproof.training.fit import FitLog as FitLog
from soundproof.training.fit import fit as fit
from soundproof.training.steps import GradientNormStep as GradientNormStep
from soundproof.training.steps import PlainStep as PlainStep
from soundproof.training.steps import StepRule as StepRule
from soundproof.training.victim import fit_victim as fit_victim
