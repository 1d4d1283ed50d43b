"""Around the steps of a run: budget, averages, validation, figures, sounds, checkpoints."""
