"""Example photos, and the code that draws them."""
