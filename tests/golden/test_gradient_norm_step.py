"""Identities of the GN-FT step: it is the paper's equation 5, and nothing of the network is lost on the way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from soundproof.core.seeds import Rng
from soundproof.training import GradientNormStep, PlainStep


class _Quadratic(nn.Module):
    """L(θ) = ½ θᵀAθ - bᵀθ, whose gradient Aθ - b and Hessian A are known."""

    def __init__(self) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(0)
        root = torch.randn(4, 4, generator=source, dtype=torch.float64)
        self.matrix = root @ root.T + torch.eye(4, dtype=torch.float64)
        self.offset = torch.randn(4, generator=source, dtype=torch.float64)
        self.theta = nn.Parameter(torch.randn(4, generator=source, dtype=torch.float64))

    def forward(self) -> Tensor:
        return 0.5 * self.theta @ self.matrix @ self.theta - self.offset @ self.theta

    def gradient(self) -> Tensor:
        return (self.matrix @ self.theta - self.offset).detach()


def _applied(step: PlainStep | GradientNormStep, network: nn.Module, loss: Callable[[], Tensor]) -> list[Tensor]:
    """The gradient that a step of SGD with learning rate 1 applied."""
    before = [p.detach().clone() for p in network.parameters()]
    step(network, torch.optim.SGD(network.parameters(), 1.0), loss)
    return [b - p.detach() for b, p in zip(before, network.parameters(), strict=True)]


def test_a_quadratic_loss_gives_the_analytic_gradient() -> None:
    network = _Quadratic()
    alpha, radius = 0.7, 0.05
    gradient = network.gradient()
    expected = gradient + alpha * radius * network.matrix @ gradient / gradient.norm()
    (applied,) = _applied(GradientNormStep(alpha, radius), network, network.forward)
    torch.testing.assert_close(applied, expected, rtol=1e-9, atol=1e-9)


def test_normalized_first_gradient() -> None:
    network = _Quadratic()
    alpha, radius = 0.8, 0.1
    gradient = network.gradient()
    perturbed = network.matrix @ (network.theta + radius * gradient / gradient.norm()) - network.offset
    expected = (1 - alpha) * gradient / gradient.norm() + alpha * perturbed
    (applied,) = _applied(GradientNormStep(alpha, radius, normalize_first=True), network, network.forward)
    torch.testing.assert_close(applied, expected.detach(), rtol=1e-9, atol=1e-9)


def _conv2d() -> tuple[nn.Sequential, Tensor]:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(4 * 36, 3)
    )
    return network, torch.randn(6, 1, 8, 8)


def _conv1d() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(24, 3)), torch.randn(6, 2, 8)


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 6, batch_first=True, bidirectional=True)
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True, dropout=0.2)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        states = self.lstm(x)[0]
        return self.head(self.attention(states, states, states)[0].mean(1))


def _recurrent() -> tuple[nn.Module, Tensor]:
    return _Recurrent(), torch.randn(6, 7, 5)


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "conv2d": _conv2d,
    "conv1d": _conv1d,
    "lstm and attention": _recurrent,
}


@pytest.fixture(params=sorted(NETWORKS))
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Callable[[], Tensor]]:
    """A network in training mode and its loss on a fixed batch."""
    with Rng(0).child("step test").scope():
        network, inputs = NETWORKS[request.param]()
    labels = torch.arange(6) % 3
    return network.train(), lambda: nn.functional.cross_entropy(network(inputs), labels)


def _run(case: tuple[nn.Module, Callable[[], Tensor]], step: PlainStep | GradientNormStep) -> list[Tensor]:
    network, loss = case
    with Rng(0).child("dropout").scope():
        return _applied(step, network, loss)


def test_alpha_0_is_fine_tuning(case: tuple[nn.Module, Callable[[], Tensor]]) -> None:
    network, _ = case
    start = copy.deepcopy(network.state_dict())
    plain = _run(case, PlainStep())
    network.load_state_dict(start)
    for expected, found in zip(plain, _run(case, GradientNormStep(0.0, 0.05)), strict=True):
        assert torch.equal(expected, found)


def test_alpha_1_is_sam(case: tuple[nn.Module, Callable[[], Tensor]]) -> None:
    """Against sharpness-aware minimization written the slow way: a second network at the perturbed parameters."""
    network, loss = case
    start = copy.deepcopy(network.state_dict())
    radius = 0.05
    with Rng(0).child("dropout").scope():
        state = torch.get_rng_state()
        gradients = torch.autograd.grad(loss(), list(network.parameters()))
        norm = torch.stack([g.norm() for g in gradients]).norm()
        with torch.no_grad():
            for p, g in zip(network.parameters(), gradients, strict=True):
                p.add_(radius * g / norm)
        torch.set_rng_state(state)
        expected = torch.autograd.grad(loss(), list(network.parameters()))
    network.load_state_dict(start)
    for sam, found in zip(expected, _run(case, GradientNormStep(1.0, radius)), strict=True):
        torch.testing.assert_close(found, sam, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("norm", ["global", "tensor"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_learning_rate_0_restores_every_bit(
    case: tuple[nn.Module, Callable[[], Tensor]], norm: Literal["global", "tensor"], optimizer: str
) -> None:
    network, loss = case
    before = [p.detach().clone() for p in network.parameters()]
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    GradientNormStep(0.7, 0.05, norm)(network, kinds[optimizer](network.parameters(), lr=0.0), loss)
    for old, new in zip(before, network.parameters(), strict=True):
        assert torch.equal(old, new)


def test_two_forward_and_two_backward_passes_and_one_update_of_the_statistics() -> None:
    network, inputs = _conv2d()
    network.train()
    passes = {"forward": 0, "backward": 0}

    def count(kind: str) -> Callable[[nn.Module, object, object], None]:
        return lambda _module, _inputs, _outputs: passes.update({kind: passes[kind] + 1})

    network[5].register_forward_hook(count("forward"))
    network[5].register_full_backward_hook(count("backward"))
    labels = torch.arange(6) % 3
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        maps = network[0](inputs)
        expected = 0.9 * torch.zeros(4) + 0.1 * maps.mean((0, 2, 3))
    GradientNormStep(0.7, 0.05)(
        network,
        torch.optim.SGD(network.parameters(), 0.1),
        lambda: nn.functional.cross_entropy(network(inputs), labels),
    )
    assert passes == {"forward": 2, "backward": 2}
    assert norm.num_batches_tracked is not None
    assert int(norm.num_batches_tracked) == 1
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, expected)
    assert norm.track_running_stats


class _Counting(nn.Module):
    """Counts its passes in a buffer that it replaces each time."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: Tensor
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes = self.passes + 1.0
        return x


@pytest.mark.parametrize("alpha", [0.7, 1.0])
def test_the_second_pass_leaves_no_buffer_changed(alpha: float) -> None:
    with Rng(0).scope():
        network = nn.Sequential(
            spectral_norm(nn.Conv1d(2, 4, 3)), nn.InstanceNorm1d(4, track_running_stats=True), nn.BatchNorm1d(4),
            _Counting(), nn.Flatten(), nn.Linear(24, 3),
        ).train()  # fmt: skip
        inputs, labels = torch.randn(6, 2, 8), torch.arange(6) % 3
    one, other = network, copy.deepcopy(network)
    for step, changed in ((GradientNormStep(alpha, 0.05), one), (PlainStep(), other)):
        for _ in range(2):
            loss = lambda on=changed: nn.functional.cross_entropy(on(inputs), labels)  # noqa: E731
            step(changed, torch.optim.SGD(changed.parameters(), 0.0), loss)
    for (name, found), (_, expected) in zip(one.named_buffers(), other.named_buffers(), strict=True):
        assert torch.equal(found, expected), name
    assert isinstance(one[3], _Counting)
    assert one[3].passes == 2


def test_the_same_dropout_mask_in_both_passes() -> None:
    """With an unperturbed second pass (a zero gradient elsewhere), the mask alone could change the result."""
    seen: list[Tensor] = []
    network = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5), nn.Linear(64, 2))
    network[1].register_forward_hook(lambda _m, _i, output: seen.append((output == 0).clone()))
    inputs, labels = torch.randn(4, 8), torch.tensor([0, 1, 0, 1])
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    GradientNormStep(0.7, 1e-6)(network, optimizer, lambda: nn.functional.cross_entropy(network(inputs), labels))
    assert torch.equal(seen[0], seen[1])


def test_parameters_are_put_back_even_if_the_second_pass_fails() -> None:
    network = nn.Linear(4, 2)
    before = network.weight.detach().clone()
    calls = 0

    def loss() -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("out of memory")
        return network(torch.ones(1, 4)).sum()

    with pytest.raises(RuntimeError, match="out of memory"):
        GradientNormStep(0.7, 0.05)(network, torch.optim.SGD(network.parameters(), 0.1), loss)
    assert torch.equal(before, network.weight)


def test_works_under_autocast() -> None:
    network, inputs = _conv2d()
    before = [p.detach().clone() for p in network.parameters()]

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return nn.functional.cross_entropy(network(inputs).float(), torch.arange(6) % 3)

    GradientNormStep(0.7, 0.05)(network.train(), torch.optim.SGD(network.parameters(), 0.1), loss)
    for old, new in zip(before, network.parameters(), strict=True):
        assert torch.isfinite(new).all()
        assert not torch.equal(old, new)
