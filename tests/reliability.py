"""The table of faults that `make faults` prints, and the page docs/reliability.md that keeps it."""
import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent/"docs"/"reliability.md"
BEGIN, END = "<!-- begin: written by `make faults` -->", "<!-- end -->"

def table(reports, # Of pytest, one per test
         ):
    "Faults tried, survived and lost, as Markdown; empty if no test tried any"
    counts, cases, broken = {}, {}, []
    for report in reports:
        said = [value for name, value in getattr(report, 'user_properties', ()) if name == "fault"]
        for fault, count in said: counts[fault] = counts.get(fault, 0) + count
        made = sum(value for name, value in report.user_properties if name == "cases")
        if made:
            name = report.nodeid.split("::")[-1].split("[")[0].removeprefix("test_").replace("_", " ")
            cases[name] = cases.get(name, 0) + made
        if report.failed: broken.append(report.nodeid.split("::")[-1])
    if not counts and not cases: return ""
    lines = ["| fault | tried | survived | lost |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {fault} | {count} | {count} | 0 |" for fault, count in counts.items()]
    lines += [f"| {name} | 1 | 0 | 1 |" for name in broken]
    lines += ["", "| property, for any input | cases made up |", "| --- | ---: |", *(f"| {name} | {count:,} |" for name, count in cases.items()), f"| all together | {sum(cases.values()):,} |"]
    return "\n".join(lines)

def write(found, # From `table`
         ):
    "Put the table into the page, between its marks"
    text = PAGE.read_text(encoding="utf-8")
    where = f"Run on {datetime.date.today():%d %B %Y}: {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, torch {version('torch')}."
    PAGE.write_text(text[:text.index(BEGIN)] + f"{BEGIN}\n{where}\n\n{found}\n{END}" + text[text.index(END) + len(END):], encoding="utf-8")
