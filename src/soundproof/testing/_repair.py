"""The rules of repairs: the suspect network stays as it is, and what comes back works and says how it was chosen."""

from __future__ import annotations

import copy
from typing import cast

import numpy as np
import torch
from torch import nn

from soundproof.core.component import Component
from soundproof.core.seeds import Rng
from soundproof.defenses import DefenderView, Repairer
from soundproof.testing._check import ensure, unchanged_random_state
from soundproof.testing._samples import sample
from soundproof.training import TensorExamples

_CLASSES, _WIDTH, _CLIPS, _CHANNELS = 3, 12, 60, 48


def _view() -> DefenderView:
    """A network that does well on the clean examples, and those; its dense layer is wide, for repairs of such."""
    labels = torch.arange(_CLIPS) % _CLASSES
    source = Rng(0).child("examples").torch()
    inputs = torch.randn(_CLIPS, 1, _WIDTH, generator=source) + 3.0 * nn.functional.one_hot(labels, _WIDTH)[:, None]
    with Rng(0).child("network").scope():
        network = nn.Sequential(
            nn.Conv1d(1, _CHANNELS, 3, padding=1),
            nn.BatchNorm1d(_CHANNELS),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(_CHANNELS * _WIDTH, _CLASSES),
        )
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(network(inputs), labels))
        optimizer.step()
    return DefenderView(network.eval(), TensorExamples(inputs, labels))


def leaves_the_suspect_network_alone(component: type[Component]) -> None:
    """Weights, buffers, mode and hooks of the given network stay as they were, and no global random state moves."""
    repairer = cast("Repairer", sample(component))
    view = _view()
    before = copy.deepcopy(view.network.state_dict())
    with unchanged_random_state(f"{component.full_name()}.repair"):
        result = repairer.repair(view, Rng(0).child("repair"))
    after = view.network.state_dict()
    ensure(all(torch.equal(before[name], after[name]) for name in before), f"{component.full_name()} edits the network")
    ensure(not view.network.training, f"{component.full_name()} leaves the network in training mode")
    hooks = [layer for layer in view.network.modules() if layer._forward_hooks or layer._forward_pre_hooks]
    ensure(not hooks, f"{component.full_name()} leaves hooks on the network")
    ensure(result.network is not view.network, f"{component.full_name()} gives back the network that it was given")


def gives_a_working_network(component: type[Component]) -> None:
    """The result is repeatable, in evaluation mode, still good on clean examples, and its choice is written down."""
    repairer = cast("Repairer", sample(component))
    view = _view()
    result = repairer.repair(view, Rng(0).child("repair"))
    again = repairer.repair(view, Rng(0).child("repair"))
    inputs = view.clean.inputs(np.arange(len(view.clean)))
    with torch.no_grad():
        logits, same = result.network(inputs), again.network(inputs)
    name = component.full_name()
    ensure(torch.equal(logits, same), f"{name}: one seed, two results")
    ensure(not result.network.training, f"{name} gives back a network in training mode")
    accuracy = float((logits.argmax(1) == view.clean.labels).float().mean())
    ensure(accuracy > 0.6, f"{name} breaks the network: clean accuracy {accuracy:.2f} on examples that it was given")
    ensure(0 <= result.chosen < len(result.trials), f"{name} does not say which of its trials it chose")
    overlap = np.intersect1d(result.fit_rows, result.held_out_rows)
    ensure(len(overlap) == 0, f"{name} holds out {len(overlap)} examples that it trained on")
