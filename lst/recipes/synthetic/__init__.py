"""Small models on synthetic languages and ListOps.

::

    tasks, listops ─▶ sequences ─batches─▶ module (trained as ``lst.recipes.training`` trains) ─▶ results ─▶ report
"""
