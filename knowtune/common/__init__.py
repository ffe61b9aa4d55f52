"""What every room uses: errors, files, progress, statistics, SVG, secrets."""
