"""Training through Lightning: the one trainer of language models and of the models of ``lst synthetic``.

::

    batches ─▶ module: loss, AdamW, schedule ─▶ fit (Lightning) ─▶ RunCallback: metrics.jsonl, checkpoints, progress
                  │                                                    ▲
                  ├─ LanguageModelModule (language_model)              └─ TrainingFolder: settings, newest checkpoint
                  └─ SyntheticModule (lst.recipes.synthetic.module)

``checkpoints`` writes Lightning's state as safetensors and JSON, ``start`` decides where a training begins, ``finite``
and ``signals`` say what ends it early, ``plan`` says what it would cost.
"""
