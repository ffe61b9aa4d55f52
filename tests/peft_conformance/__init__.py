"""PEFT's own test suite, run over our tuners: `make peft-conformance`."""
