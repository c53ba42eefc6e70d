"""Options of what is added to a corpus, and of how much is taken of each. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from lst.options import Options, option


@dataclass
class SourcesConfig(Options, prefix="data.sources."):
    """How much a training takes of each source: the corpora of ``corpus=[…]``, or what rows name as their source."""

    weights: dict[str, float] = option(
        {},
        "share of each source in every kind of documents, in the unit of data.mix.by: {read: 2, talks: 1}; empty takes "
        "each as large as it is",
        is_later=True,
    )
    max_epochs: dict[str, float] = option(
        {},
        "documents an utterance of a source may give; a source that has given them drops out, and the shares of the "
        "others grow: {talks: 4}",
        is_later=True,
    )

    def rules(self) -> list[str]:
        """Weights and limits are above 0."""
        return [
            f"{self.prefix}{name}.{source}={value:g}: must be above 0"
            for name in ("weights", "max_epochs")
            for source, value in getattr(self, name).items()
            if not 0 < value < float("inf")
        ]


@dataclass
class AugmentConfig(Options, prefix="data.augment."):
    """Training recordings that are converted into other voices, and used beside the original ones."""

    voices: int = option(
        0,
        "voices of other speakers of the corpus that each training recording is converted into",
        low=0,
        high=100,
        is_later=True,
        needs="corpus!=null",
    )
    voice: str | None = option(
        None,
        "file of the voice that converts, style_voice.safetensors of lst voice train",
        path="file",
        is_later=True,
        needs="data.augment.voices!=0",
    )

    def rules(self) -> list[str]:
        """A conversion needs a voice."""
        if self.voices and self.voice is None:
            return [f"data.augment.voices={self.voices}: name the voice that converts, data.augment.voice=FILE"]
        return []
