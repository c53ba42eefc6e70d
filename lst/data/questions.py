"""Questions of prepared data: which of some endings belongs to a context? Each part was spoken by itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A line of ``questions.jsonl``. Contexts and endings are ids of utterances in the split ``questions``.

    Attributes:
        id: unique in the corpus.
        stratum: in which respect the false endings differ; empty where questions have no strata.
        context: which the true ending follows from; empty where endings stand alone.
        other_context: which the true ending does not follow from; empty likewise.
        endings: two or more.
        label: index of the true ending.
    """

    id: str
    stratum: str
    context: str
    other_context: str
    endings: list[str]
    label: int

    def __post_init__(self) -> None:
        if not 0 <= self.label < len(self.endings) or len(self.endings) < 2 or "" in self.endings:
            raise ValueError(f"two endings or more are needed, and a label that counts them, not {self.label}")

    @property
    def utterances(self) -> list[str]:
        """Ids of all parts."""
        return [name for name in (self.context, self.other_context, *self.endings) if name]
