"""TSBD: zero the weights that unlearning moves most, then fine-tune with a penalty on the gradient's norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.defenses._clean import unlearn
from soundproof.defenses._held_out import divide
from soundproof.defenses._roles import DefenderView, Repair, Repairer
from soundproof.defenses._selection import Attempt, select
from soundproof.defenses._settings import FALLING, REPAIR_RECIPE, Rule
from soundproof.defenses._tuning import fine_tuned
from soundproof.defenses._weights import can_write
from soundproof.models import find_units
from soundproof.training import GradientNormStep
from soundproof.training.fit import Watcher


@final
class Tsbd(Repairer):
    """TSBD: zero most weights of the neurons that clean unlearning changes most, then fine-tune as GN-FT does.

    A copy unlearns the clean clips. A neuron's weight change is the sum of the absolute changes of its weights. Of the
    ``neurons`` (a share of all) with the largest change, the ``weight_share`` of the weights that changed most is set
    to zero in the suspect network. The fine-tuning penalizes the norm of the gradient.
    """

    paper: ClassVar[str] = (
        "Lin et al. 2024, Unveiling and Mitigating Backdoor Vulnerabilities based on Unlearning Weight Changes and "
        "Backdoor Activeness"
    )
    threat_model: ClassVar[str] = "white box, a few clean labelled clips; no trigger, no poisoned clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "written from a description; our reading: a neuron is a row of weights (an output channel of a convolution, a "
        "hidden unit, a gate of a recurrent unit), neurons are ranked over all layers, the weights over all chosen "
        "neurons, the classifier is left alone",
        "unlearning goes on until a batch is named at twice chance (0.2 for ten classes; less where that is most of "
        "the clips) and its gradients are clipped to norm 20",
        "the share of neurons is chosen on held-out clean clips; the fine-tuning has GN-FT's step and recipe",
    )

    neurons: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1), FALLING] = Field(
        default=(0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02),
        description="Candidates for the share of neurons, strongest first.",
    )
    weight_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.7, description="Share of these neurons' weights that is set to zero."
    )
    unlearning_rate: Annotated[float, Field(gt=0)] = Field(
        default=0.01, description="Learning rate of the unlearning, of all weights."
    )
    unlearning_steps: Annotated[int, Field(ge=1)] = Field(default=400, description="Batches of unlearning, at most.")
    alpha: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.7, description="Weight of the perturbed gradient in the fine-tuning, as in GN-FT."
    )
    radius: Annotated[float, Field(gt=0)] = Field(default=0.05, description="Length of the perturbation, as in GN-FT.")
    recipe: Recipe = Field(default=REPAIR_RECIPE, description="The fine-tuning.")
    min_steps: Annotated[int, Field(ge=1)] = Field(default=120, description="Steps of the fine-tuning, at least.")
    rule: Rule = Field(default=Rule(), description="How the share of neurons is chosen.")

    def repair(
        self, view: DefenderView, rng: Rng, *, watcher: Watcher | None = None, progress: Progress = SILENT
    ) -> Repair:
        """See the base class."""
        divided = divide(view, self.rule, rng, watcher=watcher)
        names = find_rows(view.network, divided.fit.inputs(np.arange(1)))
        unlearned, accuracy = unlearn(
            view.network,
            divided.fit,
            rng.child("unlearning"),
            learning_rate=self.unlearning_rate,
            max_steps=self.unlearning_steps,
            batch_size=self.recipe.batch_size,
            progress=progress,
        )
        changes = weight_changes(view.network, unlearned, names)
        examples = divided.fit.augmented(self.recipe.augmentation)
        total = sum(len(change) for change in changes.values())

        def attempt(share: float) -> Attempt:
            zeroed = choose_weights(changes, max(1, round(share * total)), self.weight_share)

            def prepare(network: nn.Module) -> None:
                zero(network, zeroed)

            return fine_tuned(
                view.network,
                examples,
                self.recipe,
                rng.child("fit"),
                settings={"neurons": share, "zeroed_weights": sum(int(mask.sum()) for mask in zeroed.values())},
                min_steps=self.min_steps,
                step=lambda _: GradientNormStep(self.alpha, self.radius),
                prepare=prepare,
                watcher=watcher,
                progress=progress,
                title=f"TSBD ({share:.0%} of the neurons)",
            )

        note = f"unlearning left an accuracy of {100 * accuracy:.0f} % on a clean batch; {total} neurons were ranked"
        return select(divided, self.neurons, attempt, rule=self.rule, notes=(note,))


def find_rows(network: nn.Module, inputs: Tensor) -> tuple[str, ...]:
    """Names of the parameters whose rows are neurons: weights of convolutions, hidden and recurrent layers.

    What is frozen is left out, for it could not be tuned afterwards; what several layers share goes by its first name.

    Raises:
        InvalidInputError: if there are none.
    """
    trained = {id(parameter): name for name, parameter in network.named_parameters() if parameter.requires_grad}
    for one in find_units(network, inputs):
        if one.kind == "classifier inputs":
            for parameter in network.get_submodule(one.layer).parameters():
                trained.pop(id(parameter), None)
    found: dict[str, None] = {}
    for layer in network.modules():
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear, nn.RNNBase)) and can_write(layer):
            own = [parameter for parameter in layer.parameters(recurse=False) if parameter.ndim > 1]
            found |= {trained[id(parameter)]: None for parameter in own if id(parameter) in trained}
    if not found:
        raise InvalidInputError(
            "TSBD needs a convolution, hidden or recurrent layer before the classifier that is not frozen, and the "
            "network has none: use gn_ft or fine_tuning"
        )
    return tuple(found)


@torch.no_grad()
def weight_changes(suspect: nn.Module, unlearned: nn.Module, names: tuple[str, ...]) -> dict[str, Tensor]:
    """The absolute change of each weight, [neurons, weights a neuron] for each parameter, on the CPU."""
    before, after = dict(suspect.named_parameters()), dict(unlearned.named_parameters())
    return {name: (after[name] - before[name]).abs().flatten(1).cpu() for name in names}


def choose_weights(changes: Mapping[str, Tensor], neurons: int, weight_share: float) -> dict[str, Tensor]:
    """Which weights go: bool of the shape of each change, true for a share of those of the neurons that changed most.

    Args:
        changes: of all neurons, from :func:`weight_changes`.
        neurons: how many neurons.
        weight_share: share of all weights of these neurons, those that changed most.
    """
    totals = torch.cat([change.sum(1) for change in changes.values()])
    order = totals.argsort(descending=True, stable=True)
    chosen = torch.zeros(len(totals), dtype=torch.bool)
    chosen[order[:neurons]] = True
    parts = dict(zip(changes, chosen.split([len(change) for change in changes.values()]), strict=True))
    pool = torch.cat([change[parts[name]].flatten() for name, change in changes.items()])
    count = max(1, round(weight_share * len(pool)))
    gone = torch.zeros(len(pool), dtype=torch.bool)
    gone[pool.argsort(descending=True, stable=True)[:count]] = True
    result = {name: torch.zeros(change.shape, dtype=torch.bool) for name, change in changes.items()}
    rows = gone.split([int(parts[name].sum()) * change.shape[1] for name, change in changes.items()])
    for (name, mask), some in zip(result.items(), rows, strict=True):
        mask[parts[name]] = some.view(-1, mask.shape[1])
    return result


@torch.no_grad()
def zero(network: nn.Module, chosen: Mapping[str, Tensor]) -> None:
    """Set the chosen weights to zero."""
    parameters = dict(network.named_parameters())
    for name, mask in chosen.items():
        weight = parameters[name]
        weight.masked_fill_(mask.view(weight.shape).to(weight.device), 0.0)
