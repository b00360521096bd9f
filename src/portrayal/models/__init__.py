"""Bases and the methods that tune them."""
