"""Speed of neuron classification against one full pass for each neuron: ``python -m benchmarks.neurons --help``.

The naive way masks one neuron, then hears every clean and every triggered clip: front end, network, loss. It is timed
on one neuron of each layer and scaled by the number of neurons. Ours is timed whole, with features and planning. Times
are of the processor on one thread, which other work on the machine disturbs less than the clock. The numbers of both
are compared for the neurons that the naive way did. ``--count`` counts instead what both multiply and add.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from soundproof.analysis._prefix import Replay
from soundproof.core import registry
from soundproof.core.files import write_json
from soundproof.core.memory import keep_freed_memory
from soundproof.core.seeds import Rng
from soundproof.models import Model, Units, Victim, find_units, masked

RESULTS = Path(__file__).parent / "results" / "analysis"
CLASSES = tuple(f"word{number}" for number in range(10))
BATCH = 250


def measure(model: str, frontend: str, clips: int, every: int) -> dict[str, object]:
    """Both ways on so many clean and so many triggered clips (noise: time does not depend on what is said)."""
    victim = _victim(model, frontend)
    source = Rng(1).torch()
    audio = [0.1 * torch.randn(clips, victim.clip_samples, generator=source) for _ in ("clean", "triggered")]
    labels = torch.arange(clips) % len(CLASSES)
    with torch.no_grad():
        layers = _convolutions(victim, victim.features(audio[0][:1]))
        neurons = sum(one.count for one in layers)
        sampled = layers[::every]
        plain, naive_seconds = _naive(victim, sampled, audio, labels)
        began = time.process_time()
        features = [torch.cat([victim.features(part) for part in one.split(BATCH)]) for one in audio]
        replay = Replay(victim.network, layers, "mask", features[0][:2])
        changed = [replay.losses(one, labels)[1] for one in features]
        ours_seconds = time.process_time() - began
    worst = max(
        float((ours[layers.index(one)][one.count // 2] - theirs).abs().max())
        for ours, several in zip(changed, plain, strict=True)
        for one, theirs in zip(sampled, several, strict=True)
    )
    scaled = naive_seconds / len(sampled) * neurons
    return {
        "model": model,
        "frontend": frontend,
        "neurons": neurons,
        "clips": clips,
        "naive_seconds": round(scaled, 1),
        "naive_neurons_timed": len(sampled),
        "ours_seconds": round(ours_seconds, 1),
        "times_faster": round(scaled / ours_seconds, 2),
        "largest_difference_of_a_clip_loss": worst,
    }


def count(model: str, frontend: str, clips: int) -> dict[str, object]:
    """Floating-point operations of the network in both ways, in teraflop; those of one clip, times all clips."""
    victim = _victim(model, frontend)
    with torch.no_grad():
        features = victim.features(0.1 * torch.randn(2, victim.clip_samples, generator=Rng(1).torch()))
        layers = _convolutions(victim, features)
        replay = Replay(victim.network, layers, "mask", features)
        with FlopCounterMode(display=False) as whole:
            victim.network(features)
        with FlopCounterMode(display=False) as ours:
            replay.losses(features, torch.arange(len(features)))
    scale = 2 * clips / len(features) / 1e12
    naive = whole.get_total_flops() * sum(one.count for one in layers)
    return {
        "model": model,
        "frontend": frontend,
        "clips": clips,
        "naive_teraflop": round(scale * naive, 1),
        "ours_teraflop": round(scale * ours.get_total_flops(), 1),
    }


def _victim(model: str, frontend: str) -> Victim:
    chosen = cast("Model", registry.from_spec("models", {"name": model, "frontend": frontend}))
    return Victim.create(chosen, CLASSES, Rng(0)).eval()


def _convolutions(victim: Victim, features: Tensor) -> list[Units]:
    return [one for one in find_units(victim.network, features[:1]) if "conv" in one.kind]


def _naive(
    victim: Victim, layers: list[Units], audio: list[Tensor], labels: Tensor
) -> tuple[list[list[Tensor]], float]:
    """Losses of clips without the middle neuron of each layer, and the seconds of all passes."""
    found: list[list[Tensor]] = [[] for _ in audio]
    began = time.process_time()
    for one in layers:
        with masked(victim.network, one, [one.count // 2]):
            for several, waves in zip(found, audio, strict=True):
                logits = torch.cat([victim(part) for part in waves.split(BATCH)])
                several.append(nn.functional.cross_entropy(logits.double(), labels, reduction="none"))
    return found, time.process_time() - began


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="resnet")
    parser.add_argument("--frontends", nargs="+", default=["mfcc40_16k", "mfcc40_44k"])
    parser.add_argument("--clips", type=int, default=500, help="clean, and as many triggered")
    parser.add_argument("--every", type=int, default=1, help="time the naive way on every n-th layer only")
    parser.add_argument("--count", action="store_true", help="count operations, and time nothing")
    parser.add_argument("--out", type=Path, default=RESULTS / "speed.json")
    options = parser.parse_args()
    if options.count:
        for frontend in options.frontends:
            print(count(options.model, frontend, options.clips))
        return
    torch.set_num_threads(1)
    keep_freed_memory()
    rows: list[dict[str, object]] = []
    for frontend in options.frontends:
        rows.append(measure(options.model, frontend, options.clips, options.every))
        print(rows[-1], flush=True)
    write_json(options.out, rows)


if __name__ == "__main__":
    main()
