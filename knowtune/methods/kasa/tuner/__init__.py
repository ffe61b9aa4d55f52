"""What takes the place of PEFT's KaSA: the same adapter, on a base that is never written."""
