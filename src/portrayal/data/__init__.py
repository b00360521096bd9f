"""Datasets on disk: prepared photos, class images, and what the encoders made of them."""
