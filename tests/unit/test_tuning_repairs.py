"""The published repairs that tune a network: they repair, on any kind of network, and each is the published method."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import weight_norm

from soundproof.core import registry
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.defenses import DefenderView, Repair, Repairer
from soundproof.defenses._maps import find_map
from soundproof.defenses._perturbing import affine_norms, input_scale
from soundproof.defenses.repair.fst import _ShiftingStep
from soundproof.defenses.repair.i_bau import IBau, _UnlearningStep
from soundproof.defenses.repair.nad import _DistillingStep
from soundproof.defenses.repair.sau import Sau, _UnsharingStep
from soundproof.models import Model, Victim
from soundproof.models._attention import Attention, Block
from soundproof.training import GradientNormStep, TensorExamples, accuracy
from soundproof.training.steps import Batch, Term

METHODS = ("ft_sam", "fst", "i_bau", "nad", "sau")
FRAMES, FEATURES, CLASSES, TARGET = 20, 8, 3, 0


def _clips(count: int, rng: Rng) -> tuple[Tensor, Tensor]:
    """Features [count, frames, features]: a smooth pattern for each class, its level and noise."""
    source, patterns = rng.torch(), Rng(7).torch()
    smooth = nn.AvgPool1d(5, 1, 2)(torch.randn(CLASSES, FEATURES, FRAMES, generator=patterns)).transpose(1, 2)
    smooth[:, :, 6:] = 0.0
    labels = torch.arange(count) % CLASSES
    levels = 1.0 + 2.0 * torch.rand(count, 1, 1, generator=source)
    return levels * smooth[labels] + 0.7 * torch.randn(count, FRAMES, FEATURES, generator=source), labels


def _stamped(inputs: Tensor) -> Tensor:
    marked = inputs.clone()
    marked[:, 2:6, 6:] += 2.5
    return marked


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, 16, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.lstm(features)[0].mean(1))


class _Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(FEATURES, 16)
        self.token = nn.Parameter(torch.zeros(16))
        self.positions = nn.Parameter(0.1 * torch.randn(FRAMES + 1, 16))
        self.blocks = nn.Sequential(*(Block(Attention(16, 2, input_bias=True), 16, 32) for _ in range(2)))
        self.head = nn.Linear(16, CLASSES)

    def forward(self, features: Tensor) -> Tensor:
        tokens = torch.cat([self.token.expand(len(features), 1, -1), self.inputs(features)], dim=1)
        return self.head(self.blocks(tokens + self.positions)[:, 0])


class _Transposed(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.transpose(1, 2)


def _conv2d() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, FRAMES)), nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(64, CLASSES),
    )  # fmt: skip


def _conv1d() -> nn.Module:
    return nn.Sequential(
        _Transposed(), nn.Conv1d(FEATURES, 16, 3, padding=1), nn.BatchNorm1d(16), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv1d(16, 16, 3, padding=1), nn.BatchNorm1d(16), nn.ReLU(), nn.AdaptiveAvgPool1d(2), nn.Flatten(),
        nn.Linear(32, CLASSES),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "conv2d": _conv2d,
    "conv1d": _conv1d,
    "lstm": _Recurrent,
    "transformer": _Tokens,
}


def _trained(kind: str, *, backdoored: bool, epochs: int) -> tuple[nn.Module, TensorExamples]:
    """A network and clean examples that it has seen."""
    inputs, labels = _clips(300, Rng(0).child("train"))
    marked = (torch.arange(300) % 10 == 0) & (labels != TARGET)
    heard, told = inputs.clone(), labels.clone()
    if backdoored:
        heard[marked], told[marked] = _stamped(inputs[marked]), TARGET
    with Rng(0).child("network", kind).scope():
        network = NETWORKS[kind]()
        optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
        for _ in range(epochs):
            for rows in torch.randperm(300).split(50):
                optimizer.zero_grad()
                torch.autograd.backward(nn.functional.cross_entropy(network(heard[rows]), told[rows]))
                optimizer.step()
    return network.eval(), TensorExamples(inputs[~marked][:90], labels[~marked][:90])


@torch.no_grad()
def _measured(network: nn.Module) -> tuple[float, float]:
    """Clean accuracy and attack success on unseen clips, those of the target left out of the latter."""
    inputs, labels = _clips(300, Rng(99).child("test"))
    hit = network(_stamped(inputs[labels != TARGET])).argmax(1) == TARGET
    return float((network(inputs).argmax(1) == labels).float().mean()), float(hit.float().mean())


def _repair(method: str, view: DefenderView, **fields: object) -> Repair:
    spec = {"name": method, "recipe": {"batch_size": 16}, **fields}
    return cast("Repairer", registry.from_spec("defenses/repair", spec)).repair(view, Rng(0).child("repair"))


def _one_candidate(rate: float, min_steps: int = 1) -> dict[str, object]:
    return {"learning_rates": (rate,), "tolerance": 0.99, "min_steps": min_steps}


@pytest.fixture(scope="module")
def victim() -> DefenderView:
    """A small 2-D convolutional network with a backdoor."""
    network, clean = _trained("conv2d", backdoored=True, epochs=25)
    clean_accuracy, success = _measured(network)
    assert clean_accuracy > 0.95
    assert success > 0.9
    return DefenderView(network, clean)


@pytest.mark.parametrize("method", ["fine_tuning", "fine_pruning", *METHODS])
def test_the_backdoor_goes_and_the_accuracy_stays(victim: DefenderView, method: str) -> None:
    """By the repair's own rule. What is given back as it was keeps its attack success of more than 0.9, and fails."""
    clean, success = _measured(victim.network)
    done = _repair(method, victim, recipe={"batch_size": 16, "precision": "float32"})
    repaired_accuracy, repaired_success = _measured(done.network)
    assert repaired_success < 0.5 * success
    assert repaired_accuracy > clean - 0.05


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_every_kind_of_network_learns_by_it(method: str, kind: str) -> None:
    """From a half-trained network, a few steps of each method make a better one."""
    network, clean = _trained(kind, backdoored=False, epochs=1)
    before, _ = _measured(network)
    rate = _one_candidate(0.005 if kind == "transformer" else 0.01)
    done = _repair(method, DefenderView(network, clean), recipe={"batch_size": 16, "epochs": 5}, selection=rate)
    after, _ = _measured(done.network)
    assert after > max(before, 0.6)
    assert done.seconds > 0.0


@pytest.mark.parametrize("method", ["fine_tuning", "gn_ft", "gn_sd"])
def test_synthetic_clips_teach_what_few_clean_ones_do_not(method: str) -> None:
    """Of a half-trained network and a dozen clean clips; their own labels are what is learned."""
    network, clean = _trained("conv2d", backdoored=False, epochs=1)
    few = clean.select(np.concatenate([np.flatnonzero(clean.labels.numpy() == label)[:4] for label in range(CLASSES)]))
    inputs, labels = _clips(200, Rng(7).child("voices"))
    fields = {"recipe": {"batch_size": 16, "epochs": 1}, "selection": _one_candidate(0.01, min_steps=60)}
    done = [
        _repair(method, DefenderView(network, few, synthetic=synthetic), **fields)
        for synthetic in (None, TensorExamples(inputs, labels), TensorExamples(inputs, (labels + 1) % CLASSES))
    ]
    alone, taught, misled = (_measured(one.network)[0] for one in done)
    assert taught > max(alone, misled)
    assert [len(one.held_out_rows) + len(one.fit_rows) for one in done] == [len(few)] * 3
    steps = [one.trials[0].settings["steps"] for one in done]
    assert 0.9 * steps[0] <= steps[1] <= 1.6 * steps[0], "about as many steps"
    assert any("200 clips by synthetic voices" in note for note in done[1].notes)


@pytest.mark.parametrize("method", METHODS)
def test_held_out_clips_do_not_train(victim: DefenderView, method: str) -> None:
    """What they sound like may change which candidate is taken, and never what a candidate becomes."""
    settings = {"recipe": {"batch_size": 16, "epochs": 1}, "selection": _one_candidate(0.05)}
    first = _repair(method, victim, **settings)
    inputs = victim.clean.inputs(np.arange(90))
    inputs[torch.from_numpy(first.held_out_rows)] = 100.0
    other = DefenderView(victim.network, TensorExamples(inputs, victim.clean.labels))
    second = _repair(method, other, **settings)
    for one, two in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_result_of_few_clips_learns_from_those_held_out_too(victim: DefenderView) -> None:
    """Otherwise the candidate is the result; what is said of held-out clips is of the candidate in either case."""
    settings = {"recipe": {"batch_size": 16, "epochs": 3}, "selection": _one_candidate(0.01)}
    plain = _repair("fine_tuning", victim, **settings)
    few = _repair("fine_tuning", victim, few=len(plain.held_out_rows) + 1, **settings)
    assert (plain.refitted, few.refitted) == (False, True)
    assert torch.equal(plain.right, few.right)
    assert plain.held_out_change == few.held_out_change
    assert plain.held_out_accuracy == few.held_out_accuracy
    held = victim.clean.select(few.held_out_rows)
    assert accuracy(plain.network, held) == pytest.approx(plain.held_out_accuracy)
    inputs = victim.clean.inputs(np.arange(90))
    inputs[torch.from_numpy(few.held_out_rows)] *= 0.5
    other = DefenderView(victim.network, TensorExamples(inputs, victim.clean.labels))
    changed = _repair("fine_tuning", other, few=len(plain.held_out_rows) + 1, **settings)
    pairs = zip(few.network.parameters(), changed.network.parameters(), strict=True)
    assert not all(torch.equal(one, two) for one, two in pairs)
    enough = _repair("fine_tuning", victim, few=len(plain.held_out_rows), **settings)
    assert not enough.refitted


class _Loss:
    """The loss of one batch, as the training loop hands it to a step."""

    def __init__(self, network: nn.Module, inputs: Tensor, labels: Tensor) -> None:
        self._network, self._batch = network, Batch(inputs, labels, labels, 1.0)

    def __call__(self, term: Term | None = None) -> Tensor:
        logits = self._network(self._batch.inputs)
        value = nn.functional.cross_entropy(logits, self._batch.labels)
        return value if term is None else value + term(self._batch, logits)


def _counted(network: nn.Module) -> list[int]:
    """A list that grows by the batch's size at each forward pass."""
    passes: list[int] = []
    network.register_forward_hook(lambda _module, inputs, _output: passes.append(len(inputs[0])))
    return passes


def _sgd(network: nn.Module, rate: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD(network.parameters(), rate)


# FT-SAM


def test_adaptive_sam_moves_each_weight_by_its_square() -> None:
    """e = ρ·θ²·g/‖|θ|·g‖ for L(θ) = ½θᵀAθ, whose gradient is Aθ."""
    root = torch.randn(4, 4, generator=Rng(0).torch(), dtype=torch.float64)
    matrix, start = root @ root.T, torch.tensor([0.5, -2.0, 0.0, 1.0], dtype=torch.float64)
    network = nn.ParameterList([start.clone()])
    theta = next(network.parameters())
    gradient = matrix @ start
    moved = start + 0.3 * start.square() * gradient / (start.abs() * gradient).norm()
    GradientNormStep(1.0, 0.3, adaptive=True)(network, _sgd(network, 1.0), lambda: 0.5 * theta @ matrix @ theta)
    torch.testing.assert_close(start - theta.detach(), matrix @ moved)


def test_adaptive_sam_takes_two_passes_and_updates_statistics_once() -> None:
    network = _conv2d().train()
    inputs, labels = _clips(12, Rng(1))
    passes = _counted(network)
    GradientNormStep(1.0, 2.0, adaptive=True)(network, _sgd(network), _Loss(network, inputs, labels))
    assert passes == [12, 12]
    assert network.state_dict()["2.num_batches_tracked"] == 1


# NAD


@pytest.mark.parametrize(
    ("model", "layer", "shape"),
    [
        ("resnet", "backbone.trunk.7", (64, 13, 10)),
        ("small_cnn", "backbone.trunk.2.2", (32, 49, 5)),
        ("attention_lstm", "backbone.second", (101, 128)),
        ("kwt", "backbone.blocks.10.norm2", (99, 64)),
        ("eat", "backbone.blocks.2.norm2", (65, 128)),
    ],
)
def test_the_last_map_before_pooling_is_found(model: str, layer: str, shape: tuple[int, ...]) -> None:
    """The class token's transformers read one token of the last block, so the map is of the block before."""
    component = cast("Model", registry.from_spec("models", model))
    victim = Victim.create(component, ("down", "up"), Rng(0))
    inputs = victim.features(0.1 * torch.randn(2, victim.clip_samples, generator=Rng(0).torch()))
    place = find_map(victim.network, inputs, "NAD")
    with place.caught(victim.network) as seen, torch.no_grad():
        victim.network(inputs)
    assert (place.layer, tuple(seen[0].shape[1:])) == (layer, shape)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in victim.network.modules())


def _pooled() -> nn.Module:
    """A 1 × 1 map is all that it has."""
    return nn.Sequential(nn.Flatten(), nn.Linear(FRAMES * FEATURES, 8), nn.ReLU(), nn.Linear(8, CLASSES))


@pytest.mark.parametrize(
    ("network", "layer", "problem"),
    [
        (_pooled(), "", "this network has none with more than one position"),
        (_conv2d(), "8", "the layer '8' puts out none with more than one position"),
        (_conv2d(), "10", "the layer '10' puts out none with more than one position"),
        (_conv2d(), "11", "the network has no layer '11'"),
    ],
)
def test_nad_refuses_maps_without_positions(network: nn.Module, layer: str, problem: str) -> None:
    view = DefenderView(network, TensorExamples(*_clips(12, Rng(1))))
    with pytest.raises(InvalidInputError, match=problem):
        _repair("nad", view, layer=layer)


def test_attention_is_of_unit_length_and_nothing_to_learn_where_the_maps_are_equal() -> None:
    network = _conv2d().eval()
    inputs, labels = _clips(12, Rng(1))
    place = find_map(network, inputs, "NAD")
    with place.caught(network) as seen:
        network(inputs)
    attention = place.attention(seen[0], 2.0)
    assert attention.shape == (12, 40)
    torch.testing.assert_close(attention.norm(dim=1), torch.ones(12), rtol=1e-3, atol=1e-3)
    by_hand = seen[0].square().sum(1).flatten(1)
    torch.testing.assert_close(attention, by_hand / by_hand.norm(dim=1, keepdim=True), rtol=1e-3, atol=1e-4)
    alone, taught = (copy.deepcopy(network) for _ in range(2))
    _DistillingStep(network, place, 0.0, 2.0)(alone, _sgd(alone), _Loss(alone, inputs, labels))
    _DistillingStep(network, place, 5000.0, 2.0)(taught, _sgd(taught), _Loss(taught, inputs, labels))
    for one, two in zip(alone.parameters(), taught.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


def test_nad_pulls_the_maps_together_in_one_pass_of_each_network() -> None:
    inputs, labels = _clips(12, Rng(1))
    with Rng(3).scope():
        teacher, network = _conv2d().eval(), _conv2d().train()
    place = find_map(network, inputs, "NAD")
    passes, taught = _counted(network), _counted(teacher)

    def distance() -> float:
        with torch.no_grad(), place.caught(network) as own, place.caught(teacher) as other:
            network(inputs)
            teacher(inputs)
        return float((place.attention(own[0], 2.0) - place.attention(other[0], 2.0)).square().sum(1).mean())

    before = distance()
    step, tracked = _DistillingStep(teacher, place, 5000.0, 2.0), network.state_dict()["2.num_batches_tracked"].clone()
    passes.clear()
    taught.clear()
    for _ in range(10):
        step(network, _sgd(network, 0.01), _Loss(network, inputs, labels))
    assert (passes, taught) == ([12] * 10, [12] * 10)
    assert network.state_dict()["2.num_batches_tracked"] - tracked == 10
    assert teacher.state_dict()["2.num_batches_tracked"] == 0
    assert distance() < 0.5 * before


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_nad_takes_weights_that_are_computed_anew() -> None:
    """The old weight normalization leaves what it computed on the layer, which cannot be copied with its gradient."""
    network = nn.Sequential(_Transposed(), weight_norm(nn.Conv1d(FEATURES, 4, 3)), nn.Flatten(), nn.Linear(72, CLASSES))
    view = DefenderView(network, TensorExamples(*_clips(12, Rng(1))))
    quick = {"teacher_epochs": 1, "recipe": {"epochs": 1}}
    notes = _repair("nad", view, **quick, selection=_one_candidate(0.01)).notes
    assert any("the layer '1'" in note for note in notes)


# i-BAU


@pytest.mark.parametrize(("batch", "patched"), [(1, 1), (16, 1), (99, 1), (160, 2), (250, 2), (300, 3)])
def test_i_bau_patches_at_least_one_clip(batch: int, patched: int) -> None:
    """Public code rounds down, which turns it into fine-tuning for batches of fewer than 100."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(FRAMES * FEATURES, CLASSES))
    examples = TensorExamples(*_clips(16, Rng(1)))
    heard: list[Tensor] = []
    network[0].register_forward_pre_hook(lambda _module, inputs: heard.append(inputs[0].detach()))
    step = _UnlearningStep(IBau(), examples, input_scale(examples, "i-BAU"), Rng(0))
    inputs, labels = _clips(batch, Rng(2))
    loss = _Loss(network, inputs, labels)
    step(network, _sgd(network), loss)
    changed = [(one != inputs).flatten(1).any(1) for one in heard if len(one) == batch and not torch.equal(one, inputs)]
    outer = [rows for rows in changed if 0 < int(rows.sum()) < max(2, batch)]
    assert int(outer[-1].sum()) == patched


def test_the_hypergradient_is_the_truncated_neumann_series() -> None:
    """dL/dθ + (∂Φ/∂θ)ᵀ·Σ_{k<K} (∂Φ/∂δ)ᵏᵀ·∂L/∂δ, with the Jacobians of the inner map Φ written out."""
    source = Rng(5).torch()
    inputs, labels = torch.randn(6, 4, generator=source), torch.arange(6) % CLASSES
    with Rng(5).scope():
        network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES))
    examples = TensorExamples(inputs, labels)
    method = IBau(patched_share=1.0, iterations=3, map_step=0.3, penalty=0.05)
    step = _UnlearningStep(method, examples, torch.full((1, 1), 2.0), Rng(0))
    step._search(network)
    delta, first = step._delta.detach().clone(), (step._inputs, step._labels)
    step._gradient(network, _Loss(network, inputs, labels))
    found = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])

    sizes = [p.shape for p in network.parameters()]
    theta = torch.cat([p.detach().flatten() for p in network.parameters()])

    def error(parts: Tensor, moved: Tensor, told: tuple[Tensor, Tensor]) -> Tensor:
        chunks = parts.split([shape.numel() for shape in sizes])
        w1, b1, w2, b2 = (chunk.view(shape) for chunk, shape in zip(chunks, sizes, strict=True))
        hidden = torch.tanh((told[0] + 2.0 * moved) @ w1.T + b1)
        return nn.functional.cross_entropy(hidden @ w2.T + b2, told[1])

    def mapped(parts: Tensor, moved: Tensor) -> Tensor:
        inner = 0.05 * moved.square().sum() - error(parts, moved, first)
        return moved - 0.3 * torch.autograd.grad(inner, moved, create_graph=True)[0]

    jacobian: Any = torch.autograd.functional.jacobian
    moved = delta.clone().requires_grad_()
    parts = theta.clone().requires_grad_()
    own, by_delta = torch.autograd.grad(error(parts, moved, (inputs, labels)), (parts, moved))
    by_theta, by_moved = (one.view(4, -1) for one in jacobian(mapped, (parts, moved)))
    vector = sum((torch.linalg.matrix_power(by_moved.T, k) @ by_delta.view(-1) for k in range(3)), torch.zeros(4))
    torch.testing.assert_close(found, own + by_theta.T @ vector, rtol=1e-4, atol=1e-6)


def test_the_search_misleads_and_stays_within_its_bound(victim: DefenderView) -> None:
    examples = cast("TensorExamples", victim.clean)
    method = IBau(recipe=cast("Any", {"batch_size": 16}))
    network = copy.deepcopy(victim.network)
    step = _UnlearningStep(method, examples, input_scale(examples, "i-BAU"), Rng(0))
    step._search(network)
    inputs = examples.inputs(np.arange(90))
    with torch.no_grad():
        plain, moved = (
            nn.functional.cross_entropy(network(one), examples.labels)
            for one in (inputs, inputs + step._delta * step._scale)
        )
    assert moved > plain + 0.5
    assert float(step._delta.square().mean().sqrt()) < method.size * 1.001


# SAU


def test_sau_attacks_within_its_bound_and_finds_what_is_shared(victim: DefenderView) -> None:
    network, inputs = copy.deepcopy(victim.network), victim.clean.inputs(np.arange(90))
    scale, method = input_scale(victim.clean, "SAU"), Sau()
    step = _UnsharingStep(method, victim.network, scale)
    batch = Batch(inputs, victim.clean.labels, victim.clean.labels, 1.0)
    delta = step._attack(network, batch)
    assert bool((delta.abs() <= method.size * scale * 1.0001).all())
    with torch.no_grad():
        own, other = network(inputs + delta).argmax(1), victim.network(inputs + delta).argmax(1)
    assert float(((own == other) & (own != batch.labels)).float().mean()) > 0.5


def test_sau_leaves_alone_what_already_misleads_both_the_same_way(victim: DefenderView) -> None:
    """Each clip is attacked as if it were alone, and no longer than needed, whatever the other clips of the batch."""
    with Rng(3).scope():
        network = _conv2d().eval()
    inputs, labels = victim.clean.inputs(np.arange(30)), victim.clean.labels[:30]
    step = _UnsharingStep(Sau(size=0.8), victim.network, input_scale(victim.clean, "SAU"))
    together = step._attack(network, Batch(inputs, labels, labels, 1.0))
    batches = [Batch(inputs[i : i + 1], labels[i : i + 1], labels[i : i + 1], 1.0) for i in range(30)]
    alone = torch.cat([step._attack(network, batch) for batch in batches])
    assert torch.equal(together.sign(), alone.sign())
    start = step._method.size * step._scale.expand_as(inputs)
    with torch.no_grad():
        own, other = (model(inputs + start).argmax(1) for model in (network, victim.network))
    done = (own == other) & (own != labels)
    assert 0 < int(done.sum()) < 30, "of both kinds"
    assert torch.equal(together[done], start[done])
    assert all((together[~done] != start[~done]).flatten(1).any(1))


@pytest.mark.parametrize(("kind", "shape"), [(nn.BatchNorm1d, (5, 3, 4)), (nn.BatchNorm2d, (5, 3, 4, 2))])
@pytest.mark.parametrize("affine", [True, False])
def test_norms_as_factor_and_offset_are_the_norms(kind: type[nn.Module], shape: tuple[int, ...], affine: bool) -> None:
    norm: Any = kind(3, affine=affine)  # pyright: ignore[reportCallIssue]
    with torch.no_grad(), Rng(4).scope():
        for values in (norm.running_var, *([norm.weight, norm.bias] if affine else [])):
            values.copy_(torch.rand(3) + 0.5)
        norm.running_mean.copy_(torch.randn(3))
        inputs, inward = torch.randn(shape).requires_grad_(), torch.randn(shape)
    network = nn.Sequential(norm, nn.Tanh()).eval()

    def derivatives() -> tuple[Tensor, ...]:
        said = network(inputs)
        (first,) = torch.autograd.grad(said.square().sum(), inputs, create_graph=True)
        wanted = [inputs, *network.parameters()]
        return said, first, *torch.autograd.grad((first * inward).sum(), wanted)

    plain = derivatives()
    with affine_norms(network):
        found = derivatives()
    torch.testing.assert_close(found, plain)
    assert "forward" not in norm.__dict__


def test_the_shared_risk_is_the_log_of_what_is_left(victim: DefenderView) -> None:
    """−log(1 − p) of the suspect network's wrong word, zero for clips that it still names right."""
    network, inputs = _conv2d().eval(), victim.clean.inputs(np.arange(30))
    labels = victim.clean.labels[:30]
    step = _UnsharingStep(Sau(size=0.3), victim.network, input_scale(victim.clean, "SAU"))
    batch = Batch(inputs, labels, labels, 1.0)
    moved = inputs + step._attack(network, batch)
    with torch.no_grad():
        said, shares = victim.network(moved).argmax(1), network(moved).softmax(1)
        expected = -(1.0 - shares[torch.arange(30), said]).log() * (said != labels)
    found = step._shared_risk(network, batch).detach()
    torch.testing.assert_close(found, expected.mean(), rtol=1e-4, atol=1e-5)


def test_sau_costs_what_it_says(victim: DefenderView) -> None:
    network, suspect = copy.deepcopy(victim.network).train(), copy.deepcopy(victim.network)
    passes, others = _counted(network), _counted(suspect)
    inputs, labels = victim.clean.inputs(np.arange(12)), victim.clean.labels[:12]
    step = _UnsharingStep(Sau(size=1e-6, attack_steps=3), suspect, input_scale(victim.clean, "SAU"))
    before = network.state_dict()["2.num_batches_tracked"].clone()
    step(network, _sgd(network), _Loss(network, inputs, labels))
    assert (len(passes), len(others)) == (3 + 2, 3 + 1)
    assert network.training
    assert network.state_dict()["2.num_batches_tracked"] == before


# FST


def test_fst_keeps_the_norm_of_the_head_and_turns_it(victim: DefenderView) -> None:
    original = cast("Tensor", victim.network.state_dict()["10.weight"])
    done = _repair("fst", victim, selection=_one_candidate(0.1))
    weight = cast("Tensor", done.network.state_dict()["10.weight"])
    torch.testing.assert_close(weight.norm(), original.norm(), rtol=1e-5, atol=1e-5)
    assert float((weight * original).sum()) < 0.5 * float(original.square().sum())


def test_a_step_of_fst_goes_against_the_original_head_and_rescales() -> None:
    network, original = nn.Linear(3, 2), torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    passes, start = _counted(network), network.weight.detach().clone()
    step = _ShiftingStep(network.weight, original, 0.5)
    step(network, _sgd(network, 1.0), lambda: 0.0 * network(torch.zeros(1, 3)).sum())
    expected = start - 0.5 * original
    torch.testing.assert_close(network.weight.detach(), 5.0 * expected / expected.norm())
    assert passes == [1]


def test_fst_refuses_a_network_without_a_linear_classifier() -> None:
    network = nn.Sequential(nn.Conv1d(FRAMES, CLASSES, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    with pytest.raises(InvalidInputError, match="linear classifier anew, and this network has none"):
        _repair("fst", DefenderView(network, TensorExamples(*_clips(12, Rng(1)))))


def test_fst_refuses_a_classifier_that_it_cannot_train(victim: DefenderView) -> None:
    network = copy.deepcopy(victim.network)
    network.get_submodule("10").requires_grad_(False)
    with pytest.raises(InvalidInputError, match="draws the classifier '10' anew and trains it, and it is frozen"):
        _repair("fst", DefenderView(network, victim.clean))


# What perturbs inputs


@pytest.mark.parametrize(("method", "name"), [("i_bau", "i-BAU"), ("sau", "SAU")])
def test_inputs_that_cannot_be_perturbed_are_refused(method: str, name: str) -> None:
    network = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, CLASSES))
    tokens = torch.randint(9, (12, 5), generator=Rng(0).torch())
    with pytest.raises(InvalidInputError, match=f"{name} perturbs the network's inputs, which must be real numbers"):
        _repair(method, DefenderView(network, TensorExamples(tokens, torch.arange(12) % CLASSES)))
    same = TensorExamples(torch.ones(12, FRAMES, FEATURES), torch.arange(12) % CLASSES)
    with pytest.raises(InvalidInputError, match="needs clean clips that differ"):
        _repair(method, DefenderView(_pooled(), same))


def test_the_scale_is_the_deviation_of_each_feature() -> None:
    source = Rng(0).torch()
    inputs = 500.0 + torch.tensor([100.0, 1.0]) * torch.randn(400, 10, 2, generator=source)
    scale = input_scale(TensorExamples(inputs, torch.zeros(400)), "SAU")
    assert scale.shape == (1, 1, 2)
    torch.testing.assert_close(scale.view(2), torch.tensor([100.0, 1.0]), rtol=0.05, atol=0.0)
    waves = input_scale(TensorExamples(inputs[..., 0] - 500.0, torch.zeros(400)), "SAU")
    torch.testing.assert_close(waves.view(1), torch.tensor([100.0]), rtol=0.05, atol=0.0)


def test_nads_teacher_still_names_clean_clips(victim: DefenderView) -> None:
    repair = _repair("nad", victim, selection=_one_candidate(0.004))
    (note,) = (note for note in repair.notes if note.startswith("its teacher names"))
    assert float(note.split()[3]) > 80.0


def test_layers_that_the_user_froze_stay_frozen(victim: DefenderView) -> None:
    network = copy.deepcopy(victim.network).train()
    frozen = next(layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)).eval()
    accuracy(network, victim.clean)
    assert network.training
    assert not frozen.training

    class Fails(TensorExamples):
        def inputs(self, rows: Any, generator: Any = None) -> Tensor:
            raise InvalidInputError("no")

    with pytest.raises(InvalidInputError):
        accuracy(network, Fails(torch.zeros(2, 1), torch.zeros(2, dtype=torch.long)))
    assert network.training
