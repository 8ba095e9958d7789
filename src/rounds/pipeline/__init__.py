"""Pipeline: what `make` runs. Settings, names of an experiment's folders, its stages and their freshness."""
