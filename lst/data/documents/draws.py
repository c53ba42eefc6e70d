"""Many random generators at once: the draws of ``numpy.random.default_rng(seed)`` for an array of seeds.

Creating a NumPy generator takes longer than making a document. So generators that are used for a few draws only are
stepped here together, in arrays: NumPy's ``SeedSequence`` (M. O'Neill's seed_seq mix), PCG64 (XSL-RR, 128 bits of
state), its uniform doubles and its bounded integers (D. Lemire's method). Every draw equals NumPy's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_POOL_SIZE = 4
_INIT_A, _MULT_A = 0x43B0D7E5, 0x931E8875
_INIT_B, _MULT_B = 0x8B51F9DD, 0x58F38DED
_MIX_LEFT, _MIX_RIGHT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
_PCG_HIGH, _PCG_LOW = np.uint64(2549297995355413924), np.uint64(4865540595714422341)
_WORD_MASK = 0xFFFFFFFF
_32, _HALF = np.uint64(32), np.uint64(0xFFFFFFFF)


def seed_words(seed: Sequence[int]) -> list[int]:
    """32-bit words of a seed's numbers in NumPy's order: least significant first, at least one word a number.

    >>> seed_words([3, 1 << 32])
    [3, 0, 1]
    """
    words = []
    for number in seed:
        if number < 0:
            raise ValueError(f"a seed must not be negative: {number}")
        words.append(number & _WORD_MASK)
        while number := number >> 32:
            words.append(number & _WORD_MASK)
    return words


class Generators:
    """Gives the same draws as ``[numpy.random.default_rng(seed) for seed in seeds]``.

    Args:
        words: uint32 [w, n], the words of n seeds, see ``seed_words``; all seeds have the same number of words.

    >>> generators = Generators(np.array([[1, 2]], np.uint32))
    >>> generators.random().tolist() == [np.random.default_rng(seed).random() for seed in (1, 2)]
    True
    """

    def __init__(self, words: np.ndarray) -> None:
        state = _generated_state(_mixed_pool(words.astype(np.uint32)))
        high, low = state[0], state[1]
        # The increment is 2 · (number of the sequence) + 1.
        self._increment = (
            (state[2] << np.uint64(1)) | (state[3] >> np.uint64(63)),
            (state[3] << np.uint64(1)) | np.uint64(1),
        )
        self._state = _add(self._increment, (high, low))
        self._advance(slice(None))
        self._spare = np.zeros(words.shape[1], np.uint64)
        self._has_spare = np.zeros(words.shape[1], bool)

    def __len__(self) -> int:
        return len(self._spare)

    def random(self) -> np.ndarray:
        """One draw of each generator: float64 [n], uniform in [0, 1)."""
        return (self._next64(slice(None)) >> np.uint64(11)) * (1.0 / (1 << 53))

    def integers(self, low: np.ndarray, high: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Draws integers from ``low`` to ``high``, both inclusive, from some of the generators.

        Args:
            low, high: int64 [m], less than 2³² apart.
            which: int [m], the generators, each at most once.

        Returns:
            int64 [m].
        """
        found = low.astype(np.int64)
        # A range of one number needs no draw.
        open_places = np.flatnonzero(high > low)
        while len(open_places):
            ranges = (high - low)[open_places].astype(np.uint64) + np.uint64(1)
            product = self._next32(which[open_places]) * ranges
            found[open_places] = low[open_places] + (product >> _32).astype(np.int64)
            # Products below this bound would make some numbers more likely: they are drawn again.
            rejected = (product & _HALF) < (np.uint64(1 << 32) - ranges) % ranges
            open_places = open_places[rejected]
        return found

    def _advance(self, which: np.ndarray | slice) -> None:
        high, low = _multiply((self._state[0][which], self._state[1][which]))
        high, low = _add((high, low), (self._increment[0][which], self._increment[1][which]))
        self._state[0][which], self._state[1][which] = high, low

    def _next64(self, which: np.ndarray | slice) -> np.ndarray:
        self._advance(which)
        high, low = self._state[0][which], self._state[1][which]
        turn = high >> np.uint64(58)
        mixed = high ^ low
        return (mixed >> turn) | (mixed << ((np.uint64(64) - turn) & np.uint64(63)))

    def _next32(self, which: np.ndarray) -> np.ndarray:
        """The low half of a 64-bit draw; its high half is the next result."""
        found = self._spare[which]
        fresh = which[~self._has_spare[which]]
        drawn = self._next64(fresh)
        found[~self._has_spare[which]] = drawn & _HALF
        self._spare[fresh] = drawn >> _32
        self._has_spare[which] = ~self._has_spare[which]
        return found


def uniform_draws(seed: Sequence[int], first: int, count: int) -> np.ndarray:
    """The first draw of ``default_rng([*seed, index])`` for ``count`` indices from ``first`` on: float64 [count]."""
    if first < 1 << 32 < first + count:
        split = (1 << 32) - first
        return np.concatenate([uniform_draws(seed, first, split), uniform_draws(seed, 1 << 32, count - split)])
    indices = np.arange(first, first + count, dtype=np.uint64)
    words = [np.full(count, word, np.uint32) for word in seed_words(seed)]
    words.append((indices & _HALF).astype(np.uint32))
    if first >> 32:
        words.append((indices >> _32).astype(np.uint32))
    return Generators(np.stack(words)).random()


def _mixed_pool(entropy: np.ndarray) -> np.ndarray:
    """The seed pool, uint32 [4, n], of entropy, uint32 [w, n]."""
    constant = _INIT_A

    def hashed(values: np.ndarray) -> np.ndarray:
        nonlocal constant
        values = values ^ np.uint32(constant)
        constant = constant * _MULT_A & _WORD_MASK
        values = values * np.uint32(constant)
        return values ^ (values >> np.uint32(16))

    def mixed(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        values: np.ndarray = left * _MIX_LEFT - right * _MIX_RIGHT
        return values ^ (values >> np.uint32(16))

    num_words, num_seeds = entropy.shape
    nothing = np.zeros(num_seeds, np.uint32)
    pool = [hashed(entropy[place] if place < num_words else nothing) for place in range(_POOL_SIZE)]
    for source in range(_POOL_SIZE):
        for target in range(_POOL_SIZE):
            if source != target:
                pool[target] = mixed(pool[target], hashed(pool[source]))
    for source in range(_POOL_SIZE, num_words):
        for target in range(_POOL_SIZE):
            pool[target] = mixed(pool[target], hashed(entropy[source]))
    return np.stack(pool)


def _generated_state(pool: np.ndarray) -> list[np.ndarray]:
    """Four uint64 [n] of state from the pool."""
    constant = _INIT_B
    halves = []
    for place in range(2 * _POOL_SIZE):
        values = pool[place % _POOL_SIZE] ^ np.uint32(constant)
        constant = constant * _MULT_B & _WORD_MASK
        values = values * np.uint32(constant)
        halves.append((values ^ (values >> np.uint32(16))).astype(np.uint64))
    return [halves[place] | halves[place + 1] << _32 for place in range(0, 2 * _POOL_SIZE, 2)]


_Pair = tuple[np.ndarray, np.ndarray]


def _add(left: _Pair, right: _Pair) -> _Pair:
    """Sum of 128-bit numbers, (high, low) each."""
    low = left[1] + right[1]
    return left[0] + right[0] + (low < left[1]).astype(np.uint64), low


def _multiply(number: _Pair) -> _Pair:
    """Product with PCG64's multiplier, modulo 2¹²⁸."""
    high, low = number
    low_0, low_1 = low & _HALF, low >> _32
    factor_0, factor_1 = _PCG_LOW & _HALF, _PCG_LOW >> _32
    product = low_0 * factor_0
    middle = low_1 * factor_0 + (product >> _32)
    other = low_0 * factor_1 + (middle & _HALF)
    carried = low_1 * factor_1 + (middle >> _32) + (other >> _32)
    return carried + high * _PCG_LOW + low * _PCG_HIGH, low * _PCG_LOW
