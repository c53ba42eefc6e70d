"""Log-likelihoods of documents under a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lst.configs.schema import Config
from lst.data.documents import DocumentBuilder
from lst.model.batch import Document
from lst.model.inference import ScoredTokens, cut_documents, score_documents
from lst.runs import WholeModel


@dataclass(frozen=True)
class Scorer:
    """A trained model with the documents that it reads and the size of its batches.

    Attributes:
        trained: the model.
        builder: makes its documents.
        row_patches: patches of a row.
        rows_a_batch: rows scored together.
        shares_beginnings: compute the tokens that documents share once.
    """

    trained: WholeModel
    builder: DocumentBuilder
    row_patches: int
    rows_a_batch: int
    shares_beginnings: bool = True

    @classmethod
    def of(cls, trained: WholeModel, config: Config) -> Scorer:
        """A scorer with the sizes of ``config``."""
        return cls(trained, trained.builder(config), config.train.row_patches, config.eval.rows_a_batch)

    def fault(self, scored: tuple[Document, slice]) -> str:
        """Why the model cannot score a range of a document; empty where it can."""
        document, tokens = scored
        if tokens.start >= tokens.stop:
            return "there is no token to score"
        trained = self.trained
        (cut,) = cut_documents(trained.model, [document], trained.strategy, trained.patching.config)
        context = trained.model.config.max_patches
        return f"{len(cut)} patches, and the model's context is {context}" if len(cut) > context else ""

    def score(self, documents: Sequence[tuple[Document, slice]], strategy: str | None = None) -> list[ScoredTokens]:
        """Scores a range of tokens of each document, given all tokens before it; cut as at inference, or otherwise."""
        trained = self.trained
        return score_documents(
            trained.model,
            documents,
            trained.patching.config,
            strategy or trained.strategy,
            self.row_patches,
            self.rows_a_batch,
            trained.layout,
            self.shares_beginnings,
        )
