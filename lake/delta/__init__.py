"""Delta tables: parts, snapshots and scans; commits that happen once, over several tables, or not at all.

``parts`` writes and checks a Parquet file, ``commit`` puts parts into one table strictly, ``pending`` makes
of several such commits one that survives ``kill -9``, ``snapshot`` and ``scan`` read, ``locks`` keeps two
runs apart.
"""
