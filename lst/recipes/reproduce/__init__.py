"""Reproductions: a plan is trained, measured and written as one page and one JSON, by one command each.

::

    plan (YAML) ──grids──▶ prepare, lst scale run ──▶ points ──┬─law──▶ floor against the known entropy, repetition
                                                               └─lst──▶ claims: hold, do not hold, not decided
    plan (YAML) ──h3──▶ lst synthetic ──▶ accuracies beside the published ones
    plan (YAML) ──h3_text──▶ lst prepare, lst train, lst eval on text ──▶ perplexities beside the published ones
"""
