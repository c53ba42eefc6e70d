"""The groups of ``lst voice``, a job with options of its own: see ``lst.configs.voice_schema``."""
