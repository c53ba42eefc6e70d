"""Latent Speech-Text Transformer: pre-training of speech-text language models on latent speech patches.

Data flows one way, and each step is one folder::

    audio, text ── tokenizers ──▶ ids ── data ──▶ documents ── model ──▶ logits
                                                                 ▲          │
                                        kernels (the hot loops) ─┘          ▼
                                              recipes: train, evaluate, report, generate

Reference: Lu et al., "Latent Speech-Text Transformer", ICLR 2026 (arXiv 2510.06195).
"""

__version__ = "0.1.0"
