"""Events near what rules ask for: one that should match each rule, and one a step beside it.

Real logs exercise few rules. Here every rule gets an event made from its own syntax tree, with one
branch of every choice taken at random from a fixed seed, and the same event with one field changed.
"""

import copy
import random
import re

from semantics import EventView
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
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SpecialChars,
)

SEED = 20240101
TRIES = 20
LOGSOURCE = ("product", "category", "service")
FILLERS = ["", "x", " ", "é", "\n", "C:\\", "a b", "ÄÖ", "-", "\\", "日本", "0"]


class Wanted:
    """What one field has to hold: a whole value, or the pieces of a text."""

    def __init__(self):
        self.whole = []
        self.starts, self.middles, self.ends = [], [], []

    def add(self, parts, rng):
        wild = SpecialChars.WILDCARD_MULTI
        parts = list(parts)
        open_start, open_end = parts[:1] == [wild], parts[-1:] == [wild]
        text = "".join(
            (
                p
                if isinstance(p, str)
                else "q" if p == SpecialChars.WILDCARD_SINGLE else rng.choice(FILLERS)
            )
            for p in parts[open_start : len(parts) - open_end]
        )
        if open_start and open_end:
            self.middles.append(text)
        elif open_start:
            self.ends.append(text)
        elif open_end:
            self.starts.append(text)
        else:
            self.whole.append(text)

    def value(self, rng):
        if self.whole:
            return self.whole[0]
        between = rng.choice([" ", "", "é", "\\"])
        return between.join(self.starts[:1] + self.middles + self.ends[:1])


def near_events(rules):
    """Two events for every rule."""
    rng = random.Random(SEED)
    for _, rule, matches in rules:
        for _ in range(TRIES):
            event = attempt(rule, rng)
            if matches(EventView(event)):
                break
        yield event
        yield beside(event, rng)


def attempt(rule, rng):
    """An event that matches, unless one branch that was taken stands against another."""
    wanted = {}
    condition = rng.choice(rule.detection.parsed_condition).parse()
    satisfy(condition, True, wanted, rng)
    event = {field: w.value(rng) for field, w in wanted.items()}
    for part in LOGSOURCE:
        if getattr(rule.logsource, part) and rng.random() < 0.9:
            event.setdefault(part, getattr(rule.logsource, part))
    return nest(event) if rng.random() < 0.5 else event


def satisfy(node, want, wanted, rng):
    """Notes what makes the node true (or false): for "false" it is enough to say nothing."""
    if isinstance(node, ConditionNOT):
        satisfy(node.args[0], not want, wanted, rng)
    elif isinstance(node, ConditionAND) == want and isinstance(node, (ConditionAND, ConditionOR)):
        for arg in node.args:
            satisfy(arg, want, wanted, rng)
    elif isinstance(node, (ConditionAND, ConditionOR)):
        satisfy(rng.choice(node.args), want, wanted, rng)
    elif isinstance(node, ConditionFieldEqualsValueExpression):
        field = node.field.replace(" ", "")
        if want:
            note(wanted.setdefault(field, Wanted()), node.value, rng)
        elif isinstance(node.value, SigmaNull):
            wanted.setdefault(field, Wanted()).middles.append("filled")
    elif isinstance(node, ConditionValueExpression) and want:
        # Of several keywords each gets a field of its own.
        keyword = Wanted()
        note(keyword, node.value, rng)
        wanted[f"keyword{len(wanted)}"] = keyword


def note(wanted, value, rng):
    if isinstance(value, SigmaExpansion):
        note(wanted, rng.choice(value.values), rng)
    elif isinstance(value, SigmaString):
        parts = [p if isinstance(p, (str, SpecialChars)) else p.name for p in value.s]
        wanted.add(parts, rng)
    elif isinstance(value, SigmaRegularExpression):
        wanted.middles.append(sample(str(value.regexp), rng))
    elif isinstance(value, SigmaNumber):
        wanted.whole.append(rng.choice([value.number, value.number, str(value.number)]))
    elif isinstance(value, SigmaBool):
        wanted.whole.append(rng.choice([value.boolean, str(value.boolean)]))
    elif isinstance(value, SigmaCompareExpression):
        beyond = value.op in (CompareOperators.GT, CompareOperators.GTE)
        number = value.number.number
        wanted.whole.append(rng.choice([number, number + (1 if beyond else -1)]))
    elif isinstance(value, SigmaCIDRExpression):
        network = value.network
        wanted.whole.append(str(network[rng.randrange(min(network.num_addresses, 1000))]))
    elif isinstance(value, SigmaNull):
        wanted.whole.append(None)
    elif isinstance(value, SigmaExists):
        wanted.whole.append("here")
    elif isinstance(value, SigmaFieldReference):
        wanted.whole.append("same")


def sample(pattern, rng):
    """A text that the expression is likely to match; what it cannot follow, it leaves out."""
    import sre_parse as parser
    import warnings

    def walk(tree):
        return "".join(one(op, arg) for op, arg in tree)

    def member(items):
        op, arg = items[0] if str(items[0][0]) != "NEGATE" else (None, items)
        if op is None:
            taken = re.compile(
                "[^"
                + "".join(re.escape(chr(a)) for o, a in arg[1:] if str(o) == "LITERAL")
                + "\x00]"
            )
            return next((c for c in "k7 /-\\" if taken.match(c)), "k")
        op, arg = rng.choice(items)
        return one(op, arg)

    def one(op, arg):
        name = str(op)
        if name == "LITERAL":
            return chr(arg)
        if name == "NOT_LITERAL":
            return "k" if chr(arg) != "k" else "j"
        if name == "ANY":
            return "z"
        if name == "IN":
            return member(arg)
        if name == "RANGE":
            return chr(rng.randint(arg[0], arg[1]))
        if name == "CATEGORY":
            category = str(arg)
            return (
                "5"
                if category.endswith("_DIGIT") and "NOT" not in category
                else (
                    " "
                    if category.endswith("_SPACE") and "NOT" not in category
                    else "-" if category.endswith("NOT_WORD") else "w"
                )
            )
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, tree = arg
            return "".join(walk(tree) for _ in range(rng.randint(low, min(high, low + 2))))
        if name == "SUBPATTERN":
            return walk(arg[3])
        if name == "BRANCH":
            return walk(rng.choice(arg[1]))
        return ""

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return walk(parser.parse(pattern))
    except re.error:
        return pattern


def nest(event):
    """Names with dots become objects in objects, where nothing is in the way."""
    nested = {}
    for name, value in event.items():
        *path, last = name.split(".")
        place = nested
        for step in path:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                return event
        if last in place:
            return event
        place[last] = value
    return nested


def beside(event, rng):
    """The event with one field changed; not what routes it, else no rule would see the rest."""
    event = copy.deepcopy(event)
    names = [name for name in event if name not in LOGSOURCE]
    if not names:
        return event
    name = rng.choice(names)
    value = event[name]
    changes = [
        lambda: None,
        lambda: "",
        lambda: [value, "other"],
        lambda: ["other", [value]],
        lambda: {"value": value},
    ]
    if isinstance(value, str) and value:
        at = rng.randrange(len(value))
        changes += [
            lambda: value[:at] + value[at + 1 :],
            lambda: value[:at] + rng.choice("x*?\\-/ é") + value[at:],
            lambda: value.swapcase(),
            lambda: value + rng.choice([" ", "\n", "x", "\\"]),
            lambda: rng.choice([" ", "\n", "x", "-"]) + value,
            lambda: value.replace("-", "/"),
            lambda: value.replace("-", "\u2013"),
            lambda: value.replace("/", "-"),
            lambda: value.replace(" ", "  "),
            lambda: value.replace("\\", "/"),
        ]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        changes += [
            lambda: value + 1,
            lambda: -value,
            lambda: value + 0.5,
            lambda: f" {value}",
            lambda: f"0{value}",
            lambda: bool(value),
        ]
    changed = rng.choice(changes + [None])
    if changed is None:
        del event[name]
    else:
        event[name] = changed()
    return event
