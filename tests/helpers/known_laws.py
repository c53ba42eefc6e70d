"""Tables of losses that follow a known law, with noise."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from lst.recipes.scaling.law import LawPoints

# Random surfaces of the test of coverage: few in the suite, 200 in ``make test-scaling``.
NUM_SURFACES = int(os.environ.get("LST_SCALING_SURFACES", "4"))
# Noise of log losses between seeds of small models.
NOISE_SD = 0.004


@dataclass(frozen=True)
class KnownLaw:
    """E, A, B, α and β."""

    values: np.ndarray

    def losses(self, num_parameters: np.ndarray, num_tokens: np.ndarray) -> np.ndarray:
        """Losses without noise."""
        floor, a, b, alpha, beta = self.values
        return floor + a / num_parameters**alpha + b / num_tokens**beta

    def points(self, num_parameters: np.ndarray, num_tokens: np.ndarray, sd: float, seed: int) -> LawPoints:
        """Points with normal noise of their log losses."""
        noise = np.random.default_rng(seed).standard_normal(len(num_parameters))
        losses = self.losses(num_parameters, num_tokens) * np.exp(sd * noise)
        return LawPoints(num_parameters, num_tokens, losses)

    def fisher_sds(self, num_parameters: np.ndarray, num_tokens: np.ndarray, sd: float) -> np.ndarray:
        """The least standard errors [5] that an unbiased estimate can have."""
        _, a, b, alpha, beta = self.values
        by_n, by_d = num_parameters**-alpha, num_tokens**-beta
        slopes = [np.ones(len(by_n)), by_n, by_d, -a * by_n * np.log(num_parameters), -b * by_d * np.log(num_tokens)]
        slopes = np.stack(slopes, 1) / self.losses(num_parameters, num_tokens)[:, None]
        scale = np.linalg.norm(slopes, axis=0)
        covariance = np.linalg.inv((slopes / scale).T @ (slopes / scale)) / np.outer(scale, scale)
        return sd * np.sqrt(np.diag(covariance))


PUBLISHED = KnownLaw(np.array([1.82, 482.0, 2085.0, 0.348, 0.366]))


def grid(sizes: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """N and D of every pair."""
    n, d = np.meshgrid(sizes, tokens)
    return n.ravel(), d.ravel()


def small_grid(num: int = 5, reach: float = 40.0) -> tuple[np.ndarray, np.ndarray]:
    """The sizes and tokens that a laptop trains."""
    return grid(np.geomspace(3e5, 3e5 * reach, num), np.geomspace(1e7, 1e7 * reach, num))


def random_law(generator: np.random.Generator) -> KnownLaw:
    """A law whose terms all matter on ``small_grid``."""
    alpha, beta = generator.uniform(0.2, 0.5, 2)
    floor, at_n, at_d = generator.uniform(0.5, 2), *generator.uniform(0.3, 1.2, 2)
    return KnownLaw(np.array([floor, at_n * 3e5**alpha, at_d * 1e7**beta, alpha, beta]))


def isoflop_rows(law: KnownLaw, arm: str, gain: float, seed: int, sd: float = NOISE_SD) -> list[dict[str, object]]:
    """Rows of a table: five sizes for each of five budgets, of an arm that works like ``gain`` times the compute."""
    generator, rows = np.random.default_rng(seed), []
    for flops in np.geomspace(1e14, 1e16, 5):
        for share in np.geomspace(0.3, 3.3, 5):
            size = 3e5 * np.sqrt(flops / 1e14) * share
            tokens = flops / (6 * size)
            loss = law.losses(size * np.sqrt(gain), tokens * np.sqrt(gain)) * np.exp(sd * generator.standard_normal())
            rows.append({"arm": arm, "seed": seed, "N": size, "D": tokens, "C": flops, "loss": loss})
    return rows
