"""What lies on disk behind an experiment, as text that is part of a result's address."""

from __future__ import annotations

from soundproof.attacks import Attack
from soundproof.bench.brought import Brought, file_digests, read_brought
from soundproof.bench.holding import held_content
from soundproof.bench.spec import Experiment
from soundproof.core.component import fields_of, fingerprint, named_files, plain
from soundproof.core.progress import SILENT, Progress


def joined(content: str, brought: Brought, attack: Attack | None) -> str:
    """The content of a poisoned corpus: of the clean one, what the attacker brought, files that the attack names."""
    return "-".join([content, *brought.digests, *file_digests(attack)])


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
        if attacker.sounds is None and attacker.voices is None and not named_files(experiment.attack):
            return self.clean(experiment)
        rate = experiment.sample_rate_hz
        key = fingerprint([experiment.data.to_spec(), fields_of(attacker), plain(experiment.attack), rate])
        if key not in self._known:
            brought = read_brought(attacker, rate, self._progress)
            self._known[key] = joined(self.clean(experiment), brought, experiment.attack)
        return self._known[key]

    def held(self, experiment: Experiment) -> str:
        """Changes when what the defender brings from elsewhere does; empty if there is nothing.

        Raises:
            BadDataError: if a corpus or folder of the defender's is missing.
        """
        key = fingerprint(["defender", fields_of(experiment.defender)])
        if key not in self._known:
            self._known[key] = held_content(experiment.defender)
        return self._known[key]
