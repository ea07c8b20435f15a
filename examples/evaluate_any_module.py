"""Wrap any torch.nn.Module that hears recordings, repair it, and measure what a trigger does to it before and after."""

import torch
from torch import Tensor, nn

import soundproof
from soundproof.testing import tiny_clips  # chords in place of words; your own: Clips.from_audio, or data/folder


class Mine(nn.Module):
    """The mean of the frames of MFCCs [batch, frames, 40], then two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(40)
        self.hidden, self.head = nn.Linear(40, 32), nn.Linear(32, 3)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.hidden(self.norm(features.mean(1))).relu())


torch.manual_seed(0)
clips = tiny_clips(60)
model = soundproof.adapt(
    Mine(),  # not trained yet, so the repair below teaches it all that it will know
    classes=clips.classes,
    frontend="mfcc40_16k",
    embed="head",  # for analyses: its penultimate vectors are what goes in here
    units=["hidden"],  # and these are its neurons
)
result = soundproof.repair(model, clips.select(range(90)), method="fine_tuning")

cue = {"name": "ultrasonic", "frequency_hz": 7000}  # a suspicion; also the path of a TOML file
for when, heard in {"before": model, "after": result.module}.items():
    record = soundproof.evaluate(heard, clips.select(range(90, 180)), trigger=cue, target="up")
    for name in ("clean_accuracy", "attack_success_rate"):
        measure = record.metrics[name]
        print(
            f"{when}: {name} {measure.value:.0%} of {measure.denominator:.0f} ({measure.low:.0%} to {measure.high:.0%})"
        )
