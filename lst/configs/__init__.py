"""Hydra configuration: one folder of YAML a group, ``schema`` with every option, ``compose`` that puts them together."""
