"Draws the picture that other sites show beside a link to ours, with the verdicts that README.md prints: python docs/card.py writes docs/static/card.png"
import re
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

BLUE, ORANGE, INK = "#0173b2", "#b85000", "#1b1f24"

def verdict(ax, y, sentence, word, star, share, color):
    "A sentence, the bar of its probability, and the verdict"
    ax.text(.06, y, f"{star}{sentence}", fontsize=25, color=INK, family="DejaVu Serif", style="italic")
    ax.barh(y - .075, .6, .035, left=.06, color="#e6e9ee")
    ax.barh(y - .075, .6 * share, .035, left=.06, color=color)
    ax.text(.685, y - .087, word, fontsize=19, color=color, weight="bold")

fig = plt.figure(figsize=(12, 6.3), dpi=100, facecolor="white")
ax = fig.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(0, 1))
ax.axis("off")
ax.barh(.5, .012, 1, color=BLUE, align="center")
ax.text(.06, .8, "cola_nbdev", fontsize=48, weight="bold", color=INK)
ax.text(.06, .71, "Fine-tune BERT to judge whether a sentence is acceptable,\nand trust the number it prints.", fontsize=21, color="#4a5360", va="top", linespacing=1.4)
shown = re.findall(r"^\d  (\S.*?\?) +(\w+) +([\d.]+) ", (Path(__file__).parent.parent/"README.md").read_text(encoding="utf-8"), re.MULTILINE)
for y, (sentence, word, probability) in zip((.43, .2), shown, strict=True):
    bad = word == "unacceptable"
    verdict(ax, y, sentence, word, "*" * bad, float(probability), ORANGE if bad else BLUE)
fig.savefig(Path(__file__).parent/"static/card.png", pil_kwargs={"optimize": True})
