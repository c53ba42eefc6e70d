"""Benchmarks of text made into spoken ones: built once, kept as a folder, scored for every model of a run.

::

    items file ──list_items──▶ TextItem ──plan_build──▶ clips to speak, and what they cost
    plan ──build_benchmark──▶ folder: shards, questions, audio, hashes, card
    items file ──build_written──▶ folder: texts, questions, card
    folder ──open_benchmark──▶ Benchmark: items that ``lst.evaluation.likelihoods`` scores
"""

from lst.evaluation.benchmark.build import build_benchmark
from lst.evaluation.benchmark.formats import BenchmarkCard, BenchmarkResult
from lst.evaluation.benchmark.listed import gather_items
from lst.evaluation.benchmark.opened import Benchmark, headlines_of, open_benchmark
from lst.evaluation.benchmark.plan import BuildPlan, plan_build
from lst.evaluation.benchmark.text_items import TextItem, read_items
from lst.evaluation.benchmark.written import build_written, plan_written

__all__ = [
    "Benchmark",
    "BenchmarkCard",
    "BenchmarkResult",
    "BuildPlan",
    "TextItem",
    "build_benchmark",
    "build_written",
    "gather_items",
    "headlines_of",
    "open_benchmark",
    "plan_build",
    "plan_written",
    "read_items",
]
