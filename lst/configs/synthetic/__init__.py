"""The groups of ``lst synthetic``, a job with options of its own: see ``lst.configs.synthetic_schema``."""
