"""Small commands for those who work on this project."""
