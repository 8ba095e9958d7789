"""Report: facts of an experiment, charts, HTML page and live server."""
