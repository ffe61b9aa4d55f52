"""What all stages share: params and their faults, dvc.yaml, the lock, the work folder."""
