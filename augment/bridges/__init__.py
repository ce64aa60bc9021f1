"""Other libraries, each behind one file."""
