"""How a match gets to know all rows: the index, its shuffle, its selection in rounds."""
