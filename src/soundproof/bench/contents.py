"""What lies on disk behind an experiment, as text that is part of a result's address."""

from __future__ import annotations

from soundproof.bench.brought import Brought, read_brought
from soundproof.bench.spec import Experiment
from soundproof.core.component import fields_of, fingerprint
from soundproof.core.progress import SILENT, Progress


def joined(content: str, brought: Brought) -> str:
    """The content of a poisoned corpus: that of the clean one, and of what the attacker brought along."""
    return "-".join([content, *brought.digests])


class Contents:
    """Content keys of corpora, and of what attackers bring, each looked up once."""

    def __init__(self, progress: Progress = SILENT) -> None:
        self._progress = progress
        self._known: dict[str, str] = {}

    def clean(self, experiment: Experiment) -> str:
        """Changes when the corpus on disk does.

        Raises:
            BadDataError: if the corpus is missing.
        """
        key = fingerprint(experiment.data.to_spec())
        if key not in self._known:
            self._known[key] = experiment.data.content_key()
        return self._known[key]

    def poisoned(self, experiment: Experiment) -> str:
        """Changes when the corpus or the attacker's own recordings do.

        Raises:
            BadDataError: if the corpus or a folder of the attacker's is missing.
        """
        attacker = experiment.attacker
        if attacker.sounds is None and attacker.voices is None:
            return self.clean(experiment)
        rate = experiment.sample_rate_hz
        key = fingerprint([experiment.data.to_spec(), fields_of(attacker), rate])
        if key not in self._known:
            self._known[key] = joined(self.clean(experiment), read_brought(attacker, rate, self._progress))
        return self._known[key]
