"""The card of a benchmark as a page: its numbers, its failures, and some of its items to hear."""
