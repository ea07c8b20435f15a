"""How a model is trained: plain data that lives with each model and is overridden by experiments."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from soundproof.core.component import LATER
from soundproof.core.errors import InvalidInputError
from soundproof.core.settings import Settings

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]


class Augmentation(Settings):
    """What is varied about each clip, every time that it is seen. All zero is no augmentation."""

    shift_seconds: NonNegative = 0.0
    """Move the clip by up to so much, either way, filling with silence."""
    gain_db: NonNegative = 0.0
    """Scale by up to so many decibels, up or down."""
    noise_probability: Probability = 0.0
    """Share of the clips that get noise (white to brown, drawn per clip)."""
    noise_snr_db: tuple[float, float] = (5.0, 30.0)
    """Range of the noise's signal-to-noise ratio."""
    speed: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    """Play faster or slower by up to this share (0.1 is ±10 %)."""
    room_probability: Probability = 0.0
    """Share of the clips that are put into a synthetic room (exponentially decaying noise tail)."""
    coloring_probability: Annotated[Probability, LATER] = 0.0
    """Share of the clips that are heard through a random filter, as of another microphone or telephone."""
    coloring_db: Annotated[NonNegative, LATER] = 12.0
    """Standard deviation of that filter's gain; it is drawn anew for each octave and a straight line between them."""
    burst_probability: Annotated[Probability, LATER] = 0.0
    """Share of the clips into which a short sound is laid, at any place: up to three tones and noise, 20 to 500 ms."""
    burst_snr_db: Annotated[tuple[float, float], LATER] = (-10.0, 10.0)
    """Range of the level of the speech over that of the short sound, while it sounds."""
    mixup_alpha: Annotated[float, Field(ge=0.0, le=4.0)] = 0.0
    """Beta(alpha, alpha) mixing of features and labels within a batch; 0 is none."""
    time_masks: Annotated[int, Field(ge=0)] = 0
    """SpecAugment: number of time masks."""
    time_mask_frames: Annotated[int, Field(ge=0)] = 0
    """SpecAugment: each time mask is up to so many frames wide."""
    coefficient_masks: Annotated[int, Field(ge=0)] = 0
    """SpecAugment: number of masks over feature coefficients (or mel bands)."""
    coefficient_mask_width: Annotated[int, Field(ge=0)] = 0
    """SpecAugment: each coefficient mask is up to so many coefficients wide."""

    @property
    def on_waveform(self) -> bool:
        """Whether the waveform changes from epoch to epoch, so that features must be computed anew."""
        return bool(
            self.shift_seconds
            or self.gain_db
            or self.noise_probability
            or self.speed
            or self.room_probability
            or self.burst_probability
            or self.colors
        )

    @property
    def colors(self) -> bool:
        """Whether any clip passes a filter."""
        return bool(self.coloring_probability and self.coloring_db)


SHORT_WORDS = Augmentation(
    shift_seconds=0.1,
    gain_db=6.0,
    noise_probability=0.7,
    noise_snr_db=(5.0, 30.0),
    speed=0.15,
    room_probability=0.3,
    mixup_alpha=0.2,
)
"""For models of single words trained on a few thousand clips; settled on validation clips of SC10."""


class Recipe(Settings):
    """One training run: optimizer, schedule, regularization."""

    optimizer: Literal["sgd", "adamw"] = "adamw"
    """SGD with Nesterov momentum, or AdamW."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1e6)] = 1e-3
    """Peak learning rate."""
    epochs: Annotated[int, Field(ge=1)] = 30
    """Passes over the training clips."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Clips a step."""
    weight_decay: NonNegative = 1e-4
    """Decay of matrices and kernels; biases and normalization are exempt."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """SGD momentum, or AdamW's first beta."""
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    """``one_cycle`` warms up linearly and falls as a cosine to zero; ``cosine`` only falls."""
    warmup: Probability = 0.2
    """Share of the steps in which ``one_cycle`` rises."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Mass moved from the label to all classes."""
    clip_norm: NonNegative = 0.0
    """Clip the global gradient norm to this; 0 is no clipping."""
    average_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the last steps whose weights are averaged into the result; 0 keeps the last step."""
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0), LATER] = 0.0
    """Decay of an exponential moving average of the weights, which is the result then; 0 is none. It forgets faster in
    the first steps."""
    patience: Annotated[int, Field(ge=0), LATER] = 0
    """Stop after so many epochs without a better accuracy on the validation clips, and keep the best weights; 0 goes
    through all epochs and keeps the last."""
    accumulate: Annotated[int, Field(ge=1), LATER] = 1
    """Batches whose gradients are added up before the optimizer takes a step, where a large batch fits no memory.
    Batch normalization sees each by itself."""
    gradient_norm_alpha: Annotated[float, Field(ge=0.0, le=1.0), LATER] = 0.0
    """Weight of the gradient at perturbed parameters, as in GN-FT; 0 is the plain step. For an attacker who trains the
    victim with the objective of the repair, so that the repair finds nothing to flatten."""
    gradient_norm_radius: Annotated[float, Field(gt=0.0, le=1e6), LATER] = 0.05
    """Length of that perturbation."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto`` uses bfloat16 where the hardware multiplies it natively, else float32."""
    augmentation: Augmentation = Augmentation()
    """What is varied about the clips."""

    @model_validator(mode="after")
    def _one_choice_of_weights(self) -> Self:
        if self.average_share and (self.ema_decay or self.patience):
            raise InvalidInputError(
                "average_share is the mean over the end of a whole schedule; set it to 0 to use ema_decay or patience"
            )
        return self
