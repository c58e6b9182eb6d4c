"""The arena: what moves a multiplier best, judged on many small trainings. See README.md beside this file."""
