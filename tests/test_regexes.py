"""No regular expression of the service takes more than in proportion to the text's length.

Each of them is found in the source, and tried on texts made of its own parts: what it repeats,
how it begins, and what just fails to match, in sequences of up to three that all grow. It may take
a thousand times what one look at each character takes: what grows faster than the text takes more
at some length, and a busy machine does not.
"""

import ast
import importlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice, product
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

import pytest
from pydantic import StringConstraints, TypeAdapter, ValidationError

from tests.builders import an_app
from tests.providers.samples import a_config
from webhook_api.store.dead_letters import address_pattern

ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text()
    for path in sorted((ROOT / "webhook_api").rglob("*.py"))
    if path.name != "__main__.py"
}
MAX_LOOKS = 1000  # at each character
FEW_LOOKS = 100  # a long text that takes no more needs no longer one
ALWAYS_NS = 50_000  # allowed for any text
SHORT = [8, 20, 64]  # repeats
LONG, LONGEST = 6_000, 400_000  # characters
MAX_PARTS = 40
MAX_IN_THREES = 10
REPLACES = {"sub", "subn", "split", "findall", "finditer", "search"}
METHODS = {"match", "fullmatch", *REPLACES}

parser = importlib.import_module("re._parser")  # the structure of an expression, as `re` sees it


class Expression(NamedTuple):
    """A regular expression of the source, and how it is applied."""

    place: str
    pattern: Any  # str or bytes
    flags: int
    method: str  # of `re.Pattern`, or "pydantic"

    def __str__(self) -> str:
        return f"{self.place} {self.method}"

    def apply(self) -> Callable[[Any], object]:
        if self.method == "pydantic":
            adapter = TypeAdapter(Annotated[str, StringConstraints(pattern=self.pattern)])
            return lambda text: _is_valid(adapter, text)
        compiled = re.compile(self.pattern, self.flags)
        if self.method in REPLACES:
            return lambda text: compiled.sub(text[:0], text)
        return compiled.match if self.method == "match" else compiled.fullmatch


def _is_valid(adapter: TypeAdapter[str], text: str) -> bool:
    try:
        return bool(adapter.validate_python(text))
    except ValidationError:
        return False


def in_the_source() -> Iterator[Expression]:
    """Yield the expressions of all modules: compiled ones, those of Pydantic, and others."""
    source = "".join(MODULES.values())
    for name, text in MODULES.items():
        module = vars(importlib.import_module(name.removesuffix(".__init__")))
        for variable, value in module.items():
            place = f"{name}.{variable}"
            if isinstance(value, re.Pattern):
                used = {*re.findall(rf"\b{variable}\.(\w+)\(", source)} & METHODS
                for method in sorted(used or {"search"}):
                    yield Expression(place, value.pattern, value.flags, method)
            for constraint in get_args(value):
                if isinstance(constraint, StringConstraints) and constraint.pattern:
                    yield Expression(place, constraint.pattern, 0, "pydantic")
        for call in ast.walk(ast.parse(text)):
            if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("re."):
                method = ast.unparse(call.func).removeprefix("re.")
                if method in METHODS:
                    pattern = eval(ast.unparse(call.args[0]), dict(module))  # noqa: S307
                    yield Expression(f"{name}:{call.lineno}", pattern, 0, method)
    for address in ("+4917", "José"):  # this one is made of what an operator asks for
        yield Expression("address_pattern", address_pattern(address).pattern, 0, "search")


# A part of an expression, as the parser gives it: an operation, and its argument.
Part = tuple[Any, Any]


def parts_of(expression: Expression) -> list[str]:
    """Return texts that match a part of it, or just fail to."""
    found: dict[str, None] = {}
    for sequence in _sequences(list(parser.parse(expression.pattern, expression.flags))):
        for length in range(len(sequence), 0, -1):
            for text in _matching(sequence[:length]):
                found |= dict.fromkeys([text, text[:-1]])
        for start in range(1, len(sequence)):
            for text in _matching(sequence[start:]):
                found |= dict.fromkeys([text[:-1], text])
    found.pop("", None)
    return list(islice(found, MAX_PARTS))


def _sequences(sequence: list[Part]) -> Iterator[list[Part]]:
    """Yield it, and all sequences within it: alternatives, groups, what is repeated."""
    yield sequence
    for _, argument in sequence:
        for inner in _inner(argument):
            yield from _sequences(inner)


def _repeats(sequence: list[Part]) -> bool:
    """Return whether it repeats anything without end."""
    return any(
        (str(operation).endswith("REPEAT") and argument[1] is parser.MAXREPEAT)
        or any(map(_repeats, _inner(argument)))
        for operation, argument in sequence
    )


def _inner(argument: Any) -> Iterator[list[Part]]:
    if isinstance(argument, parser.SubPattern):
        yield list(argument)
    elif isinstance(argument, list | tuple):
        for each in argument:
            yield from _inner(each)


def _matching(sequence: list[Part]) -> list[str]:
    """Return one or two texts that match the sequence."""
    choices = [_texts(str(operation), argument)[:3] for operation, argument in sequence]
    return ["".join(text) for text in (*islice(product(*choices), 2), [c[-1] for c in choices])]


def _texts(operation: str, argument: Any) -> list[str]:
    """Return texts that match one part; those that match no characters are not worth it."""
    if operation == "LITERAL":
        return [chr(argument)]
    if operation in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, _, body = argument
        return [text * max(1, least) for text in _matching(list(body))]
    if operation == "BRANCH":
        return [text for branch in argument[1] for text in _matching(list(branch))[:1]]
    if operation in ("SUBPATTERN", "ATOMIC_GROUP"):
        return _matching(list(argument[-1] if operation == "SUBPATTERN" else argument))
    if operation in ("IN", "NOT_LITERAL", "ANY", "CATEGORY"):
        return [_member(operation, argument)]
    return [""]  # an assertion, an anchor, a group again


def _member(operation: str, argument: Any) -> str:
    """Return a character of a class, a plain one if possible."""
    pattern = parser.SubPattern(parser.State(), [(getattr(parser, operation), argument)])
    one = importlib.import_module("re._compiler").compile(pattern)
    return next(char for char in chain("a0 -.:&=?/", map(chr, range(256))) if one.fullmatch(char))


def attacks(parts: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the sequences of parts, each of which is repeated."""
    yield from product(parts, repeat=1)
    yield from product(parts, repeat=2)
    yield from product([*parts[:MAX_IN_THREES], "&", "a"], repeat=3)


def cost(apply: Callable[[Any], object], text: Any, rounds: int) -> int:
    """Return the CPU time in nanoseconds, the least of some rounds."""
    times = []
    for _ in range(rounds):
        before = time.thread_time_ns()
        apply(text)
        times.append(time.thread_time_ns() - before)
    return min(times)


def _text(expression: Expression, attack: Sequence[str], repeats: int) -> Any:
    text = "".join(part * repeats for part in attack) + "\0"
    return text.encode("latin-1") if isinstance(expression.pattern, bytes) else text


# Nanoseconds for each character, of an expression that looks at each once.
LOOK = cost(re.compile("(?:a|b)*").fullmatch, "ab" * 5000, 20) / 10_000


def fault(expression: Expression) -> str | None:
    """Return which text makes the expression slow."""
    if not _repeats(list(parser.parse(expression.pattern, expression.flags))):
        return None
    apply = expression.apply()
    for attack in attacks(parts_of(expression)):
        repeats = LONG // sum(map(len, attack))
        for count in (*SHORT, *(repeats * 2**power for power in range(10))):
            text = _text(expression, attack, count)
            spent = cost(apply, text, 1)
            if _is_slow(spent, text) and _is_slow(cost(apply, text, 5), text):
                return f"{attack}, each {count} times: {spent} ns for {len(text)} characters"
            if len(text) > LONGEST or (count >= repeats and spent < FEW_LOOKS * LOOK * len(text)):
                break
    return None


def _is_slow(spent_ns: int, text: Any) -> bool:
    return spent_ns > MAX_LOOKS * LOOK * len(text) + ALWAYS_NS


EXPRESSIONS = {(each.pattern, each.method): each for each in in_the_source()}.values()


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=str)
def test_an_expression_of_the_source_is_linear(expression: Expression) -> None:
    assert fault(expression) is None


def test_no_other_expression_is_compiled_within_a_function() -> None:
    within = {name for name, text in MODULES.items() if re.search(r"\n +.*re\.compile\(", text)}

    # The second is of names in the operator's own folder.
    assert within == {"webhook_api.store.dead_letters", "webhook_api.maintenance.backup"}


def test_the_converters_of_routes_are_linear(tmp_path: Path) -> None:
    app = an_app(a_config(tmp_path))
    regexes = {
        converter.regex
        for rule in app.url_map.iter_rules()
        for converter in rule._converters.values()
    }

    assert regexes
    for regex in regexes:
        assert fault(Expression("a route", regex, 0, "fullmatch")) is None
