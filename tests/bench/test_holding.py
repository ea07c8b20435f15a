"""What the defender of an experiment holds: nothing of it is measured on."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
from suite_samples import WORDS, write_tones

from soundproof.bench.holding import held_content, hold
from soundproof.bench.spec import Defender
from soundproof.core.errors import BadDataError, InvalidInputError
from soundproof.core.recipe import Augmentation
from soundproof.core.seeds import Rng
from soundproof.data import Corpus
from soundproof.data.folder import Folder
from soundproof.data.speech_commands import SpeechCommands


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def corpus(root: Path) -> Corpus:
    return SpeechCommands(root=root, words=WORDS).load(16_000)


def test_recordings_without_labels_lose_the_clips_that_are_measured_on(root: Path, corpus: Corpus) -> None:
    defender = Defender(clean_clips=9, unlabelled=str(root))
    # the corpus fills its clips up to a second; in the folder they are as short as they were recorded
    assert soundfile.info(str(root / corpus.test.ids[0])).duration == 0.5
    assert corpus.test.lengths[0] == 16_000
    held = hold(defender, corpus, corpus.test, Rng(0)).unlabelled
    assert held is not None
    assert set(held.ids) == {*corpus.train.ids, *corpus.validation.ids}
    other = hold(defender, corpus, corpus.validation, Rng(0)).unlabelled
    assert other is not None
    assert set(other.ids) == {*corpus.train.ids, *corpus.test.ids}


def test_synthetic_voices_say_the_words_of_the_corpus(corpus: Corpus) -> None:
    held = hold(Defender(clean_clips=9, synthetic_clips=30), corpus, corpus.test, Rng(0)).synthetic
    assert held is not None
    assert held.classes == corpus.train.classes
    assert held.sample_rate_hz == corpus.train.sample_rate_hz
    assert set(held.counts().values()) == {30 // len(WORDS)}
    for word, label in zip(held.ids, held.labels, strict=True):
        assert word.split("/")[1] == WORDS[label]
    assert hold(Defender(clean_clips=9), corpus, corpus.test, Rng(0)).synthetic is None
    assert held_content(Defender(synthetic_clips=30)) != held_content(Defender())


@pytest.mark.parametrize("recorded", [Augmentation(), Augmentation(gain_db=6.0)])
def test_clean_clips_that_are_measured_on_are_refused(root: Path, corpus: Corpus, recorded: Augmentation) -> None:
    data = Folder(root=root, classes=WORDS, validation_fraction=0.0, test_fraction=0.1)
    defender = Defender(clean_fraction=1.0, data=data, recorded=recorded)
    with pytest.raises(BadDataError, match=r"of the 24 clips to measure .*another corpus in defender\.data"):
        hold(defender, corpus, corpus.test, Rng(0))
    held = hold(Defender(clean_clips=9, recorded=recorded), corpus, corpus.test, Rng(0))
    assert len(held.clean) == 9


def test_clips_of_the_validation_set_are_of_people_that_the_victim_never_heard(corpus: Corpus) -> None:
    defender = Defender(clean_clips=6, part="validation")
    held = hold(defender, corpus, corpus.test, Rng(0)).clean
    assert set(held.ids) <= set(corpus.validation.ids)
    with pytest.raises(BadDataError, match=r"part = \"training\""):
        hold(defender, corpus, corpus.validation, Rng(0))
    with pytest.raises(InvalidInputError, match="9999 clean clips"):
        hold(Defender(clean_clips=9999, part="validation"), corpus, corpus.test, Rng(0))
