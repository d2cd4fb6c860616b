"""The table of faults that `make faults` prints, and the page docs/reliability.md that keeps it."""
import datetime
import os
import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent/"docs"/"reliability.md"
BEGIN, END = "<!-- begin: written by `make faults` -->", "<!-- end -->"

def table(reports,  # of pytest, one per test
         ):
    "Faults tried, survived and lost, as Markdown; empty if no test tried any"
    faults, cases = Counter(), Counter()
    for report in reports:
        name = report.nodeid.split("::")[-1].split("[")[0].removeprefix("test_").replace("_", " ")
        for kind, value in getattr(report, "user_properties", ()):
            if kind == "fault": faults[value[0]] += value[1]
            if kind == "cases": cases[name] += value
    broken = [report.nodeid.split("::")[-1] for report in reports if report.failed]
    if not faults and not cases: return ""
    survived = [f"| {fault} | {count} | {count} | 0 |" for fault, count in faults.items()]
    lost = [f"| {name} | 1 | 0 | 1 |" for name in broken]
    properties = [f"| {name} | {count:,} |" for name, count in cases.items()]
    return "\n".join(["| fault | tried | survived | lost |", "| --- | ---: | ---: | ---: |",
                      *survived, *lost, "",
                      "| property, for any input | cases generated |", "| --- | ---: |",
                      *properties, f"| all together | {sum(cases.values()):,} |"])

def write(found,  # from `table`
         ):
    "Put the table into the page, between its marks"
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    where = (f"Run on {datetime.date.today():%d %B %Y}: {os.cpu_count()} cores, "
             f"{platform.system()}, Python {platform.python_version()}, torch {version('torch')}.")
    PAGE.write_text(f"{before}{BEGIN}\n{where}\n\n{found}\n{END}{after}", encoding="utf-8")
