"""Random windows: drawn, read ahead, and handed to a training loop."""
