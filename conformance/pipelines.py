"""Prints what pySigma makes of the cases in src/rule/processing/cases.yml, and where it differs.

    pip install pySigma==2.0.1 && python conformance/pipelines.py
"""

import pathlib
import sys

import yaml
from sigma.conditions import ConditionAND
from sigma.exceptions import SigmaError
from sigma.processing.pipeline import ProcessingPipeline
from sigma.rule import SigmaDetection, SigmaRule
from sigma.types import SigmaBool, SigmaFieldReference, SigmaNull, SigmaNumber, SigmaString

CASES = pathlib.Path(__file__).parent.parent / "src/rule/processing/cases.yml"

HEAD = {
    "title": "case",
    "logsource": {"product": "windows", "category": "process_creation"},
    "tags": ["attack.t1059"],
    "level": "high",
    "date": "2023-05-17",
    "custom": "4",
}


def value(v):
    if isinstance(v, SigmaString):
        return f"'{v.to_plain()}'"
    if isinstance(v, SigmaNull):
        return "null"
    if isinstance(v, SigmaFieldReference):
        return f"ref({v.field})"
    return str(v) if isinstance(v, (SigmaNumber, SigmaBool)) else "regex"


def shown(part, top=True):
    if isinstance(part, SigmaDetection):
        parts = [s for s in (shown(p, False) for p in part.detection_items) if s]
        joined = (" & " if part.item_linking is ConditionAND else " | ").join(parts)
        return joined if top or len(parts) < 2 else f"({joined})"
    values = ("+" if part.value_linking is ConditionAND else ",").join(map(value, part.value))
    return f"{'not ' if part.negated else ''}{part.field or 'keyword'}={values}"


def run(case):
    selections = {**case["rule"], "condition": "1 of them"}
    rule = SigmaRule.from_dict({**HEAD, "detection": selections})
    try:
        ProcessingPipeline.from_yaml(case["pipeline"]).apply(rule)
    except SigmaError:
        return "refused"
    return " ; ".join(filter(None, map(shown, rule.detection.detections.values())))


def main():
    differing = 0
    for case in yaml.safe_load(CASES.read_text()):
        said = run(case)
        if said != case["expect"] and "differs" not in case:
            differing += 1
            print(f"{case['name']}:\n  pySigma {said}\n  expect  {case['expect']}")
    print(f"{differing} differ")
    return differing > 0


sys.exit(main())
