"""The right to be forgotten: a row leaves every table, every version that is kept, and does not come back."""
