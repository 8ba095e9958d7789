"""Report: an experiment's results as one HTML page with charts, written to disk or served while a round trains."""
