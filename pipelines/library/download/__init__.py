"""Downloads: the only code of the program that talks to the network, and only where a person asked for it.

`sources.parse` reads what was typed, `look.look` asks the host what there is, and the answer, a `Plan`, is what a
person confirms; `run.download` fetches it, `lane.Lane` several at a time.
"""
