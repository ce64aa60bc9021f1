"""Embeddings: vectors of integers, random hyperplanes, and the step that compares them."""
