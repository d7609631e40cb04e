"""Prefix beam search over CTC emissions, without a language model, by fast-ctc-decode.

The search itself is in the library (Graves et al. 2006, section 3.2; Hannun et al. 2014): a prefix has the probability
of the paths that end in its last class and of those that end in the blank. In a frame that repeats the last class, the
first paths keep the same prefix, and only the second ones make a doubled class.
"""

from __future__ import annotations

import fast_ctc_decode
import numpy as np
from torch import Tensor

from search_spaces.errors import InputError

_FIRST = 0x100
"""The library returns text; class i is the character _FIRST + i."""


def beam_search(logits: Tensor, lengths: Tensor, width: int = 10) -> list[list[int]]:
    """The most likely labels of each utterance that a beam of `width` prefixes finds: class ids without blanks.

    `logits` [batch, frames, classes], blank first, of which the first `lengths` int64 [batch] frames of each utterance
    count. Raises InputError for NaN logits: the weights are not usable.
    """
    if width < 1:
        raise InputError(f"beam: {width} is not allowed; give 1 or more")
    probabilities = logits.float().softmax(dim=2).cpu().numpy()
    if not np.isfinite(probabilities).all():
        raise InputError("the decoder's output is NaN; its weights are not usable, choose another checkpoint")
    alphabet = [chr(_FIRST + i) for i in range(probabilities.shape[2])]
    hypotheses = []
    for emission, frames in zip(probabilities, lengths.tolist(), strict=True):
        text = ""
        if frames:
            text, _ = fast_ctc_decode.beam_search(emission[:frames], alphabet, beam_size=width, beam_cut_threshold=0.0)
        hypotheses.append([ord(character) - _FIRST for character in text])
    return hypotheses
