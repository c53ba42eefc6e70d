"""Small models on synthetic languages and ListOps: tasks, training, and a report of all of them."""
