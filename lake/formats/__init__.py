"""One module per family of raw formats; ``lake.files`` is the only one that calls them.

``places`` finds and opens, ``splits`` plans, ``lines`` streams, ``rows`` and ``vectors`` make
records (one by one, and by columns), and the others each read one family.
"""
