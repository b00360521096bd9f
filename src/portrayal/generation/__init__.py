"""Painting pictures."""
