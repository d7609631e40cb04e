"""The output classes of the decoder: the CTC blank, the 39 ARPABET phonemes, and the silence between words."""

from __future__ import annotations

BLANK = "<blank>"
SILENCE = "SIL"
# fmt: off
PHONEMES = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY",
    "F", "G", "HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY",
    "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)
# fmt: on
"""ARPABET without stress marks, in alphabetical order."""
CLASSES = (BLANK, *PHONEMES, SILENCE)
"""Name of each class id: blank 0, phonemes 1..39, silence 40. The order of the Brain-to-Text '24 and '25 labels."""
