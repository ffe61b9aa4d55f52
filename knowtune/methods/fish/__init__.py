"""FISH: train a fixed, small set of a model's entries. The method, which imports little, and its PEFT tuner."""
