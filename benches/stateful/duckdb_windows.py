"""The same two questions to DuckDB, on one thread: which users, which addresses. Prints them as JSON."""
import json
import sys

import duckdb

db = duckdb.connect()
db.execute("SET threads = 1")
FIELDS = {name: "VARCHAR" for name in ("timestamp", "service", "user", "src_ip", "outcome")}
db.execute(
    f"""CREATE TABLE failed AS
    SELECT "user", src_ip, epoch_ms(CAST("timestamp" AS TIMESTAMP)) AS ms
    FROM read_json(?, format = 'newline_delimited', columns = {FIELDS})
    WHERE outcome = 'failure' AND service = 'sshd'""",
    [sys.argv[1]],
)
WINDOW = "ORDER BY ms RANGE BETWEEN 300000 PRECEDING AND CURRENT ROW"
for group, measure, least in (('"user"', "*", 10), ("src_ip", 'DISTINCT "user"', 20)):
    counted = f"SELECT {group} AS who, count({measure}) OVER (PARTITION BY {group} {WINDOW}) AS n FROM failed"
    for (who,) in db.execute(f"SELECT DISTINCT who FROM ({counted}) WHERE n >= {least}").fetchall():
        print(json.dumps(who))
