"""Labelled speech: the columnar :class:`Clips`, and one file per corpus."""

from soundproof.data._clips import Clips as Clips
from soundproof.data._dataset import Corpus as Corpus
from soundproof.data._dataset import Dataset as Dataset
