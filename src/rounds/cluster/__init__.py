"""Several machines: work in shards on a Ray cluster."""
