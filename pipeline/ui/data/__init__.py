"""What the pages show, read from a lake: plain values, each within the time of a page.

A page never reads a whole table: it takes what the log says of it, the newest parts, or a page of rows.
"""
