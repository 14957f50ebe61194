"""Studies: questions that are answered by computing. Their values stand in `polyfed/experiments/`."""
