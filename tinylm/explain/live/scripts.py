"""The live page's JavaScript that computes, without anything that is seen."""

from tinylm.pages.document import resource

FILES = ("arrays.js", "transformer.js", "recurrent.js", "models.js", "tokens.js")  # each needs only those before it


def engine_scripts() -> list[str]:
    """Returns the texts of the scripts, in the order in which a page loads them."""
    return [resource("tinylm.explain.live", name) for name in FILES]
