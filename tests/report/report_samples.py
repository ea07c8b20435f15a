"""Evidence for the tests of the report, made up but realistic. Run as a script with a folder, it writes pages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundproof.bench.record import Measure, Record
from soundproof.core.component import fingerprint
from soundproof.report import Evidence, Example, write_page

VERSIONS = {"soundproof": "0.1.0", "python": "3.12.4", "torch": "2.8.0", "numpy": "2.4.6"}


def measure(hits: float, total: float) -> Measure:
    """A proportion with Wilson's interval."""
    share, z = hits / total, 1.959964
    middle, scale = share + z * z / (2 * total), 1 + z * z / total
    width = z * float(np.sqrt(share * (1 - share) / total + z * z / (4 * total * total)))
    low, high = max(0.0, (middle - width) / scale), min(1.0, (middle + width) / scale)
    return Measure(value=share, numerator=hits, denominator=total, low=low, high=high)


def record(defense: str, clean: int, fooled: int | None, robust: int = 0, **details: Any) -> Record:
    """One record on 592 test clips, 532 of them triggered, of which ``fooled`` get the attacker's label."""
    metrics = {"clean_accuracy": measure(clean, 592)}
    if fooled is not None:
        metrics["attack_success_rate"] = measure(fooled, 532)
        metrics["robust_accuracy"] = measure(robust, 532)
        rating = (max(0.0, (529 - fooled) / 532) - max(0.0, (539 - clean) / 592) + 1) / 2
        low, high = max(0.0, rating - 0.02), min(1.0, rating + 0.02)
        metrics["defense_effectiveness_rating"] = Measure(
            value=rating, numerator=2 * rating, denominator=2, low=low, high=high
        )
    attack = {} if fooled is None else {"attack": {"name": "dirty_label", "rate": 0.1, "target": "up"}}
    return Record(
        spec={"data": {"name": "speech_commands"}, **attack, "defense": {"name": defense}, "seed": 1},
        fingerprint=fingerprint(defense),
        defense=defense,
        seed=1,
        metrics=metrics,
        seconds=312.4 if defense == "none" else 41.7,
        peak_memory_bytes=812 * 2**20,
        versions=VERSIONS,
        device="cpu (2 threads)",
        details=details,
    )


def curve(start: float, end: float, clean: float, steps: int) -> list[dict[str, float]]:
    """A curve that falls from ``start`` to ``end`` in ``steps`` steps."""
    times = np.linspace(0, 1, 9)
    falls = end + (start - end) * np.exp(-4 * times**1.3)
    dips = clean - 0.12 * np.exp(-6 * times) * (times > 0)
    return [
        {"step": round(steps * float(at)), "attack_success_rate": float(asr), "clean_accuracy": float(ca)}
        for at, asr, ca in zip(times, falls, dips, strict=True)
    ]


def trials(chosen: int) -> dict[str, Any]:
    """A selection with four candidates."""
    rates, kept = (0.003, 0.01, 0.03, 0.1), (0.92, 0.915, 0.9, 0.79)
    rows = [
        {
            "settings": {"learning_rate": rate, "epochs": 30},
            "held_out_accuracy": acc,
            "seconds": 9.4,
            "accepted": acc > 0.85,
        }
        for rate, acc in zip(rates, kept, strict=True)
    ]
    return {"selection": rows, "chosen": chosen}


def records() -> list[Record]:
    """A victim and three defenses."""
    note = "the accepted candidates differ by less than their noise; the strongest of them was taken"
    return [
        record("none", 539, 529, 3),
        record("fine_tuning", 535, 239, 262, curve=curve(0.994, 0.449, 0.904, 690), **trials(2)),
        record(
            "fine_pruning", 522, 181, 301, curve=curve(0.994, 0.34, 0.882, 520), notes=["pruned 212 of 512 channels"]
        ),
        record("gn_ft", 532, 17, 468, curve=curve(0.994, 0.032, 0.899, 690), notes=[note], **trials(2)),
    ]


def speech(rate: int, seed: int = 0) -> NDArray[np.float32]:
    """One second that looks like a word: voiced harmonics that glide, noise, and quiet around it."""
    rng = np.random.default_rng(seed)
    times = np.arange(rate) / rate
    pitch = 120 + 25 * np.sin(2 * np.pi * 1.4 * times + seed)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    loud = np.exp(-(((times - 0.45) / 0.17) ** 4))
    formants = 500 + 400 * times + 60 * seed, 1700 - 500 * times
    harmonics = np.zeros(rate)
    for order in range(1, 40):
        weight = sum(np.exp(-(((order * pitch - formant) / 220) ** 2)) for formant in formants) + 0.02
        harmonics += weight * np.sin(order * phase)
    hiss = np.exp(-(((times - 0.75) / 0.05) ** 2)) * rng.standard_normal(rate) * 0.25
    wave = loud * harmonics + hiss + 0.002 * rng.standard_normal(rate)
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def features(wave: NDArray[np.float32], frames: int = 101) -> NDArray[np.float32]:
    """Something like cepstra [frames, 40]."""
    chunks = np.array_split(wave, frames)
    size = min(len(chunk) for chunk in chunks)
    spectra = np.log(np.abs(np.fft.rfft(np.stack([chunk[:size] for chunk in chunks]), axis=1)) + 1e-3)
    basis = np.cos(np.pi * np.outer(np.arange(spectra.shape[1]) + 0.5, np.arange(40)) / spectra.shape[1])
    return (spectra @ basis).astype(np.float32)


SAID = {"none": ("yes", "up"), "fine_tuning": ("yes", "up"), "fine_pruning": ("left", "left"), "gn_ft": ("yes", "yes")}


def ultrasonic_example(seed: int = 0) -> Example:
    """A clip with a 21 kHz tone."""
    rate = 44_100
    clean = np.round(speech(rate, seed) * 32768) / 32768
    tone = 0.1 * np.sin(2 * np.pi * 21_000 * np.arange(rate) / rate)
    triggered = np.clip(np.round((clean + tone) * 32768), -32768, 32767) / 32768
    clean, triggered = clean.astype(np.float32), triggered.astype(np.float32)
    return Example(
        f"yes/{seed:08x}_nohash_0.flac", "yes", rate, clean, triggered, features(clean), features(triggered), SAID
    )


def badnets_example() -> Example:
    """A clip whose features carry a block that no recording holds."""
    clean = speech(16_000)
    plain = features(clean)
    marked = plain.copy()
    marked[-5:, -5:] = -200
    return Example("yes/0c40e715_nohash_0.flac", "yes", 16_000, clean, clean.copy(), plain, marked, SAID)


def plain_example() -> Example:
    """A clip without any trigger."""
    clean = speech(16_000)
    said = {name: (answer, None) for name, (answer, _) in SAID.items()}
    return Example("yes/0c40e715_nohash_0.flac", "yes", 16_000, clean, None, features(clean), None, said)


SUMMARY = {
    "Data": "Speech Commands 0.02, ten words, 592 test clips of speakers who are in no other part",
    "Attack": "dirty label, ultrasonic tone at 21 kHz, 10 % of the training clips, target “up”",
    "Defender holds": "900 clean clips, 180 of them kept back to choose settings",
    "Selection rule": "the strongest repair whose held-out clean accuracy stays within 3 points of the best",
}


def experiment() -> Evidence:
    """A whole experiment with a trigger in the sound."""
    shown = [ultrasonic_example(seed) for seed in (1, 2)]
    return Evidence("Ultrasonic backdoor in a ResNet, three repairs", "experiment", records(), shown, SUMMARY)


def repair() -> Evidence:
    """An engineer's repair without a known trigger."""
    shown = [record("none", 539, None), record("gn_ft", 532, None, **trials(1))]
    return Evidence("Repair of kws-model-v3", "repair", shown, [plain_example()], {"Model": "kws-model-v3, ten words"})


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    badnets = Evidence("Audio BadNets in a ResNet", "experiment", records(), [badnets_example()], SUMMARY)
    for name, evidence in {"experiment": experiment(), "badnets": badnets, "repair": repair()}.items():
        write_page(evidence, folder / f"{name}.html")
