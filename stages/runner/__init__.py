"""How a stage is started: its command line, the warm process that forks it, and what each stage cost."""
