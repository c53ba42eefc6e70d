"""Lists runs and tells what differs between two.

::

    folder ──found_models──▶ folders of trainings ──read_model──▶ ModelLine ──▶ table, JSON
    two of them ──diff_models──▶ ModelDiff: settings, data, versions, results

A run's folder is read as data: nothing in it is composed, interpolated or followed to another place. What is damaged is
named beside what could be read.
"""
