"""ListOps of the Long Range Arena (arXiv 2011.04006): nested operations on lists of digits, by the published grammar.

::

    [MAX 4 [MED 1 9 3 ] [SM 7 5 ] ]   is 4: the greatest of 4, 3 and 12 modulo 10

A node is a digit with probability ¾ (always, at the greatest depth), else an operator on 2 to ``max_arguments`` nodes.
The median of an even number of digits is the mean of the middle two, rounded down. Lengths count tokens: a digit is
one, an operator and its bracket two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lst.configs.synthetic_schema import TaskConfig
from lst.errors import UserError

DIGIT_PROBABILITY = 0.75
DIGITS = tuple(str(digit) for digit in range(10))
END_OF_EXPRESSION = "="
# Draws for one expression of the lengths asked for, after which there seem to be none left.
MAX_DRAWS = 20_000


def _median(values: Sequence[int]) -> int:
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) // 2


OPERATORS: dict[str, Callable[[Sequence[int]], int]] = {
    "[MIN": min,
    "[MAX": max,
    "[MED": _median,
    "[SM": lambda values: sum(values) % 10,
}
SYMBOLS = (*DIGITS, *OPERATORS, "]", END_OF_EXPRESSION)
_FUNCTIONS = tuple(OPERATORS.values())
_FIRST_OPERATOR, _BRACKET = len(DIGITS), len(DIGITS) + len(OPERATORS)


@dataclass(frozen=True)
class Expression:
    """An expression's ids among ``SYMBOLS``, and the digit that it is worth."""

    token_ids: tuple[int, ...]
    value: int


class _Uniforms:
    """Numbers from [0, 1) one by one: drawn in blocks, since a generator's call costs more than its numbers."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.block: list[float] = []

    def next(self) -> float:
        if not self.block:
            self.block = self.generator.random(4096).tolist()
        return self.block.pop()


def draw_expressions(config: TaskConfig, generator: np.random.Generator, count: int) -> list[Expression]:
    """``count`` different expressions whose lengths lie between ``min_length`` and ``max_length``, both included.

    Raises:
        UserError: so many draws found no new one that there seem to be none.
    """
    assert config.min_length is not None
    uniforms = _Uniforms(generator)
    found: dict[tuple[int, ...], Expression] = {}
    draws = 0
    while len(found) < count:
        draws += 1
        if draws > MAX_DRAWS:
            raise UserError(
                f"only {len(found):,} different ListOps expressions of {config.min_length} to {config.max_length} "
                f"tokens were found, and {count:,} are needed: widen task.min_length and task.max_length, or lower "
                "task.train_sequences or task.test_sequences"
            )
        expression = _draw_expression(config, uniforms)
        if expression and len(expression.token_ids) >= config.min_length and expression.token_ids not in found:
            found[expression.token_ids] = expression
            draws = 0
    return list(found.values())


def _draw_expression(config: TaskConfig, uniforms: _Uniforms) -> Expression | None:
    """One expression, or None as soon as it is too long: the rest of it is not drawn."""
    assert config.max_depth is not None
    assert config.max_arguments is not None
    assert config.max_length is not None
    token_ids: list[int] = []
    # Of each operator that is still open, from the outermost: its number, its arguments, the values of those drawn.
    # A list, since nodes nest deeper than Python calls.
    opened: list[tuple[int, int, list[int]]] = []
    while True:
        if len(opened) + 1 < config.max_depth and uniforms.next() >= DIGIT_PROBABILITY:
            operator = int(len(_FUNCTIONS) * uniforms.next())
            opened.append((operator, 2 + int((config.max_arguments - 1) * uniforms.next()), []))
            token_ids.append(_FIRST_OPERATOR + operator)
        else:
            value = int(10 * uniforms.next())
            token_ids.append(value)
            while opened:
                operator, num_arguments, values = opened[-1]
                values.append(value)
                if len(values) < num_arguments:
                    break
                opened.pop()
                token_ids.append(_BRACKET)
                value = _FUNCTIONS[operator](values)
            if not opened:
                return Expression(tuple(token_ids), value) if len(token_ids) <= config.max_length else None
        # At least the bracket is still to come.
        if len(token_ids) >= config.max_length:
            return None
