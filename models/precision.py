"""Which arithmetic to embed with on this machine: measured once, kept in a file.

Owns the rule (bfloat16 only where it is both faster here and true to float32), the texts it is measured on and the file of
results. Leaves compiling and running to `models.openvino_embedder`. Why measure: with AMX bfloat16 is 4× faster than float32,
on processors without it 10× slower, and the processor's name does not tell (virtual machines share names).
"""

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from docray.domain.ports import Vectors

logger = logging.getLogger(__name__)

Precision = Literal["auto", "f32", "bf16"]
ChosenPrecision = Literal["f32", "bf16"]
Embed = Callable[[Sequence[str]], Vectors]

COSINE_FLOOR = 0.999  # smallest cosine of a passage in bfloat16 to the same in float32
WORTHWHILE = 1.1  # bfloat16 must be faster by this factor
HOPELESS = 1.5  # slower than float32 by this factor on one sentence: not measured any further
ROUNDS = 2
RESULTS = "embedding-precision.json"

SENTENCES = (
    "The board approved the annual budget on 14 March and asked for a revised forecast by the end of the quarter.",
    "Participants receive 40 mg once daily for twelve weeks, followed by a washout period of at least fourteen days.",
    "The airplane struck trees about half a mile short of the runway while the pilot was flying a second approach.",
    "Total revenue rose 7.3 % to $412.6 million, mainly because of higher volumes in the northern region.",
    "If the tenant does not vacate the premises within thirty days, the landlord may apply to the court for an order.",
    "Table 4 lists every sensor with its serial number, its range in kilopascals and the date of its last calibration.",
    "We thank the reviewers, whose comments on the second experiment made the argument considerably clearer.",
    "Die Anlage darf nur von geschultem Personal geöffnet werden; vorher ist die Stromzufuhr zu unterbrechen.",
    "Requests under the Freedom of Information Act are answered in the order in which the office receives them.",
    "The catalyst lost about a fifth of its activity after 300 hours at 550 °C, and regained it when heated in air.",
    "Select Settings, then Network, and enter the address that was printed on the card that came with the device.",
    "Inspector General audits found that 61 of 88 sampled systems had no tested contingency plan in place.",
)
"""Ordinary sentences of the kinds that PDFs hold; `passages` makes texts of one to all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was found: seconds for the same passages in each precision, and the smallest cosine between them."""

    precision: ChosenPrecision
    f32_s: float
    bf16_s: float
    cosine_min: float


def passages() -> list[str]:
    """One to all of the sentences, from short text to a full passage of about 300 tokens."""
    return [" ".join(SENTENCES[start : start + count]) for start, count in ((0, 1), (3, 2), (5, 4), (2, 6), (4, 8), (0, 10), (0, 12))]


def measure(f32: Embed, bf16: Embed, clock: Callable[[], float] = time.perf_counter) -> Measurement:
    """Runs both on the same texts, in turns, best of the rounds; stops after one sentence where bfloat16 is hopeless."""
    sentence = SENTENCES[:1]
    f32_s, bf16_s = _best_of(f32, sentence, clock), _best_of(bf16, sentence, clock)
    if bf16_s > HOPELESS * f32_s:
        return Measurement(precision="f32", f32_s=f32_s, bf16_s=bf16_s, cosine_min=_cosine_min(f32(sentence), bf16(sentence)))
    texts = passages()
    cosine_min = _cosine_min(f32(texts), bf16(texts))  # also the first, uncounted round
    f32_s, bf16_s = _best_of(f32, texts, clock), _best_of(bf16, texts, clock)
    good = cosine_min >= COSINE_FLOOR and bf16_s * WORTHWHILE <= f32_s
    return Measurement(precision="bf16" if good else "f32", f32_s=f32_s, bf16_s=bf16_s, cosine_min=cosine_min)


def remembered(folder: Path, key: str) -> Measurement | None:
    """The result for this key from an earlier start, or None; an unreadable file counts as none."""
    found = _results(folder).get(key)
    try:
        return Measurement(**found) if found else None
    except TypeError:  # written by another version of docray
        return None


def remember(folder: Path, key: str, measurement: Measurement) -> None:
    """Adds a result, replacing the file whole. A folder that cannot be written costs a measurement per start, nothing else."""
    results = {**_results(folder), key: asdict(measurement)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".tmp", delete=False, encoding="utf-8") as file:
            json.dump(results, file, indent=1)
        os.replace(file.name, folder / RESULTS)
    except OSError as error:
        logger.warning("The measured precision could not be kept: %s", error, extra={"action": "remember_precision"})


def _results(folder: Path) -> dict[str, Any]:
    try:
        results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return results if isinstance(results, dict) else {}


def _best_of(embed: Embed, texts: Sequence[str], clock: Callable[[], float]) -> float:
    embed(texts)
    times = []
    for _ in range(ROUNDS):
        started = clock()
        embed(texts)
        times.append(clock() - started)
    return min(times)


def _cosine_min(left: Vectors, right: Vectors) -> float:
    return float(np.sum(left * right, axis=1).min())
