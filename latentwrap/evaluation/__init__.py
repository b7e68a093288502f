"""What a model knows and what an agent does: the quality report, pictures, videos."""
