"""Sequences made by rules: induction head and associative recall (H3, arXiv 2212.14052), and ListOps.

A task is equally long sequences of ids, each with one answer that the sequence determines. What is drawn depends on
the seed alone, and no sequence occurs twice: none of the test is in the training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lst.configs.synthetic_schema import TaskConfig
from lst.model.batch import IGNORE_ID
from lst.recipes.synthetic.listops import END_OF_EXPRESSION, SYMBOLS, draw_expressions

# A draw of its own, so that no other use of the seed can be correlated with it.
_DATA_STREAM = 0x5E9


@dataclass(frozen=True)
class Split:
    """Sequences of one length.

    Attributes:
        token_ids: int64 [S, L], what the model reads.
        target_ids: int64 [S, L], what follows each token, ``IGNORE_ID`` where no loss is taken.
        answer_positions: int64 [S], where the model says the answer: its target there.
    """

    token_ids: np.ndarray
    target_ids: np.ndarray
    answer_positions: np.ndarray

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def answers(self) -> np.ndarray:
        """int64 [S]."""
        return self.target_ids[np.arange(len(self)), self.answer_positions]


@dataclass(frozen=True)
class TaskData:
    """Both splits of a task, and the symbol of each id."""

    train: Split
    test: Split
    symbols: tuple[str, ...]

    @property
    def vocab_size(self) -> int:
        """Number of symbols."""
        return len(self.symbols)

    @property
    def num_tokens(self) -> int:
        """Tokens of a sequence, as the model reads it."""
        return int(self.train.token_ids.shape[1])


def build_task(config: TaskConfig, seed: int) -> TaskData:
    """Draws the sequences of a task.

    Args:
        config: the task and its sizes, without problems.
        seed: of all that is drawn.

    Raises:
        UserError: ListOps has too few expressions of the lengths that are asked for.
    """
    generator = np.random.default_rng([_DATA_STREAM, seed])
    count = config.train_sequences + config.test_sequences
    if config.name == "listops":
        whole, symbols = _listops(config, generator, count), SYMBOLS
    else:
        assert config.length is not None
        assert config.vocabulary is not None
        draw = _draw_induction if config.name == "induction_head" else _draw_recall
        sequences = _distinct(draw, generator, count, config.length, config.vocabulary)
        whole, symbols = _language(sequences), language_symbols(config.vocabulary)
    first, rest = slice(0, config.train_sequences), slice(config.train_sequences, count)
    train, test = (
        Split(whole.token_ids[part], whole.target_ids[part], whole.answer_positions[part]) for part in (first, rest)
    )
    return TaskData(train, test, symbols)


def language_symbols(vocabulary: int) -> tuple[str, ...]:
    """Symbols of a synthetic language by id: ordinary tokens, the full stop and the marker."""
    return (*(f"t{index}" for index in range(vocabulary - 2)), ".", "⇒")


def _language(sequences: np.ndarray) -> Split:
    """Whole sequences [S, L + 1], the answer last: every token is a target, as in any language model."""
    num_sequences, num_ids = sequences.shape
    return Split(sequences[:, :-1], sequences[:, 1:], np.full(num_sequences, num_ids - 2))


def _draw_induction(generator: np.random.Generator, count: int, length: int, vocabulary: int) -> np.ndarray:
    """``length`` uniform ordinary tokens, one of which (not of the last two) becomes the marker; then the marker again,
    and the token that followed it the first time. int64 [count, length + 2]."""
    marker = vocabulary - 1
    sequences = np.empty((count, length + 2), np.int64)
    sequences[:, :length] = generator.integers(0, vocabulary - 2, (count, length))
    places = generator.integers(0, length - 2, count)
    rows = np.arange(count)
    sequences[rows, places] = marker
    sequences[:, length] = marker
    sequences[:, length + 1] = sequences[rows, places + 1]
    return sequences


def _draw_recall(generator: np.random.Generator, count: int, length: int, vocabulary: int) -> np.ndarray:
    """``length / 2`` pairs of a key and its value under a map drawn for the sequence, keys with replacement; then the
    marker, a key that occurred, and its value. int64 [count, length + 3]."""
    num_keys, num_pairs = (vocabulary - 2) // 2, length // 2
    values = generator.integers(num_keys, 2 * num_keys, (count, num_keys))
    keys = generator.integers(0, num_keys, (count, num_pairs))
    asked = keys[np.arange(count), generator.integers(0, num_pairs, count)]
    sequences = np.empty((count, length + 3), np.int64)
    sequences[:, 0:length:2] = keys
    sequences[:, 1:length:2] = np.take_along_axis(values, keys, axis=1)
    sequences[:, length] = vocabulary - 1
    sequences[:, length + 1] = asked
    sequences[:, length + 2] = values[np.arange(count), asked]
    return sequences


def _distinct(
    draw: Callable[[np.random.Generator, int, int, int], np.ndarray],
    generator: np.random.Generator,
    count: int,
    length: int,
    vocabulary: int,
) -> np.ndarray:
    """The first ``count`` different sequences that are drawn, in the order of the draws."""
    found = np.empty((0, 0), np.int64)
    while len(found) < count:
        drawn = draw(generator, count, length, vocabulary)
        together = np.concatenate([found, drawn]) if len(found) else drawn
        firsts = np.sort(np.unique(together, axis=0, return_index=True)[1])
        found = together[firsts]
    return found[:count]


def _listops(config: TaskConfig, generator: np.random.Generator, count: int) -> Split:
    """Expressions up to one length, ended by ``=``, where the answer is predicted; nothing else is a target.

    Padding comes after the answer, so that a causal model never reads it.
    """
    expressions = draw_expressions(config, generator, count)
    assert config.max_length is not None
    end = SYMBOLS.index(END_OF_EXPRESSION)
    token_ids = np.full((count, config.max_length + 1), end, np.int64)
    target_ids = np.full_like(token_ids, IGNORE_ID)
    positions = np.array([len(expression.token_ids) for expression in expressions])
    for row, expression in enumerate(expressions):
        token_ids[row, : len(expression.token_ids)] = expression.token_ids
    target_ids[np.arange(count), positions] = [expression.value for expression in expressions]
    return Split(token_ids, target_ids, positions)
