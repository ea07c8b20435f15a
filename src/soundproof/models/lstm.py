"""The plain LSTMs of the PBSM/VSVC code and of the FlowMur code."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field
from torch import Tensor, nn

from soundproof.core.recipe import SHORT_WORDS, Recipe
from soundproof.models._model import Backbone, Model


class _Lstm(Backbone):
    def __init__(self, classes: int, coefficients: int, width: int, *, normalized: bool) -> None:
        super().__init__()
        self.normalize = nn.BatchNorm2d(1) if normalized else nn.Identity()
        # Two LSTMs of one layer are one LSTM of two, but the units of each can be measured and masked.
        self.first = nn.LSTM(coefficients, width, batch_first=True)
        self.second = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, classes)

    def embed(self, features: Tensor) -> Tensor:
        sequence = self.normalize(features.unsqueeze(1)).squeeze(1)
        return self.second(self.first(sequence)[0])[0][:, -1]

    def classify(self, embedding: Tensor) -> Tensor:
        return self.head(embedding)


@final
class Lstm(Model):
    """LSTM: two unidirectional layers, and the last step is classified.

    Parameters (10 classes): ``lstm_2x64``, the network of the PBSM/VSVC code with a batch normalization of the whole
    input, 71,308 on the 80 mel bands of ``frontend = "logmel80_22k"``; ``rnn_2x128``, FlowMur's, 206,602 on the 13
    coefficients of ``"mfcc13_16k"``. The recipe is that of the attention-LSTM.
    """

    paper: ClassVar[str] = (
        "Hochreiter and Schmidhuber 1997; as in Cai et al. 2024 (PBSM/VSVC) and Lan et al. 2024 (FlowMur)"
    )
    deviations: ClassVar[tuple[str, ...]] = (
        "features are normalized per coefficient (the sources feed them as they are)",
        "features are librosa's MFCCs by default, also where a source takes torchaudio's",
        "trained with AdamW, one cycle and augmentation instead of SGD at 1e-2 or Adam at 1e-4",
    )
    recipe: ClassVar[Recipe] = Recipe(
        optimizer="adamw",
        learning_rate=4e-3,
        epochs=50,
        batch_size=64,
        weight_decay=1e-2,
        clip_norm=5.0,
        label_smoothing=0.1,
        average_share=0.2,
        augmentation=SHORT_WORDS,
    )

    variant: Literal["lstm_2x64", "rnn_2x128"] = Field(
        default="lstm_2x64", description="Which published network: two layers of 64 units, or of 128."
    )

    def build(self, classes: int, frames: int, coefficients: int) -> Backbone:
        """See the base class; any number of frames will do."""
        del frames
        if self.variant == "lstm_2x64":
            return _Lstm(classes, coefficients, 64, normalized=True)
        return _Lstm(classes, coefficients, 128, normalized=False)
