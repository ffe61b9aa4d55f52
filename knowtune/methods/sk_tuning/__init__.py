"""SK-Tuning (arXiv 2410.08598): the method, and its PEFT tuner."""
