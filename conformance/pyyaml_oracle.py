"""Writes what PyYAML makes of every core rule, in a form in which no type looks like another.

    pyyaml_oracle.py RULES OUT

A scalar is [type, text], a list ["list", …], a mapping ["map", [key, value], …]. Two things are
made alike on purpose, and counted: PyYAML turns a plain 2024-01-01 into a date, which has no
counterpart in JSON and is text to Watchfire, so it is written as ISO text here; and keys are taken
as written.
"""

import datetime
import json
import struct
import sys
from collections import Counter

import yaml
from pysigma_oracle import core_files

ALIKE = Counter()


class KeysAsWritten(yaml.SafeLoader):
    """PyYAML's safe loader, but for keys, which stay text: a key `on` is a name, not a boolean."""


def mapping(loader, node):
    loader.flatten_mapping(node)
    members = []
    for key, value in node.value:
        resolved = loader.construct_object(key, deep=True)
        if not isinstance(resolved, str):
            ALIKE["keys that are no text"] += 1
        members.append([key.value, canonical(loader.construct_object(value, deep=True))])
    return ["map", *members]


def sequence(loader, node):
    return ["list", *(canonical(loader.construct_object(n, deep=True)) for n in node.value)]


KeysAsWritten.add_constructor("tag:yaml.org,2002:map", mapping)
KeysAsWritten.add_constructor("tag:yaml.org,2002:seq", sequence)


def canonical(value):
    if isinstance(value, list):
        return value
    if value is None:
        return ["null", ""]
    if isinstance(value, bool):
        return ["bool", "true" if value else "false"]
    if isinstance(value, int):
        return ["int", str(value)]
    if isinstance(value, float):
        return ["float", struct.pack(">d", value).hex()]
    if isinstance(value, (datetime.date, datetime.datetime)):
        ALIKE["dates"] += 1
        return ["str", value.isoformat()]
    return ["str", value]


def main(root, out):
    with open(out, "w", encoding="utf-8") as sink:
        for name, text in core_files(root):
            documents = [canonical(d) for d in yaml.load_all(text, KeysAsWritten)]
            sink.write(json.dumps({"file": name, "documents": documents}) + "\n")
    alike = ", ".join(f"{count} {what}" for what, count in sorted(ALIKE.items()))
    print(f"pyyaml: made alike: {alike or 'nothing'}", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
