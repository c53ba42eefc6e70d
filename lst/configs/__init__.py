"""Hydra configuration: a folder of YAML a group, every option in ``schema``, put together by ``compose``."""
