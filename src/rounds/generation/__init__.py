"""Generation: recovering the prompt of a rewriting: rows, splits, the metric, baselines, tables and submissions."""
