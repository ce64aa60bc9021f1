"""Texts: shingles, signatures, bands, and the steps that compare them."""
