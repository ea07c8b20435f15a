"""Clips: batches, views, overlays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from soundproof.core.errors import BadDataError, UnknownNameError
from soundproof.data import Clips

CLASSES = ("go", "up")


def _ragged() -> Clips:
    """Three clips of 4, 2 and 3 samples, one after the other in one array."""
    samples = (np.arange(1, 10) * 1000).astype(np.int16)
    starts, lengths = np.array([0, 4, 6]), np.array([4, 2, 3])
    return Clips.of(
        samples, starts, lengths, np.array([0, 1, 1]), classes=CLASSES, ids=["a", "b", "c"], sample_rate_hz=8_000
    )


def test_a_batch_is_padded_with_zeros_and_never_with_the_next_clip() -> None:
    audio, lengths = _ragged().batch()
    expected = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [7, 8, 9, 0]]) * 1000 / 32768
    torch.testing.assert_close(audio, expected)
    assert lengths.tolist() == [4, 2, 3]


@pytest.mark.parametrize("samples", [1, 3, 7])
def test_a_batch_can_be_padded_or_cut(samples: int) -> None:
    audio, lengths = _ragged().batch(samples=samples)
    assert audio.shape == (3, samples)
    assert lengths.tolist() == [min(n, samples) for n in (4, 2, 3)]
    assert not audio[1, 2:].any()


def test_selecting_is_a_view_in_the_given_order() -> None:
    clips = _ragged()
    some = clips.select([2, 0])
    assert some.samples is clips.samples
    assert some.ids.tolist() == ["c", "a"]
    torch.testing.assert_close(some.batch()[0][0, :3], torch.tensor([7, 8, 9]) * 1000 / 32768)
    assert clips.select(np.array([True, False, True])).ids.tolist() == ["a", "c"]


def test_replacing_changes_only_those_rows_and_copies_no_samples() -> None:
    clips = _ragged()
    changed = clips.replace(np.array([1]), np.full((1, 4), 1.5, np.float32), np.array([0]))
    assert changed.samples is clips.samples
    assert changed.labels.tolist() == [0, 0, 1]
    assert clips.labels.tolist() == [0, 1, 1]
    torch.testing.assert_close(changed.batch()[0][1], torch.full((4,), 1.5))
    torch.testing.assert_close(changed.batch()[0][[0, 2]], clips.batch()[0][[0, 2]])


def test_overlays_stack_and_follow_a_selection() -> None:
    once = _ragged().replace(np.array([0]), np.full((1, 4), 0.25, np.float32))
    twice = once.replace(np.array([2, 0]), np.full((2, 3), 0.5, np.float32)).select([0, 1, 2])
    audio, _ = twice.batch()
    assert audio[0].tolist() == [0.5, 0.5, 0.5, 0.0]
    assert audio[2].tolist() == [0.5, 0.5, 0.5, 0.0]
    assert audio[1, 0] == 5000 / 32768


def test_float_audio_is_kept_as_16_bit_files_keep_it() -> None:
    audio = np.array([[0.5, -1.5, 1.5]], np.float32)
    clips = Clips.from_audio(audio, [0], classes=CLASSES, sample_rate_hz=8_000)
    assert clips.batch()[0][0].tolist() == [0.5, -1.0, 32767 / 32768]


def test_keys_depend_on_the_clip_and_not_on_its_place() -> None:
    clips = _ragged()
    assert clips.select([1]).keys[0] == clips.keys[1]
    assert len(set(clips.keys.tolist())) == 3


def test_bad_audio_and_labels_are_named() -> None:
    with pytest.raises(BadDataError, match="NaN"):
        Clips.from_audio(np.full((1, 4), np.nan, np.float32), [0], classes=CLASSES, sample_rate_hz=8_000)
    with pytest.raises(BadDataError, match="a label each"):
        Clips.from_audio(np.zeros((2, 4), np.float32), [0], classes=CLASSES, sample_rate_hz=8_000)
    with pytest.raises(UnknownNameError, match="did you mean 'up'"):
        _ragged().label_of("upp")
