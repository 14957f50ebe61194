"""Run folders: what a run was, what it measured, and how it goes on after it was killed."""
