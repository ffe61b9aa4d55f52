"""What `make new` proposes: columns as they look, a task and mapping that fit, a model, a preset."""
