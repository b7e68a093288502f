"""Opening files from strangers: examined by another process before they are opened."""
