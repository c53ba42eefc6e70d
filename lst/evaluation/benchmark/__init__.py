"""Benchmarks of text made into spoken ones: built once, kept as a folder, scored for every model of a run.

::

    items file ──read_items──▶ TextItem ──plan_build──▶ clips to speak, and what they cost
    plan ──build_benchmark──▶ folder: shards, questions, audio, hashes, card
    folder ──open_benchmark──▶ Benchmark: items that ``lst.evaluation.likelihoods`` scores
"""

from lst.evaluation.benchmark.build import build_benchmark
from lst.evaluation.benchmark.formats import BenchmarkCard, BenchmarkResult
from lst.evaluation.benchmark.opened import Benchmark, open_benchmark
from lst.evaluation.benchmark.plan import BuildPlan, plan_build
from lst.evaluation.benchmark.text_items import TextItem, read_items

__all__ = [
    "Benchmark",
    "BenchmarkCard",
    "BenchmarkResult",
    "BuildPlan",
    "TextItem",
    "build_benchmark",
    "open_benchmark",
    "plan_build",
    "read_items",
]
