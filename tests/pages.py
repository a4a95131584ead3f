"""Reading the Markdown that reports and scripts write."""


def table_after(text: str, head: str) -> list[list[str]]:
    """Cells of the rows, without the head, of the first table at or behind `head` in the text."""
    lines = iter(text[text.index(head) :].splitlines())
    next(line for line in lines if line.startswith("|---"))
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")])
    return rows
