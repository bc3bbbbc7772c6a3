"""What a page of the inbox shows."""

import html
import re


def texts(page: str) -> list[str]:
    found = re.findall(r'<p class="text[^"]*" dir="auto">(.*?)</p>', page, re.DOTALL)
    return [html.unescape(re.sub("<[^>]+>", "", text)) for text in found]


def link(page: str, rel: str) -> str:
    found = re.search(rf'rel="{rel}" href="([^"]+)"', page)
    return html.unescape(found[1]) if found else ""
