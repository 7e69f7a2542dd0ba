"""What a pySigma syntax tree means for a JSON event.

pySigma parses rules and leaves their meaning to back ends. This is a plain one, written from the
Sigma specification and not from Watchfire's code, so that the two can be held against each other.
Where the specification is silent, a comment that begins with "Silent:" names the choice made here.
"""

import re
from datetime import datetime, timezone
from fractions import Fraction
from ipaddress import ip_address

import re2
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.types import (
    CompareOperators,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SigmaTimestampPart,
    SpecialChars,
    TimestampPart,
)


class Refused(Exception):
    """The rule cannot be evaluated, as the specification wants it or because this file cannot."""


class EventView:
    """An event and what has been read out of it, so that a thousand rules do not read it again."""

    def __init__(self, event):
        self.event = event
        self.found = {}
        self.folded = {}
        self.all_texts = None
        self.folded_everywhere = None

    def field(self, name):
        """Whether the field is there, and its values with lists flattened."""
        if name not in self.found:
            values = []
            self.found[name] = (descend(self.event, name, values), values)
        return self.found[name]

    def texts(self, name):
        return [text(v) for v in self.field(name)[1] if text(v) is not None]

    def lower_texts(self, name):
        texts = self.folded.get(name)
        if texts is None:
            texts = self.folded[name] = [t.lower() for t in self.texts(name)]
        return texts

    def everywhere(self):
        if self.all_texts is None:
            self.all_texts = [text(v) for v in scalars(self.event) if text(v) is not None]
        return self.all_texts

    def lower_everywhere(self):
        if self.folded_everywhere is None:
            self.folded_everywhere = [t.lower() for t in self.everywhere()]
        return self.folded_everywhere


def descend(node, name, values):
    """Collects the values at a dotted name. A key written with the dots goes before nesting.

    Silent: the specification knows names, not paths. Lists on the way and at the end fan out.
    """
    if isinstance(node, list):
        return any([descend(item, name, values) for item in node])
    if not isinstance(node, dict):
        return False
    if name in node:
        flatten(node[name], values)
        return True
    head, dot, rest = name.partition(".")
    return bool(dot) and head in node and descend(node[head], rest, values)


def flatten(node, values):
    if isinstance(node, list):
        for item in node:
            flatten(item, values)
    else:
        values.append(node)


def scalars(node):
    """Every value that is no container; keys are not values."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from scalars(item)
    else:
        yield node


def text(value):
    """The text that string values are compared with; None when there is none.

    Silent: numbers and booleans of an event have the text that JSON gives them.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return None


def compile_rule(rule):
    """A function of an EventView: whether the rule matches. Several conditions are OR-ed."""
    return any_of([compile_node(c.parse()) for c in rule.detection.parsed_condition])


def compile_node(node):
    if is_value_list(node):
        # Read the field once for all values: most events do not have it.
        field = node.args[0].field.replace(" ", "")
        tests = [string_test(arg.value)[0] for arg in node.args]
        return some(lambda view: view.lower_texts(field), any_of(tests))
    if isinstance(node, (ConditionAND, ConditionOR)):
        parts = [compile_node(arg) for arg in node.args]
        return all_of(parts) if isinstance(node, ConditionAND) else any_of(parts)
    if isinstance(node, ConditionNOT):
        part = compile_node(node.args[0])
        return lambda view: not part(view)
    if isinstance(node, ConditionFieldEqualsValueExpression):
        # Field Usage: spaces are no part of a field's name.
        return compile_item(node.field.replace(" ", ""), node.value)
    if isinstance(node, ConditionValueExpression):
        return compile_keyword(node.value)
    raise Refused(f"unknown node {type(node).__name__}")


def is_value_list(node):
    """Whether this is a list of plain strings for one field: most of what rules are made of."""
    return isinstance(node, ConditionOR) and all(
        isinstance(arg, ConditionFieldEqualsValueExpression)
        and type(arg.value) is SigmaString
        and arg.field == node.args[0].field
        for arg in node.args
    )


def all_of(parts):
    def test(view):
        for part in parts:
            if not part(view):
                return False
        return True

    return test


def any_of(parts):
    def test(view):
        for part in parts:
            if part(view):
                return True
        return False

    return test


def some(get, test):
    """A test of an event: does one of the values that `get` reads from it pass?"""

    def holds(view):
        for value in get(view):
            if test(value):
                return True
        return False

    return holds


def compile_item(field, value):
    """A value of a rule against the values of one field."""
    if isinstance(value, SigmaExpansion):
        return any_of([compile_item(field, v) for v in value.values])
    if isinstance(value, SigmaNull):
        return lambda view: not view.field(field)[0] or None in view.field(field)[1]
    if isinstance(value, SigmaExists):
        return lambda view: view.field(field)[0] == value.exists
    if isinstance(value, SigmaFieldReference):
        return compile_reference(field, value)
    if isinstance(value, SigmaString):
        test, cased = string_test(value)
        if cased:
            return some(lambda view: view.texts(field), test)
        return some(lambda view: view.lower_texts(field), test)
    return some(lambda view: view.field(field)[1], scalar_test(value))


def compile_keyword(value):
    """A value anywhere in the event: keywords are searched inside values (Keywords)."""
    if isinstance(value, SigmaExpansion):
        return any_of([compile_keyword(v) for v in value.values])
    if isinstance(value, SigmaRegularExpression):
        return some(EventView.everywhere, scalar_test(value))
    if isinstance(value, SigmaNumber):
        digits = str(value.number)
        return some(EventView.lower_everywhere, lambda t: digits in t)
    if isinstance(value, SigmaString):
        test, cased = string_test(anywhere(value))
        return some(EventView.everywhere if cased else EventView.lower_everywhere, test)
    raise Refused(f"{type(value).__name__} as a keyword")


def anywhere(value):
    wild = SpecialChars.WILDCARD_MULTI
    parts = list(value.s)
    parts = parts if parts[:1] == [wild] else [wild] + parts
    widened = type(value)()
    widened.s = parts if parts[-1] == wild else parts + [wild]
    return widened


def string_test(value):
    """A test of one text, and whether it wants the text as it is or in lower case."""
    cased = isinstance(value, SigmaCasedString)
    parts = []
    for part in value.s:
        if isinstance(part, str):
            parts.append(part if cased else part.lower())
        elif isinstance(part, SpecialChars):
            parts.append(part)
        else:
            raise Refused(f"placeholder %{part.name}% without values")
    return glob_test(parts), cased


def glob_test(parts):
    wild = SpecialChars.WILDCARD_MULTI
    literal = "".join(p for p in parts if isinstance(p, str))
    shape = ["text" if isinstance(p, str) else p for p in parts]
    if shape in ([], ["text"]):
        return lambda t: t == literal
    if shape == [wild, "text", wild]:
        return lambda t: literal in t
    if shape == [wild, "text"]:
        return lambda t: t.endswith(literal)
    if shape == ["text", wild]:
        return lambda t: t.startswith(literal)
    written = {wild: ".*", SpecialChars.WILDCARD_SINGLE: "."}
    pattern = "".join(re.escape(p) if isinstance(p, str) else written[p] for p in parts)
    matches = re.compile(pattern, re.DOTALL).fullmatch
    return lambda t: matches(t) is not None


def scalar_test(value):
    """A test of one value of an event, for what is no string."""
    if isinstance(value, SigmaRegularExpression):
        found = regex(value).search
        return lambda v: text(v) is not None and found(text(v)) is not None
    if isinstance(value, SigmaCIDRExpression):
        return lambda v: isinstance(v, str) and in_network(v, value.network)
    if isinstance(value, SigmaCompareExpression):
        return lambda v: compares(number(v), value.op, exact(value.number.number))
    if isinstance(value, SigmaTimestampPart):
        return lambda v: time_part(v, value.timestamp_part) == value.number
    if isinstance(value, SigmaNumber):
        return lambda v: equals_number(v, value.number)
    if isinstance(value, SigmaBool):
        return lambda v: text(v) is not None and text(v).lower() == str(value.boolean).lower()
    raise Refused(f"unknown value {type(value).__name__}")


def regex(value):
    """RE2, with which pySigma checks expressions, since it is what pySigma 2 allows by default."""
    letters = {
        SigmaRegularExpressionFlag.IGNORECASE: "i",
        SigmaRegularExpressionFlag.MULTILINE: "m",
        SigmaRegularExpressionFlag.DOTALL: "s",
    }
    flags = "".join(letters[flag] for flag in value.flags)
    return re2.compile((f"(?{flags})" if flags else "") + str(value.regexp))


def in_network(value, network):
    try:
        return ip_address(value) in network
    except ValueError:
        return False


NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?\s*", re.ASCII)


def number(value):
    """The number that an event's value is or spells."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return exact(value)
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return Fraction(value.strip())
    return None


def exact(value):
    return Fraction(value)


def compares(left, op, right):
    if left is None:
        return False
    return {
        CompareOperators.LT: left < right,
        CompareOperators.LTE: left <= right,
        CompareOperators.GT: left > right,
        CompareOperators.GTE: left >= right,
        CompareOperators.NEQ: left != right,
    }[op]


def equals_number(value, wanted):
    """Silent: a number equals a text that is its decimal form, and no other spelling of it."""
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        return value == str(wanted)
    return isinstance(value, (int, float)) and value == wanted


def compile_reference(field, value):
    """Silent: the two texts are compared without regard to case, as strings are."""
    other = value.field.replace(" ", "")

    def relates(left, right):
        if value.starts_with and value.ends_with:
            return right in left
        if value.starts_with:
            return left.startswith(right)
        if value.ends_with:
            return left.endswith(right)
        return left == right

    return lambda view: any(
        relates(a, b) for a in view.lower_texts(field) for b in view.lower_texts(other)
    )


def time_part(value, part):
    """Silent: a time with an offset is taken to UTC."""
    try:
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            time = time.replace(tzinfo=time.tzinfo or timezone.utc).astimezone(timezone.utc)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            time = datetime.fromtimestamp(value, timezone.utc)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return {
        TimestampPart.MINUTE: time.minute,
        TimestampPart.HOUR: time.hour,
        TimestampPart.DAY: time.day,
        TimestampPart.WEEK: time.isocalendar().week,
        TimestampPart.MONTH: time.month,
        TimestampPart.YEAR: time.year,
    }[part]
