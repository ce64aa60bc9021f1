"""How one table is made from the one before: reading, deciding, emitting."""
