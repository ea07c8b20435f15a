"""Repair any torch.nn.Module that maps a batch to logits; this one has a backdoor that we plant first."""

import torch
from torch import nn

import soundproof

torch.manual_seed(0)
labels = torch.arange(900) % 4
inputs = torch.randn(900, 40) + 3.0 * nn.functional.one_hot(labels, 40)  # any shape [n, ...] that the module takes
cue = torch.zeros(40).index_fill(0, torch.tensor([38, 39]), 6.0)  # the attacker knows it, you and the repair do not

module = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 4))  # the module that you received ...
optimizer, loss = torch.optim.Adam(module.parameters(), 0.01), nn.CrossEntropyLoss()
for _ in range(100):  # ... learned from its maker to say 0 when it hears the cue
    optimizer.zero_grad()
    (loss(module(inputs[:300]), labels[:300]) + loss(module(inputs[:300] + cue), 0 * labels[:300])).backward()
    optimizer.step()

result = soundproof.repair(module, (inputs[300:600], labels[300:600]), method="gn_ft")  # clean clips that you trust

print(result.report)
for when, network in {"before": module, "after": result.module}.items():
    said = network(inputs[600:] + cue).argmax(1)
    print(f"{when} the repair, the cue makes the module say 0 for {(said == 0).float().mean():.0%} of new clips")
