"""IMSM (arXiv 2412.17383): the method, and its PEFT tuner."""
