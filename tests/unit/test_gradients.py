"""Gradients by class of neuron: norms by hand, and a verdict that can go either way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from soundproof.analysis import GradientNorms, gradient_norms
from soundproof.analysis._weights import parts_of
from soundproof.core.errors import BadDataError, InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.models import find_units

ZONES = np.array(["B", "B", "C", "R"])


def _network() -> nn.Sequential:
    with Rng(0).scope():
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).train()


def _clips(count: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3, generator=Rng(1).torch()), torch.arange(count) % 2


def test_norms_are_those_of_the_gradient_by_hand() -> None:
    network, (inputs, labels) = _network(), _clips()
    units = find_units(network, inputs[:1])
    found = gradient_norms(network, inputs, labels, units[:1], ZONES)
    hidden: nn.Linear = network[0]  # pyright: ignore[reportAssignmentType]
    with torch.no_grad():
        activation = torch.tanh(hidden(inputs))
        wrong = torch.softmax(network(inputs), 1) - nn.functional.one_hot(labels, 2)
        delta = wrong @ network[2].weight * (1 - activation**2)  # pyright: ignore[reportOperatorIssue]
        expected = delta.abs() * inputs.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(found.norms["raw"], expected.numpy(), rtol=1e-5)
    np.testing.assert_allclose(found.norms["per_weight"], found.norms["raw"] / np.sqrt(3.0))
    lengths = hidden.weight.detach().norm(dim=1).double().numpy()
    np.testing.assert_allclose(found.norms["relative"], found.norms["raw"] / lengths, rtol=1e-6)
    assert network.training
    assert all(one.grad is None for one in network.parameters())


def test_recurrent_layers_have_gradients_on_a_gpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)
            self.seen: set[tuple[bool, bool]] = set()

        def forward(self, x: Tensor) -> Tensor:
            self.seen.add((self.training, torch.backends.cudnn.enabled))
            return self.head(self.layer(x)[0][:, -1])

    network, (inputs, labels) = Recurrent().train(), _clips()
    units = [one for one in find_units(network, inputs[:1, None]) if one.kind == "recurrent units"]
    network.seen.clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = gradient_norms(network, inputs[:, None], labels, units, ZONES)
    assert np.isfinite(found.norms["raw"]).all()
    assert network.seen == {(False, False)}  # cuDNN gives no gradient in evaluation mode
    assert torch.backends.cudnn.enabled


@pytest.mark.parametrize("kind", ["lstm", "heads", "classifier"])
def test_every_weight_of_a_unit_is_counted_once(kind: str) -> None:
    from soundproof.models._attention import Attention

    layers: dict[str, nn.Module] = {
        "lstm": nn.LSTM(3, 5, bidirectional=True, batch_first=True),
        "heads": Attention(8, 2, input_bias=True),
        "classifier": nn.Linear(4, 3),
    }

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layers[kind]

        def forward(self, x: Tensor) -> Tensor:
            out = self.layer(x)
            return out[0] if kind == "lstm" else out

    network = Wrapped()
    example = {"lstm": torch.zeros(1, 2, 3), "heads": torch.zeros(1, 2, 8), "classifier": torch.zeros(1, 4)}[kind]
    wanted = {"lstm": "recurrent units", "heads": "attention heads", "classifier": "classifier inputs"}[kind]
    (units,) = (one for one in find_units(network, example) if one.kind == wanted)
    seen = 0
    for part in parts_of(network, units):
        weight = network.get_parameter(part.parameter)
        marks = torch.arange(weight.numel()).view(weight.shape)
        by_unit = part.by_unit(marks).flatten(1)
        assert torch.equal(by_unit.flatten().sort().values, torch.arange(weight.numel()))
        seen = max(seen, part.first + len(by_unit))
    assert seen == units.count


def _norms(above: float) -> GradientNorms:
    """Ten backdoored and ten clean neurons on 30 clips; the former have ``above`` times the gradient."""
    source = Rng(2).numpy()
    values = source.uniform(0.8, 1.25, (30, 20))
    values[:, :10] *= above
    return GradientNorms({"raw": values, "relative": values}, np.array(["B"] * 10 + ["C"] * 10), ())


@pytest.mark.parametrize(("above", "holds"), [(2.0, True), (1.0, False), (0.5, False)])
def test_the_verdict_follows_the_numbers(above: float, holds: bool) -> None:
    found = _norms(above)
    compared = {one.name: one for one in found.compare() if one.norm == "raw"}
    assert set(compared) == {"B > C", "B∪H > C∪R"}
    assert compared["B > C"].holds is holds
    assert compared["B > C"].neurons == (10, 10)
    if above != 1.0:
        assert compared["B > C"].effect == pytest.approx(1.0 if holds else -1.0)
        assert compared["B > C"].ratio == pytest.approx(above, rel=0.1)
    assert ("clean ones holds" in found.verdict()) is holds


def test_without_clean_neurons_nothing_is_claimed() -> None:
    found = GradientNorms({"raw": np.ones((8, 4))}, np.array(["B", "B", "R", "R"]), ())
    assert "cannot be tested" in found.verdict()
    assert found.compare()[0].p == 1.0


def test_bad_input_is_said_in_a_sentence() -> None:
    network, (inputs, labels) = _network(), _clips()
    units = find_units(network, inputs[:1])[:1]
    with pytest.raises(BadDataError, match="at least 6 clips, got 2"):
        gradient_norms(network, inputs[:2], labels[:2], units, ZONES)
    with pytest.raises(InvalidInputError, match="each of 4 units, got 2"):
        gradient_norms(network, inputs, labels, units, ZONES[:2])
