"""From data files to rows of the data contract."""
