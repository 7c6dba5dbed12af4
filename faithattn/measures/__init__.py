"""Pure tensor mathematics: no model in sight."""
