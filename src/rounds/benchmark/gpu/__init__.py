"""GPU check: measure the flagship model on a GPU, section by section."""
