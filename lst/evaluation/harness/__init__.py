"""Models of this project in lm-evaluation-harness (``lm_eval``), which scores text.

::

    lm_eval --model lst --model_args pretrained=RUN/models/NAME/final --tasks …     (a release that knows plug-ins)
    python -m lst.evaluation.harness --model lst --model_args … --tasks …           (any release)

``model`` is the model, ``tasks`` has HellaSwag, BLiMP and COPA of local files, and ``__main__`` names both to the
harness. The package is an extra: ``pip install 'latent-speech-text[harness]'``.
"""
