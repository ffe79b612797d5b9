"""A random history of a queue: what people tell it, minions that work on it, and what fails.

- `places`: a queue of each kind, what can be done there, and which faults it can have.
- `crowd`: minions, and what happens to them.
- `errands`: commands of people, several at once, and what each of them said.
- `ledger`: the reference: what was put, dropped and put back, by what commands said.
- `history`: draws the actions.
- `verdict`: what must be true at the end, and whenever nothing moves.
"""
