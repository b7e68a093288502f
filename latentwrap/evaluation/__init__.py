"""What a model knows and what an agent does: probes, pictures, videos."""
