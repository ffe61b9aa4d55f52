"""What all stages share: params, the command line, the work folder, the warm process."""
