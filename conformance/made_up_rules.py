"""Small rules made up at random, with events near them: for what the public rules do not use.

The public rules have no `exists`, no bounds on numbers to speak of, few networks. These rules have
every modifier, in every shape of selection and condition. Each comes with events and with what the
evaluator on pySigma's syntax trees says to them, or why pySigma refuses the rule.
"""

import json
import random

from near_events import attempt, beside
from semantics import EventView, Refused, compile_rule
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule

SEED = 20240102
EVENTS = 6
FIELDS = ["a", "b", "n.x", "n.y", "Two Words"]
PIECES = ["a", "B", "x", "1", "-", "/", " ", ".", "%", "é", "ß", "K", "日", "\n", "*", "?", "\\"]
REGEX_PIECES = [
    "a",
    "B",
    "b+",
    "[a-c]",
    "[^x]",
    "\\.",
    "\\d",
    "\\w",
    "\\s",
    ".",
    ".*",
    "(a|B)",
    "x?",
    "a{1,2}",
    "é",
    "^",
    "$",
    "\\b",
]
NETWORKS = [
    "10.0.0.0/8",
    "192.168.1.0/24",
    "10.1.2.3/32",
    "fc00::/7",
    "::1/128",
    "0.0.0.0/0",
    "fe80::/10",
]
ADDRESSES = [
    "10.1.2.3",
    "192.168.1.255",
    "192.168.2.1",
    "::1",
    "fc01::5",
    "10.1.2.3:80",
    "x",
    "010.1.2.3",
]
# No integer beyond 2^53: pySigma takes those through a float.
NUMBERS = [0, 1, -1, 5, 42, 2**40 + 1, 1.5, -0.5, 42.0]
STRING_MODIFIERS = [
    "",
    "",
    "contains",
    "startswith",
    "endswith",
    "contains|all",
    "all|contains",
    "startswith|all",
    "cased",
    "contains|cased",
    "endswith|cased",
    "startswith|cased",
    "neq",
    "contains|neq",
    "windash",
    "windash|contains",
    "contains|windash",
    "contains|all|windash",
    "startswith|windash",
    "base64",
    "base64|contains",
    "base64offset|contains",
    "wide|base64offset|contains",
    "wide|base64",
    "utf16be|base64offset|contains",
    "utf16|base64",
    "cased|contains|neq",
    "endswith|windash|cased",
]
REGEX_MODIFIERS = ["re", "re|i", "re|m", "re|s", "re|i|s", "re|i|m", "re|neq"]
NUMBER_MODIFIERS = ["", "lt", "lte", "gt", "gte", "neq"]
REFERENCE_MODIFIERS = [
    "fieldref",
    "fieldref|contains",
    "fieldref|startswith",
    "fieldref|endswith",
    "fieldref|neq",
]
# Values that a part can have: we refuse others, pySigma takes them.
PARTS = {
    "minute": range(0, 60),
    "hour": range(0, 24),
    "day": range(1, 32),
    "week": range(1, 54),
    "month": range(1, 13),
    "year": range(0, 10000),
}
PART_VALUES = [1, 2, 5, 7, 10, 12, 23, 29, 53, 59, 2024]
TIME_MODIFIERS = list(PARTS)
TIMES = [
    "2024-02-29T23:59:58Z",
    "2024-12-30T00:00:00+02:00",
    "2021-01-03 05:06:07",
    "x",
    1720614600,
]
CONDITIONS = [
    "s1",
    "not s1",
    "s1 and s2",
    "s1 or s2",
    "s1 and not s2",
    "not s1 or s2",
    "not (s1 and s2)",
    "1 of s*",
    "all of s*",
    "not 1 of s*",
    "not all of them",
    "any of them",
    "1 of *2",
    "not not s1",
    "s1 or s2 and not s1",
    "(s1 or s2) and not (s2 and s1)",
    "all of s* or 1 of s1*",
    ["s1", "not s2"],
]


def made_up_rules(count):
    """Rule text, event texts, and the answers, or the reason why the rule is refused."""
    rng = random.Random(SEED)
    for number in range(count):
        text = json.dumps(rule(number, rng), ensure_ascii=False)
        try:
            parsed = SigmaRule.from_yaml(text)
            matches = compile_rule(parsed)
        except (SigmaError, Refused) as e:
            yield {"rule": text, "refused": f"{type(e).__name__}: {e}"}
            continue
        events = list(events_near(parsed, rng))
        answers = [matches(EventView(event)) for event in events]
        texts = [json.dumps(event, ensure_ascii=False) for event in events]
        yield {"rule": text, "events": texts, "answers": answers}


def rule(number, rng):
    detection = {name: selection(rng) for name in ("s1", "s2")}
    detection["condition"] = rng.choice(CONDITIONS)
    return {"title": f"made up {number}", "logsource": {"category": "test"}, "detection": detection}


def selection(rng):
    shape = rng.randrange(10)
    if shape < 6:
        return dict(item(rng) for _ in range(rng.randint(1, 2)))
    if shape < 8:
        return [dict([item(rng)]) for _ in range(2)]
    if shape == 8:
        return [string(rng) for _ in range(rng.randint(1, 3))]
    modifiers = rng.choice(["all", "re", "re|i", "contains|all", "cased", "endswith"])
    one = expression if modifiers.startswith("re") else string
    return {f"|{modifiers}": [one(rng), one(rng)]}


def item(rng):
    kind = rng.randrange(20)
    if kind < 11:
        return key(rng, STRING_MODIFIERS, string)
    if kind < 13:
        return key(rng, REGEX_MODIFIERS, expression)
    if kind < 15:
        return key(rng, NUMBER_MODIFIERS, lambda r: r.choice(NUMBERS))
    if kind == 15:
        return key(rng, ["cidr", "cidr|neq"], lambda r: r.choice(NETWORKS))
    if kind == 16:
        return key(rng, REFERENCE_MODIFIERS, lambda r: r.choice(FIELDS))
    if kind == 17:
        part = rng.choice(TIME_MODIFIERS)
        return key(rng, [part], lambda r: r.choice([n for n in PART_VALUES if n in PARTS[part]]))
    if kind == 18:
        return f"{rng.choice(FIELDS)}|exists", rng.random() < 0.5
    return key(rng, ["", "neq"], lambda r: r.choice([None, True, False, "", "true", 1]))


def key(rng, modifiers, value):
    chosen = rng.choice(modifiers)
    if "utf16" in chosen or "wide" in chosen:
        # pySigma can encode nothing else; the vectors have the rest.
        value = ascii_string
    if "base64offset" in chosen:
        # Of a single byte one form is empty and found in everything: we refuse it.
        shorter = value
        value = lambda r: shorter(r) + "zz"  # noqa: E731
    name = rng.choice(FIELDS) + ("|" if chosen else "") + chosen
    if "all" in chosen.split("|"):
        return name, [value(rng) for _ in range(rng.randint(2, 3))]
    return name, (
        value(rng) if rng.random() < 0.6 else [value(rng) for _ in range(rng.randint(1, 3))]
    )


def string(rng):
    return "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 5)))


def ascii_string(rng):
    return "".join(c for c in string(rng) if c.isascii()) or "a"


def expression(rng):
    return "".join(rng.choice(REGEX_PIECES) for _ in range(rng.randint(1, 4)))


def events_near(parsed, rng):
    event = attempt(parsed, rng)
    for _ in range(EVENTS):
        yield event
        if rng.random() < 0.4:
            event = attempt(parsed, rng)
        event = beside(event, rng) if rng.random() < 0.7 else with_field(event, rng)


def with_field(event, rng):
    values = [
        string(rng),
        rng.choice(NUMBERS),
        rng.choice(ADDRESSES),
        rng.choice(TIMES),
        True,
        None,
    ]
    value = rng.choice(values)
    value = [value, rng.choice(values)] if rng.random() < 0.2 else value
    return {**event, rng.choice(FIELDS).replace(" ", ""): value}
