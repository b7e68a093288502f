"""Files that are written whole or not at all, and what can be saved of damaged ones."""
