"""The verbs of the pipeline: one module per DVC stage, `python -m stages.NAME --help` explains each."""
