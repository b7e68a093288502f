"""Latents inside the environments of other libraries, in their own idioms."""
