"""The oracle on pySigma: parses rules to syntax trees and evaluates these over JSON events.

    pysigma_oracle.py generate RULES OUT          events that come near what the rules ask for
    pysigma_oracle.py evaluate RULES OUT EVENTS…  which rules match which events
    pysigma_oracle.py judge RULES OUT DISPUTES    for each disputed rule and event: does it match?
    pysigma_oracle.py made-up COUNT OUT           rules made up at random, with events and answers
    pysigma_oracle.py vectors VECTORS OUT         rule, event, expected answer: who disagrees

RULES is the folder with SigmaHQ's rules. OUT gets one JSON document a line: `evaluate` writes
the refused rules with their reasons first, then for each event the list of the rules that match it.
"""

import json
import sys
import time
from pathlib import Path

from made_up_rules import made_up_rules
from near_events import near_events
from semantics import EventView, Refused, compile_rule
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule

CORE = [
    "rules",
    "rules-compliance",
    "rules-dfir",
    "rules-emerging-threats",
    "rules-placeholder",
    "rules-threat-hunting",
]


def core_files(root):
    """Name and text of every core rule, sorted by name."""
    paths = [p for folder in CORE for p in (Path(root) / folder).rglob("*.yml")]
    named = sorted((p.relative_to(root).as_posix(), p) for p in paths)
    return [(name, path.read_text(encoding="utf-8")) for name, path in named]


def load(root):
    """The rules that can be evaluated, with their tests, and the others with the reason."""
    rules, refused = [], {}
    for name, text in core_files(root):
        try:
            rule = SigmaRule.from_yaml(text)
            rules.append((name, rule, compile_rule(rule)))
        except (SigmaError, Refused) as e:
            refused[name] = f"{type(e).__name__}: {e}"
    progress(f"{len(rules)} rules, {len(refused)} refused")
    return rules, refused


def progress(what):
    print(f"pysigma: {what}", file=sys.stderr, flush=True)


def generate(root, out):
    rules, _ = load(root)
    count = 0
    with open(out, "w", encoding="utf-8") as sink:
        for event in near_events(rules):
            sink.write(json.dumps(event, ensure_ascii=False) + "\n")
            count += 1
    progress(f"{count} events generated")


def evaluate(root, out, *event_files):
    rules, refused = load(root)
    start, count = time.monotonic(), 0
    with open(out, "w", encoding="utf-8") as sink:
        sink.write(json.dumps({"refused": refused}) + "\n")
        for path in event_files:
            for line in open(path, encoding="utf-8"):
                view = EventView(json.loads(line))
                hits = [name for name, _, matches in rules if matches(view)]
                sink.write(json.dumps({"hits": hits}) + "\n")
                count += 1
                if count % 500 == 0:
                    rate = count / (time.monotonic() - start)
                    progress(f"{count} events, {rate:.0f} a second")


def judge(root, out, disputes):
    """One line for each dispute: true, false, or null for a rule that is refused."""
    tests = {name: matches for name, _, matches in load(root)[0]}
    with open(out, "w", encoding="utf-8") as sink:
        for line in open(disputes, encoding="utf-8"):
            dispute = json.loads(line)
            matches = tests.get(dispute["rule"])
            view = EventView(json.loads(dispute["event"]))
            sink.write(json.dumps(matches(view) if matches else None) + "\n")


def made_up(count, out):
    with open(out, "w", encoding="utf-8") as sink:
        for case in made_up_rules(int(count)):
            sink.write(json.dumps(case) + "\n")


def vectors(path, out):
    """A vector without an answer is one that the specification leaves open; so is it here."""
    with open(path, encoding="utf-8") as source, open(out, "w", encoding="utf-8") as sink:
        for vector in json.load(source):
            try:
                rule = SigmaRule.from_yaml(vector["rule"])
                got = compile_rule(rule)(EventView(vector["event"]))
            except (SigmaError, Refused) as e:
                got = f"refused: {type(e).__name__}: {e}"
            answer = {"name": vector["name"], "expect": vector["expect"], "got": got}
            sink.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    commands = {
        "generate": generate,
        "evaluate": evaluate,
        "judge": judge,
        "made-up": made_up,
        "vectors": vectors,
    }
    if len(sys.argv) < 4 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
