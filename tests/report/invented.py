"""Example rows that follow from the declaration of a table: for tables nobody has invented rows for."""

VALUES = {"text": "heart", "flag": True, "count": 60, "number": 0.5, "share": 0.5, "p": 0.5, "list": [], "object": {}}


def rows(table):
    """A row with every column, and one in which everything that may be null is, with a reason where the table has one."""
    full = {column.name: VALUES[column.type] for column in table.columns}
    empty = {column.name: None if column.optional else VALUES[column.type] for column in table.columns}
    return [full | {"reason": None}, empty | {"reason": "not recorded"}] if "reason" in full else [full, empty]
