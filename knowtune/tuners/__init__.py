"""Tuners: kinds of adapters that this library adds to PEFT. They import torch and PEFT; `registration` does not."""
