"""Training one model of a run through Lightning.

::

    train ──▶ batches (from prepared data), module (loss, optimiser), callbacks (metrics, checkpoints) ──▶ final model

``checkpoints`` writes Lightning's state as safetensors and JSON, ``plan`` says what a training would cost.
"""
