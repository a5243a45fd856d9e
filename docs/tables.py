"""Tables of the pages, made from committed results."""

import re
from collections.abc import Callable, Mapping


def fill_tables(page: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """The page with each table between ``<!-- NAME -->`` and ``<!-- -->`` replaced.

    >>> from docs.tables import fill_tables
    >>> fill_tables("<!-- sum -->\\nold\\n<!-- -->", {"sum": lambda: "new"}).split("\\n")
    ['<!-- sum -->', 'new', '<!-- -->']
    """
    pattern = rf"<!-- ({'|'.join(tables)}) -->\n.*?<!-- -->"
    return re.sub(pattern, lambda m: f"<!-- {m[1]} -->\n{tables[m[1]]()}\n<!-- -->", page, flags=re.DOTALL)
