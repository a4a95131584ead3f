"""The prompt whose answer is the title of the next item: what was chosen, a title a line."""

from __future__ import annotations

from collections.abc import Sequence

from llmrec.data.catalog import Catalog
from llmrec.verbalize.render import PromptSettings, Verbalizer
from llmrec.verbalize.templates import Templates

NEXT_TITLE = "next_title"
"""Its template."""


def title_prompts(
    catalog: Catalog,
    types: Sequence[str],
    templates: Templates,
    forbidden: Sequence[str],
    events: int,
    titles_alone: bool = False,
) -> Verbalizer:
    """Writes such prompts of at most the newest `events`.

    With `titles_alone` nothing but titles and a wish stands in them: what a model is tuned with. `templates`
    that are older than this one are read beside those that come with llmrec.
    """
    shown = templates if NEXT_TITLE in templates.names else Templates.load()
    more = not titles_alone
    settings = PromptSettings(NEXT_TITLE, "line", events, queries=0, gaps=more, attributes=more)
    return Verbalizer(catalog, settings, tuple(types), shown, tuple(forbidden))
