"""Sequences of the synthetic tasks: each by its published rule, none twice, all from the seed; and their batches."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
import torch

from lst.configs.synthetic_schema import TaskConfig
from lst.errors import UserError
from lst.model.batch import IGNORE_ID, TEXT, Document, pack_documents
from lst.model.patching import unpatched
from lst.recipes.synthetic.batches import Batches, rows_of_step
from lst.recipes.synthetic.listops import OPERATORS, SYMBOLS, Expression, _draw_expression, _Uniforms, draw_expressions
from lst.recipes.synthetic.module import seed_of_step
from lst.recipes.synthetic.tasks import Split, TaskData, build_task, language_symbols

INDUCTION = TaskConfig("induction_head", length=30, vocabulary=20)
RECALL = TaskConfig("associative_recall", length=20, vocabulary=10)
LISTOPS = TaskConfig(
    "listops", min_length=8, max_length=60, max_depth=4, max_arguments=5, train_sequences=300, test_sequences=100
)


def whole_sequences(split: Split) -> list[tuple[int, ...]]:
    """Each sequence with its answer at the end."""
    return [(*ids, answer) for ids, answer in zip(split.token_ids.tolist(), split.answers.tolist(), strict=True)]


@pytest.fixture(scope="module")
def induction() -> TaskData:
    return build_task(INDUCTION, 0)


@pytest.fixture(scope="module")
def recall() -> TaskData:
    return build_task(RECALL, 0)


@pytest.fixture(scope="module")
def listops() -> TaskData:
    return build_task(LISTOPS, 0)


def test_induction_head_is_as_published(induction: TaskData) -> None:
    assert (len(induction.train), len(induction.test), induction.vocab_size, induction.num_tokens) == (
        5000,
        500,
        20,
        31,
    )
    assert induction.symbols[-2:] == (".", "⇒")
    marker, places = 19, []
    for *tokens, last, answer in whole_sequences(induction.train) + whole_sequences(induction.test):
        assert len(tokens) == 30
        assert last == marker
        assert tokens.count(marker) == 1
        place = tokens.index(marker)
        places.append(place)
        assert answer == tokens[place + 1]
        assert all(0 <= token < 18 for index, token in enumerate(tokens) if index != place)
    # The marker is never so late that its follower is not an ordinary token before the question.
    assert set(places) == set(range(28))
    assert np.bincount(induction.train.answers, minlength=20)[:18].min() > 5000 / 18 / 2


def test_associative_recall_is_as_published(recall: TaskData) -> None:
    assert (len(recall.train), len(recall.test), recall.vocab_size, recall.num_tokens) == (5000, 500, 10, 22)
    different_maps = set()
    for *tokens, marker, asked, answer in whole_sequences(recall.train):
        keys, values = tokens[::2], tokens[1::2]
        assert (len(keys), marker) == (10, 9)
        assert set(keys) <= set(range(4))
        assert set(values) <= set(range(4, 8))
        mapping = dict(zip(keys, values, strict=True))
        assert [mapping[key] for key in keys] == values, "one value a key"
        assert mapping[asked] == answer
        different_maps.add(tuple(sorted(mapping.items())))
    assert len(different_maps) > 200


@pytest.mark.parametrize("task", ["induction", "recall", "listops"])
def test_no_sequence_occurs_twice_and_answers_follow_from_the_sequence(
    task: str, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(task)
    train, test = whole_sequences(data.train), whole_sequences(data.test)
    assert len(set(train)) == len(train)
    assert len(set(test)) == len(test)
    assert not set(train) & set(test)
    answers: dict[tuple[int, ...], int] = {}
    for *question, answer in train + test:
        assert answers.setdefault(tuple(question), answer) == answer


@pytest.mark.parametrize("config", [INDUCTION, RECALL, LISTOPS], ids=lambda config: config.name)
def test_sequences_depend_on_the_seed_alone(config: TaskConfig) -> None:
    np.random.default_rng(5).random()
    first, again, other = build_task(config, 3), build_task(config, 3), build_task(config, 4)
    for name in ("token_ids", "target_ids", "answer_positions"):
        assert np.array_equal(getattr(first.train, name), getattr(again.train, name))
        assert np.array_equal(getattr(first.test, name), getattr(again.test, name))
    assert not np.array_equal(first.train.token_ids, other.train.token_ids)


def test_every_token_of_a_language_is_a_target_and_the_last_is_the_answer(recall: TaskData) -> None:
    split = recall.train
    assert np.array_equal(split.target_ids[:, :-1], split.token_ids[:, 1:])
    assert np.array_equal(split.target_ids[:, -1], split.answers)
    assert set(split.answer_positions) == {21}


def value_of(expression: str) -> int:
    """Evaluates by rewriting the innermost brackets of the text, unlike the generator, which builds from outside."""
    operators = {
        "MIN": min,
        "MAX": max,
        "MED": lambda digits: int(np.median(digits)),
        "SM": lambda digits: sum(digits) % 10,
    }
    innermost = re.compile(r"\[(MIN|MAX|MED|SM)((?: \d)+) \]")
    while "[" in expression:
        expression = innermost.sub(lambda m: str(operators[m[1]]([int(d) for d in m[2].split()])), expression)
    return int(expression)


def nesting(words: list[str]) -> int:
    """Levels of an expression, digits included."""
    depth = deepest = 0
    for word in words:
        depth += word.startswith("[") - (word == "]")
        deepest = max(deepest, depth)
    return deepest + 1


def most_arguments(words: list[str]) -> int:
    counts, most = [0], 0
    for word in words:
        if word == "]":
            most = max(most, counts.pop())
        else:
            counts[-1] += 1
            if word.startswith("["):
                counts.append(0)
    assert counts == [1]
    return most


def test_listops_values_lengths_depths_and_arguments(listops: TaskData) -> None:
    seen: dict[str, set[Any]] = {"length": set(), "depth": set(), "arguments": set(), "word": set()}
    for split in (listops.train, listops.test):
        for ids, place, answer in zip(split.token_ids, split.answer_positions, split.answers, strict=True):
            words = [SYMBOLS[index] for index in ids[:place]]
            assert value_of(" ".join(words)) == answer
            assert SYMBOLS[ids[place]] == "="
            assert (ids[place:] == ids[place]).all()
            seen["length"].add(len(words))
            seen["depth"].add(nesting(words))
            seen["arguments"].add(most_arguments(words))
            seen["word"] |= set(words)
        assert ((split.target_ids != IGNORE_ID).sum(axis=1) == 1).all(), "loss on the answer alone"
    assert min(seen["length"]) >= 8
    assert max(seen["length"]) <= 60
    assert max(seen["depth"]) == 4
    assert max(seen["arguments"]) == 5
    assert seen["word"] == set(SYMBOLS) - {"="}


class TooLongError(Exception):
    """Of the recursion below."""


def drawn_by_recursion(config: TaskConfig, uniforms: _Uniforms) -> Expression | None:
    """The grammar written as it is defined, a call a node."""
    assert config.max_depth is not None
    assert config.max_arguments is not None
    assert config.max_length is not None
    token_ids: list[int] = []

    def node(depth: int) -> int:
        if depth >= config.max_depth or uniforms.next() < 0.75:
            token_ids.append(int(10 * uniforms.next()))
            return token_ids[-1]
        operator = int(4 * uniforms.next())
        num_arguments = 2 + int((config.max_arguments - 1) * uniforms.next())
        token_ids.append(SYMBOLS.index(list(OPERATORS)[operator]))
        values = []
        for _ in range(num_arguments):
            if len(token_ids) >= config.max_length:
                raise TooLongError
            values.append(node(depth + 1))
        token_ids.append(SYMBOLS.index("]"))
        if len(token_ids) > config.max_length:
            raise TooLongError
        return list(OPERATORS.values())[operator](values)

    try:
        value = node(1)
    except TooLongError:
        return None
    return Expression(tuple(token_ids), value)


@pytest.mark.parametrize("sizes", [(5, 3, 2), (9, 3, 2), (60, 4, 5), (300, 10, 10), (1999, 10, 10), (800, 60, 7)])
def test_listops_expressions_are_those_of_the_recursion(sizes: tuple[int, int, int]) -> None:
    """Each draw, those that are given up included, from the same numbers and no more of them."""
    max_length, max_depth, max_arguments = sizes
    config = dataclasses.replace(LISTOPS, max_length=max_length, max_depth=max_depth, max_arguments=max_arguments)
    first, second = (_Uniforms(np.random.default_rng([7, *sizes])) for _ in range(2))
    found = [_draw_expression(config, first) for _ in range(3000)]
    assert found == [drawn_by_recursion(config, second) for _ in range(3000)]
    assert first.next() == second.next()
    assert len({len(expression.token_ids) for expression in found if expression}) >= 2
    assert None in found


def test_listops_nests_deeper_than_python_calls() -> None:
    """Sums of a digit 1 and a further sum, 5,000 levels of them; and draws at such a depth, most of which grow on."""
    config = dataclasses.replace(LISTOPS, max_length=60_000, max_depth=6000, max_arguments=10)
    uniforms, levels = _Uniforms(np.random.default_rng(0)), 5000
    # Taken from the end: operator, the last of them, two arguments; then digits.
    uniforms.block = ([0.9, 0.99, 0.0] * levels + [0.0, 0.15] * (levels + 1))[::-1]
    deep = _draw_expression(config, uniforms)
    assert deep is not None
    assert (len(deep.token_ids), deep.value) == (3 * levels + 1, (levels + 1) % 10)
    assert nesting([SYMBOLS[index] for index in deep.token_ids]) == levels + 1
    drawn = draw_expressions(config, np.random.default_rng(0), 30)
    assert all(8 <= len(expression.token_ids) <= 60_000 for expression in drawn)


def test_listops_medians_round_down() -> None:
    """By hand, so that generator and evaluator cannot be wrong alike."""
    assert value_of("[MED 1 9 3 8 ]") == 5
    assert value_of("[MAX 4 [MED 1 9 3 ] [SM 7 5 ] ]") == 4
    assert OPERATORS["[MED"]([1, 9, 3, 8]) == 5
    assert OPERATORS["[SM"]([7, 5]) == 2


def test_too_few_expressions_are_said() -> None:
    with pytest.raises(UserError, match=r"only .* different ListOps expressions of 4 to 4 tokens"):
        build_task(TaskConfig("listops", min_length=4, max_length=4, max_depth=2, max_arguments=2), 0)


@pytest.mark.parametrize(("task", "length", "vocabulary"), [("associative_recall", 4, 6), ("induction_head", 4, 4)])
def test_sequences_that_exist_are_counted(task: str, length: int, vocabulary: int) -> None:
    config = TaskConfig(task, length=length, vocabulary=vocabulary, train_sequences=1, test_sequences=1)
    possible = config.num_possible_sequences()
    config.train_sequences = possible - 1
    drawn = build_task(config, 0)
    assert len(set(whole_sequences(drawn.train) + whole_sequences(drawn.test))) == possible
    assert len(language_symbols(vocabulary)) == vocabulary


def test_batches_equal_packed_documents(recall: TaskData) -> None:
    """The batch built once, with its ids swapped, is the one that packing would give."""
    rows = np.array([5, 0, 4999])
    batch = Batches(recall.num_tokens, recall.vocab_size).of(recall.train, rows)
    documents = [
        Document("", ids, np.full(22, TEXT, np.uint8), final_target_id=answer)
        for ids, answer in zip(recall.train.token_ids[rows], recall.train.answers[rows], strict=True)
    ]
    packed = pack_documents([[(document, unpatched(22))] for document in documents], 22)
    for name, value in vars(packed).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, getattr(batch, name)), name
    assert (batch.min_id, batch.max_id, batch.longest_document) == (0, 9, 22)


def test_each_pass_sees_every_sequence_once_in_another_order() -> None:
    rows = np.concatenate([rows_of_step(step, 8, 50, seed=1) for step in range(25)])
    passes = rows.reshape(4, 50)
    assert (np.sort(passes, axis=1) == np.arange(50)).all()
    assert not np.array_equal(passes[0], passes[1])
    assert not np.array_equal(passes[0], np.concatenate([rows_of_step(s, 8, 50, seed=2) for s in range(7)])[:50])
    assert len({seed_of_step(seed, step) for seed in range(5) for step in range(200)}) == 1000
