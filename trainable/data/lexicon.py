"""The words the synthetic speaker knows, most frequent first, with their pronunciations in ARPABET without stress."""

from __future__ import annotations

_WORDS = """
the DH AH           | to T UW             | you Y UW            | I AY                | and AE N D
it IH T             | what W AH T         | we W IY             | not N AA T          | have HH AE V
like L AY K         | can K AE N          | good G UH D         | this DH IH S        | your Y AO R
they DH EY          | just JH AH S T      | go G OW             | now N AW            | think TH IH NG K
time T AY M         | right R AY T        | well W EH L         | really R IH L IY    | people P IY P AH L
see S IY            | work W ER K         | home HH OW M        | want W AA N T       | more M AO R
need N IY D         | little L IH T AH L  | very V EH R IY      | much M AH CH        | day D EY
music M Y UW Z IH K | should SH UH D      | boy B OY            | big B IH G          | old OW L D
help HH EH L P      | feel F IY L         | water W AO T ER     | measure M EH ZH ER  | children CH IH L D R AH N
family F AE M L IY  | house HH AW S       | money M AH N IY     | never N EH V ER     | book B UH K
fish F IH SH        | change CH EY N JH   | enjoy EH N JH OY    | young Y AH NG       | mother M AH DH ER
path P AE TH        | usual Y UW ZH UW AH L | cheese CH IY Z    | shoes SH UW Z       | vision V IH ZH AH N
apple AE P AH L     | garden G AA R D AH N | window W IH N D OW | yellow Y EH L OW    | zero Z IH R OW
bath B AE TH        | hope HH OW P        | voice V OY S        | finger F IH NG G ER | dog D AO G
kitchen K IH CH AH N | jacket JH AE K AH T | push P UH SH       | thunder TH AH N D ER | bird B ER D
ship SH IH P        | town T AW N         | laugh L AE F        | cloud K L AW D      | gave G EY V
seven S EH V AH N   | doctor D AA K T ER  | pleasure P L EH ZH ER | bring B R IH NG   | spoon S P UW N
other AH DH ER      | wash W AA SH        | noise N OY Z        | magic M AE JH IH K  | early ER L IY
"""

LEXICON: dict[str, tuple[str, ...]] = {
    entry.split()[0]: tuple(entry.split()[1:]) for line in _WORDS.strip().splitlines() for entry in line.split("|")
}
"""Word -> phonemes. Each of the 39 phonemes occurs; a shorter vocabulary is a prefix."""
