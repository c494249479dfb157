"""Drawing primitives: they know no table of the report."""
