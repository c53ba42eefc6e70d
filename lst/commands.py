"""The commands of ``lst``: what each runs, what it prints with ``--dry-run``, and what its help shows first.

Recipes are named as strings and imported when they run, so that ``--help`` and mistakes answer at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lst.configs.compose import Job


@dataclass(frozen=True)
class Command:
    """What ``lst`` can do.

    Attributes:
        recipe: the function that does it, ``module:name`` of ``lst.recipes``. Of the configuration (``config``) and
            the words that gave it (``overrides``) it gets what it names. It returns an exit status, or what to print.
        plan_recipe: the function of ``--dry-run``, likewise; it returns lines of text.
        does: one line for help.
        first: the options that most people change, at most ten.
        output: the option that names its results; empty where it prints them.
        reads_run: it writes into the run that it reads.
        named: the option that a first word without ``=`` gives; every such word, if it is a list of paths.
        shows: what it returns is printed; otherwise it prints by itself.
    """

    recipe: str
    plan_recipe: str
    does: str
    first: str
    output: str = ""
    reads_run: bool = False
    named: str = ""
    shows: bool = True

    def run(self, config: Any, overrides: Sequence[str]) -> object:
        """Does it; returns an exit status, something to print, or nothing."""
        return _call(self.recipe, config, overrides)

    def plan(self, config: Any, overrides: Sequence[str]) -> list[str]:
        """What it would do, as lines of text; raises ``UserError`` for what ``run`` would refuse."""
        lines: list[str] = _call(self.plan_recipe, config, overrides)
        return list(lines)


def recipe_of(place: str) -> Any:
    """The function of a recipe, ``module:name``."""
    module, name = place.split(":")
    return getattr(import_module(f"lst.recipes.{module}"), name)


def _call(place: str, config: Any, overrides: Sequence[str]) -> Any:
    recipe = recipe_of(place)
    given = {"config": config, "overrides": overrides}
    return recipe(**{name: given[name] for name in inspect.signature(recipe).parameters if name in given})


_UNITS = "tokenizer.kind tokenizer.num_units tokenizer.frame_rate_hz tokenizer.weights tokenizer.layer"
_TRAIN = "train.max_steps train.learning_rate train.rows train.row_patches"
COMMANDS = {
    "check": Command(
        "check:check",
        "check:check_plan",
        "list every problem of corpus=, of the items= of a benchmark, or of the prepared data in run_dir=",
        "run_dir corpus layout data_dir check.decode check.examples check.json data.min_duration_s data.max_duration_s",
        "check.json",
    ),
    "prepare": Command(
        "prepare:prepare_run",
        "prepare:prepare_plan",
        "audio and transcripts to units, aligned words and shards",
        "run_dir corpus layout data_dir num_workers on_error seed tokenizer.kind tokenizer.num_units data.align.method",
        "run_dir",
    ),
    "card": Command(
        "corpus_card.card:card_of_run",
        "corpus_card.card:card_plan",
        "the prepared corpus in numbers: one HTML page and JSON",
        "run_dir data_dir card.title card.licence card.max_utterances seed patching.static_size patching.max_patch "
        "patching.deduplicate data.mix.by",
        "run_dir",
        reads_run=True,
    ),
    "train": Command(
        "training.train:train",
        "training.plan:train_plan",
        "train one model of the run",
        f"run_dir name seed {_TRAIN} train.precision train.accelerator patching.static_size",
        "name",
    ),
    "eval": Command(
        "eval_command:run_eval",
        "eval_command:eval_plan",
        "cloze accuracy in four directions and bits, of every trained model",
        "run_dir data_dir seed eval.benchmark eval.max_items eval.context_share eval.min_words eval.rows_a_batch "
        "eval.bootstrap_samples train.row_patches",
        "run_dir",
        reads_run=True,
    ),
    "benchmark build": Command(
        "benchmark:build",
        "benchmark:build_plan",
        "a benchmark of spoken items, or of text alone: NAME items=FILE out=FOLDER",
        "items out run_dir benchmark.max_items benchmark.speech benchmark.voices benchmark.recognise data.voice "
        "num_workers on_error",
        "out",
        named="benchmark.name",
    ),
    "report": Command(
        "report.write:write_report",
        "report.write:report_plan",
        "one HTML page of everything in the run",
        "run_dir data_dir report.num_audio",
        "run_dir",
        reads_run=True,
    ),
    "runs list": Command(
        "runs.listing:list_runs",
        "runs.listing:list_plan",
        "the models of all runs below folders: state, size, steps, FLOPs, bits, accuracies; lst runs is short for it",
        "runs json out",
        "out",
        named="runs",
    ),
    "runs diff": Command(
        "runs.diff:diff_runs",
        "runs.diff:diff_plan",
        "what differs between two runs or models: settings, data, versions, results",
        "runs json out",
        "out",
        named="runs",
    ),
    "compare": Command(
        "compare.write:compare_runs",
        "compare.write:compare_plan",
        "one HTML page of any number of runs: which model is better than which",
        "runs out base num_items bootstrap_samples seed",
        "out",
        named="runs",
    ),
    "quickstart": Command(
        "quickstart:quickstart",
        "quickstart:quickstart_plan",
        "all of the above: prepare, train each of arms, eval, report",
        f"run_dir corpus text arms num_workers seed {_TRAIN}",
        "run_dir",
        shows=False,
    ),
    "generate": Command(
        "generate:run_generate",
        "generate:generation_plan",
        "continue a spoken or written prompt in text or sound, or many prompts",
        "run_dir name seed out generate.text generate.audio generate.prompts generate.modality generate.max_new_tokens "
        "generate.temperature",
    ),
    "export": Command(
        "export:export",
        "export:export_plan",
        "prepared data as .on_the_fly JSON lines, TextGrids or CTM; a model as a Llama, or with its card (hub=)",
        "run_dir data_dir export.format export.folder hub name export.licence",
        "export.folder",
    ),
    "synthetic": Command(
        "synthetic.synthetic:synthetic",
        "synthetic.synthetic:plan",
        "train a small model on a synthetic language or ListOps, and report all of them",
        "run_dir seeds convolution task.length task.vocabulary train.max_steps train.learning_rate "
        "train.batch_sequences train.stop_at model.global_dim",
        "run_dir",
    ),
    "scale plan": Command(
        "scaling.plan:scale_plan",
        "scaling.run:run_plan",
        "steps, FLOPs and time of every model of a grid, scale=FILE.yaml, before the first is trained",
        "out data_dir scale.budgets scale.budget scale.control scale.seeds scale.max_hours",
        "out",
    ),
    "scale run": Command(
        "scaling.run:scale_run",
        "scaling.run:run_plan",
        "train and evaluate the models of a plan, some at a time; their table is for lst scale fit",
        "out data_dir jobs threads hours slurm cells",
        "out",
    ),
    "scale fit": Command(
        "scaling.fit:scale_fit",
        "scaling.fit:fit_plan",
        "the law of losses over parameters and data, from a table of trained models, points=",
        "points out seed fit.delta fit.bootstrap_samples fit.size fit.base_arm fit.flops_factor fit.loss_unit",
        "out",
    ),
    "scale plot": Command(
        "scaling.page:scale_plot",
        "scaling.page:plot_plan",
        "draw the page of a fit in out= again",
        "out fit.loss_unit",
        "out",
        reads_run=True,
    ),
    "reproduce law": Command(
        "reproduce.law:law",
        "reproduce.law:law_plan",
        "the scaling law of simulated speech, its floor against the known entropy, and what repetition costs",
        "out jobs threads hours page_only law.prepare seed",
        "out",
    ),
    "reproduce lst": Command(
        "reproduce.claims:lst",
        "reproduce.claims:lst_plan",
        "the claims about latent patches on stories: which hold, which do not, which are not decided",
        "out jobs threads hours page_only lst.prepare seed",
        "out",
    ),
    "reproduce h3": Command(
        "reproduce.h3:h3",
        "reproduce.h3:h3_plan",
        "state-space models on synthetic languages and ListOps",
        "out jobs threads hours page_only",
        "out",
    ),
    "reproduce h3_text": Command(
        "reproduce.h3_text:h3_text",
        "reproduce.h3_text:h3_text_plan",
        "perplexities of Transformer, H3, hybrid and S4D on text alone, beside the published order",
        "out text jobs threads hours page_only h3_text.rates h3_text.seeds seed",
        "out",
    ),
    "tokenizer fit-units": Command(
        "tokenizer:fit_units",
        "tokenizer:fit_units_plan",
        "fit speech units to corpus=, write out=",
        f"corpus layout out {_UNITS} tokenizer.device num_workers",
        "out",
    ),
    "tokenizer score-units": Command(
        "tokenizer:score",
        "tokenizer:score_plan",
        "what the units tokenizer.codebook= say about phones and speakers of corpus=",
        "corpus layout tokenizer.codebook out tokenizer.weights tokenizer.device num_workers",
        "out",
    ),
    "tokenizer convert-units": Command(
        "tokenizer:convert_units",
        "tokenizer:convert_units_plan",
        "a published codebook, tokenizer.codebook=, and its model's weights to a units file, out=",
        "tokenizer.codebook out tokenizer.kind tokenizer.frame_rate_hz tokenizer.weights tokenizer.layer "
        "tokenizer.trust",
        "out",
    ),
    "tokenizer fit-text": Command(
        "tokenizer:fit_text",
        "tokenizer:fit_text_plan",
        "train text pieces on text= or corpus=, write out=",
        "text corpus out tokenizer.text_model_type tokenizer.text_vocab_size tokenizer.normalization "
        "tokenizer.lowercase tokenizer.character_coverage tokenizer.text_max_lines seed",
        "out",
    ),
    "tokenizer show": Command(
        "tokenizer:show",
        "tokenizer:show_plan",
        "what a units file, tokenizer.codebook=, or tokenizer.text_model= holds",
        "tokenizer.codebook tokenizer.text_model",
    ),
    "voice quickstart": Command(
        "voice.quickstart:voice_quickstart",
        "voice.quickstart:voice_quickstart_plan",
        "synthesise many voices, train a voice on them, and evaluate it on voices that it never heard",
        "run_dir name seed num_workers many.num_speakers many.num_sentences train.teacher_steps train.student_steps "
        "eval.speaker_weights eval.trust",
        "run_dir",
    ),
    "voice train": Command(
        "voice.train:train_voice",
        "voice.train:train_plan",
        "train a voice on the run's prepared speech: it converts speech and speaks units, in any speaker's style",
        "run_dir data_dir name seed train.teacher_steps train.student_steps train.rows train.learning_rate "
        "loss.adversarial train.accelerator",
        "name",
    ),
    "voice convert": Command(
        "voice.speak:convert",
        "voice.speak:convert_plan",
        "the words of source= in the voice of reference=",
        "source reference out voice run_dir name",
        "out",
    ),
    "voice eval": Command(
        "voice.evaluate:evaluate_voice",
        "voice.evaluate:evaluation_plan",
        "a voice on speakers that it never heard: a table, and a page with players",
        "run_dir name voice eval.voices eval.corpus eval.sentences eval.recognise eval.speaker_weights eval.trust seed",
        "name",
        reads_run=True,
    ),
    "voice speak": Command(
        "voice.speak:speak",
        "voice.speak:speak_plan",
        "units=, or the units that a model makes of text=, as sound in the voice of reference=",
        "units text lm reference out voice run_dir name seed",
        "out",
    ),
}
GROUPS = ("benchmark", "runs", "scale", "reproduce", "tokenizer", "voice")
# What a group does without the name of an action.
DEFAULT_ACTIONS = {"runs": "list"}


def job_of(command: str) -> Job[Any]:
    """Where a command takes its configuration from: some have options of their own, all others share theirs."""
    from lst.configs.compose import COMPARISON, MAIN, REPRODUCE, SCALING, SYNTHETIC, VOICE

    own: dict[str, Job[Any]] = {
        "runs": COMPARISON,
        "compare": COMPARISON,
        "scale": SCALING,
        "reproduce": REPRODUCE,
        "synthetic": SYNTHETIC,
        "voice": VOICE,
    }
    return own.get(command.split()[0], MAIN)
