"""GPU check: measure the 7B decoder on a GPU, section by section."""
