"""What a person types: run, validate, plan, ask, show. Thin: the work is DVC's and the stages'."""
